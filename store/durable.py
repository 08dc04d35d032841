"""Files and folders that are on the disk when a call returns, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from .failpoints import failpoint


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Writes a file beside its place, syncs it and renames it there; what stood there stays whole until then."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    staged = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        failpoint("durable.written")
        staged.replace(path)
        failpoint("durable.named")
    except BaseException:
        with suppress(OSError):
            staged.unlink()
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and what is missing above it, each name durable in the folder that holds it."""
    missing = [above for above in (folder, *folder.parents) if not above.is_dir()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def make_below(folder: Path, root: Path) -> None:
    """Makes a folder and what is missing between it and ``root``, which must be there: what is gone is not made anew.

    Raises:
        OSError: ``root`` is gone, or a folder cannot be made.
    """
    for path in reversed((folder, *folder.parents)):
        if path != root and path.is_relative_to(root):
            path.mkdir(exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
