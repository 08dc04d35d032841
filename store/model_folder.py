"""Checkpoints as folders: written whole or not at all, and swapped by one symbolic link."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath

from instar.fsm.errors import BlobCorrupt, BlobMissing, ConfigError
from instar.fsm.words import Digest

from .durable import sync_folder
from .lock import FileLock
from .manifest import Manifest, PlainFile, TensorFile, read_manifest
from .ports import Blobs
from .tensor_content import tensor_bytes

logger = logging.getLogger("instar.store")


def materialize(blobs: Blobs, digest: Digest, parent: Path, *, verify: bool = False) -> Path:
    """Writes a checkpoint as the folder ``parent/digest``, whole or not at all, and returns it.

    An existing folder is kept if its names and sizes are right (``verify``: its hashes), else replaced, with a warning
    where its bytes were altered.

    Raises:
        BlobMissing: a part of it is not in the store.
        BlobCorrupt: a part of it is damaged; nothing was written.
    """
    manifest = read_manifest(blobs, digest)
    target = parent / digest
    parent.mkdir(exist_ok=True)
    with FileLock(parent / ".lock").held():
        if _stands(target, manifest, verify=verify):
            return target
        for leftover in parent.glob(".*.partial"):  # of a process that died: the lock is ours
            shutil.rmtree(leftover, ignore_errors=True)
        staged = Path(tempfile.mkdtemp(dir=parent, prefix=f".{digest[:12]}.", suffix=".partial"))
        try:
            staged.chmod(0o755)
            for file in manifest.files:
                _write_file(blobs, staged, file, digest)
            for folder, _, _ in os.walk(staged, topdown=False):
                sync_folder(Path(folder))
            if target.exists() or target.is_symlink():
                logger.warning("%s was altered: it was written anew from the store", target)
                target.rename(parent / f".{digest[:12]}.{os.getpid()}.replaced.partial")
            staged.rename(target)
            sync_folder(parent)
        finally:
            for leftover in parent.glob(".*.partial"):
                shutil.rmtree(leftover, ignore_errors=True)
    return target


def altered_folders(blobs: Blobs, parent: Path) -> list[Path]:
    """Finds the checkpoints below a folder that are not, byte for byte, what the store holds; others are no matter."""
    found = []
    for folder in sorted(parent.glob("[0-9a-f]*")):
        with suppress(BlobMissing, BlobCorrupt, ValueError):  # collected, or no checkpoint
            manifest = read_manifest(blobs, Digest(folder.name))
            if not _stands(folder, manifest, verify=True):
                found.append(folder)
    return found


def hash_folder(folder: Path) -> dict[str, Digest]:
    """Hashes every file of a folder: relative POSIX path → sha256."""
    hashes = {}
    for path in walk_files(folder):
        with (folder / path).open("rb") as file:
            hashes[path.as_posix()] = Digest(file_digest(file, "sha256").hexdigest())
    return hashes


def activate(link: Path, folder: Path) -> None:
    """Points a relative symbolic link at a checkpoint's folder; a reader sees the old one or the new one.

    Raises:
        ConfigError: the folder is not there, or something that is no link stands in the link's place.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no checkpoint folder at {folder}: materialize it first")
    if link.exists() and not link.is_symlink():
        raise ConfigError(f"{link} is no symbolic link and was left as it is: move it away, then try again")
    link.parent.mkdir(parents=True, exist_ok=True)
    staged = link.with_name(f".{link.name}.{os.getpid()}.new")
    staged.unlink(missing_ok=True)
    staged.symlink_to(os.path.relpath(folder.resolve(), link.parent.resolve()))
    staged.replace(link)
    sync_folder(link.parent)


def walk_files(folder: Path, skipped: Collection[str] = ()) -> list[PurePosixPath]:
    """Lists regular files; links to files count (the hub's cache is made of them), links to folders do not."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in skipped]
        paths = (Path(place) / name for name in names)
        found += [PurePosixPath(path.relative_to(folder).as_posix()) for path in paths if path.is_file()]
    return sorted(found)


def _write_file(blobs: Blobs, folder: Path, file: PlainFile | TensorFile, checkpoint: Digest) -> None:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = sha256()
    with target.open("xb") as out:
        for content in _contents(blobs, file):
            whole.update(content)
            out.write(content)
        out.flush()
        os.fsync(out.fileno())
    if whole.hexdigest() != file.sha256:
        raise BlobCorrupt(f"{file.path} of checkpoint {checkpoint} does not hash to what its manifest says")


def _contents(blobs: Blobs, file: PlainFile | TensorFile) -> Iterator[bytes]:
    if isinstance(file, PlainFile):
        yield blobs.get(file.sha256)
        return
    yield blobs.get(file.header)
    for tensor in file.tensors:
        yield tensor_bytes(blobs, tensor)


def _stands(folder: Path, manifest: Manifest, *, verify: bool) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    sizes = {path.as_posix(): (folder / path).stat().st_size for path in walk_files(folder)}
    if sizes != {file.path: file.size for file in manifest.files}:
        return False
    return not verify or hash_folder(folder) == {file.path: file.sha256 for file in manifest.files}
