"""What stands in a folder that somebody made difficult; looked at without opening what may not be opened."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

Seen = dict[bytes, tuple[int, bytes]]
"""By path: the whole mode, and a hash (a file's), a target (a link's) or nothing."""

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def everything(root: Path) -> Seen:
    """Says what stands below a root, by descriptors: a path may be longer than the system takes in one piece."""
    found: Seen = {}
    with opened(root) as fd:
        _below(fd, b"", found)
    return found


def _below(fd: int, prefix: bytes, found: Seen) -> None:
    for name in map(os.fsencode, os.listdir(fd)):
        path = prefix + name
        if path == b".instar":
            continue
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        content = b""
        if stat.S_ISLNK(mode):
            content = os.readlink(name, dir_fd=fd)
        elif stat.S_ISREG(mode):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
            with open(file, "rb") as readable:  # noqa: PTH123 - a descriptor
                content = sha256(readable.read()).digest()
        elif stat.S_ISDIR(mode):
            below = os.open(name, OPEN_FOLDER, dir_fd=fd)
            try:
                _below(below, path + b"/", found)
            finally:
                os.close(below)
            mode = stat.S_IFDIR  # the rights of folders are not part of a tree
        found[path] = mode, content


@contextmanager
def opened(root: Path, names: Sequence[bytes] = (), *, make: bool = False) -> Iterator[int]:
    """Opens a folder by its names, one after the other, for the time of a ``with``."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
            below = os.open(name, OPEN_FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def deep(root: Path, names: Sequence[bytes], content: bytes) -> None:
    """Writes a file ``x`` at the end of a chain of folders."""
    with opened(root, names, make=True) as fd:
        file = os.open("x", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=fd)
        os.write(file, content)
        os.close(file)


def odd_things(root: Path, outside: Path) -> None:
    """Puts into a folder what no rollback may follow, open or remove."""
    (root / "out").symlink_to(outside)
    (root / "out-file").symlink_to(outside / "theirs.txt")
    (root / "up").symlink_to("../..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(root)  # a socket's path may have 107 bytes
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
    if os.geteuid() == 0:
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (root / ".env").write_text("SECRET=1\n")
    (root / "big.bin").write_bytes(b"x" * 11_000_000)
