"""Real folders for the tests of capture and restore, and how to look at them without the code under test."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from instar.engine.trees.capture import Capture
from instar.engine.trees.ignore import Ignore
from instar.engine.trees.stat_cache import StatCache
from instar.fsm.errors import BlobMissing
from instar.fsm.words import Digest, digest_of
from instar.store.ports import BlobIntake
from instar.store.trees import Tree
from tests.store.memory_blobs import OneByOne

Leaf = tuple[str, int, bytes]  # kind, permission bits, content or target
Wanted = dict[bytes, Leaf | None]  # None: an empty folder


class FolderBlobs(OneByOne):
    """Blobs that a second process can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        (self.folder / digest).write_bytes(content)
        return digest

    def get(self, digest: Digest) -> bytes:
        try:
            return (self.folder / digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(f"no blob {digest}") from None

    def has(self, digest: Digest) -> bool:
        return (self.folder / digest).exists()


class WaitingBlobs(FolderBlobs):
    """Blobs of which the new ones wait for an append, as the real store's do: a process that dies loses them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.waiting: dict[Digest, bytes] = {}

    def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        if not super().has(digest):
            self.waiting[digest] = content
        return digest

    def get(self, digest: Digest) -> bytes:
        return self.waiting[digest] if digest in self.waiting else super().get(digest)

    def has(self, digest: Digest) -> bool:
        return digest in self.waiting or super().has(digest)

    def append(self) -> None:
        for content in self.waiting.values():
            super().put(content)
        self.waiting.clear()


def scan(root: Path, blobs: BlobIntake, *, cap_bytes: int = 10 << 20, patterns: tuple[str, ...] = ()) -> Tree:
    home = root / ".instar"
    home.mkdir(exist_ok=True)
    capture = Capture(root, blobs, Ignore(patterns), cap_bytes, cache=StatCache(home / "stat-cache"))
    tree = capture.scan()
    capture.save()
    return tree


def at(root: Path, path: bytes) -> Path:
    return root / os.fsdecode(path)


def build(root: Path, wanted: Wanted) -> None:
    """Brings a folder to hold exactly this; whatever else is in it is removed, ``.instar`` excepted."""
    clear(root)
    for path, leaf in sorted(wanted.items()):
        place = at(root, path)
        put_leaf(place, leaf)


def put_leaf(place: Path, leaf: Leaf | None) -> None:
    """Writes a file, a link or (None) an empty folder where nothing stands."""
    (place if leaf is None else place.parent).mkdir(parents=True, exist_ok=True)
    if leaf is None:
        return
    kind, mode, content = leaf
    if kind == "link":
        place.symlink_to(os.fsdecode(content))
    else:
        place.write_bytes(content)
        place.chmod(mode)


def clear(root: Path) -> None:
    for place in root.iterdir():
        if place.name == ".instar":
            continue
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()


def look(root: Path) -> Wanted:
    """Says what a folder holds: every file and link, and every folder that is empty."""
    found: Wanted = {}
    below = [place for place in root.iterdir() if place.name != ".instar"]
    while below:
        place = below.pop()
        path = os.fsencode(place.relative_to(root))
        if place.is_symlink():
            found[path] = ("link", 0o777, os.fsencode(place.readlink()))
        elif place.is_dir():
            inside = list(place.iterdir())
            below += inside
            if not inside:
                found[path] = None
        else:
            found[path] = ("file", stat.S_IMODE(place.stat().st_mode), place.read_bytes())
    return found


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter and read, whatever the umask; pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o777)
        umask = os.umask(0o022)
        try:
            yield root
        finally:
            os.umask(umask)
            for place in root.iterdir():
                if place.is_dir():
                    place.chmod(0o700)


def as_nobody(folder: Path, script: str) -> str:
    """Runs a script as a user who may not read everything, in ``folder``; returns what it prints."""
    whole = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from instar.engine.restoring import restore\n"
        "from instar.fsm.errors import InstarError\n"
        "from tests.engine.workspaces import scan\n"
        "from tests.store.memory_blobs import MemoryBlobs\n"
        "root = Path(sys.argv[1])\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
    )
    command = [sys.executable, "-c", whole + script, str(folder)]
    return subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    ).stdout


_names = st.sampled_from([b"a", b"b", b"mod.py", b"100%", b"\xff\xfe", "é".encode(), b"with space", b"%41"])
_modes = st.sampled_from([0o644, 0o600, 0o755, 0o444, 0o400])
_files = st.tuples(st.just("file"), _modes, st.sampled_from([b"", b"\0\xff"]) | st.binary())
_links = st.tuples(st.just("link"), st.just(0o777), st.sampled_from([b"mod.py", b"../../etc/passwd", b"nowhere/\xff"]))
_leaves = st.none() | _files | _files | _links


def _consistent(drawn: dict[tuple[bytes, ...], Leaf | None]) -> Wanted:
    """Drops what lies below a file, a link or a folder that is to be empty."""
    return {
        b"/".join(parts): leaf
        for parts, leaf in drawn.items()
        if not any(parts[:depth] in drawn for depth in range(1, len(parts)))
    }


workspaces = st.dictionaries(st.lists(_names, min_size=1, max_size=3).map(tuple), _leaves, max_size=8).map(_consistent)
