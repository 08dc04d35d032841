"""An editor that writes version after version of its files, and says which of them it found gone.

A version that the editor itself wrote over is nobody's loss. One that is no longer there when the editor comes back was
taken away by somebody else: whoever did has to have kept it. ``exchange`` tells exactly what a renaming editor wrote
over; an editor in place looks at what it has open before it writes to that same open file.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from instar.engine.files.beneath import exchange, rename_noreplace

NAMES = ("a.py", "pkg/b.py", "pkg/deep/c.txt", "d.txt")
BYTES = 3000


def content(name: str, number: int) -> bytes:
    """Every version of every file is unique, and all are of one size."""
    line = f"{name} version {number:08} "
    return (line * (BYTES // len(line) + 1))[:BYTES].encode()


class Editor:
    """Writes below ``root``, and its report: a line for each version that was taken away, and for the last ones."""

    def __init__(self, root: Path, report: Path, pause_s: float) -> None:
        self.root, self.pause_s = root, pause_s
        self.report = report.open("w", buffering=1)
        self.new = report.with_suffix(".new")
        self.last: dict[str, bytes] = {}
        self.written = 0

    def run(self, how: str, stop: Path) -> None:
        """Writes until a file appears."""
        number = 0
        while not stop.exists():
            number += 1
            name = NAMES[number % len(NAMES)]
            place = self.root / name
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                found = self.by_rename(place, content(name, number)) if how == "rename" else None
                found = self.in_place(place, content(name, number)) if how == "place" else found
            except OSError:  # the folder was taken away, or came back as something else: an editor tries again
                continue
            if name in self.last and found != self.last[name]:
                self.claim(self.last[name])
            self.last[name] = content(name, number)
            self.written += 1
            time.sleep(self.pause_s)
        for version in self.last.values():
            self.claim(version)
        self.report.write(f"written {self.written}\n")
        self.report.close()

    def claim(self, version: bytes) -> None:
        """Says that a version was completely written and that this editor did not write over it."""
        self.report.write(f"claim {version[: version.index(b' version') + 17].decode()}\n")

    def by_rename(self, place: Path, version: bytes) -> bytes | None:
        """Writes beside the tree and moves the file in; gives what it took the place of."""
        self.new.write_bytes(version)
        with OpenFolder(self.new.parent) as here, OpenFolder(place.parent) as there:
            try:
                exchange(here, os.fsencode(self.new.name), there, os.fsencode(place.name))
                return self.new.read_bytes()
            except FileNotFoundError:
                rename_noreplace(here, os.fsencode(self.new.name), there, os.fsencode(place.name))
                return None

    def in_place(self, place: Path, version: bytes) -> bytes:
        """Opens a file, reads what it is about to write over, and writes to what it has open."""
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            found = os.read(fd, 2 * BYTES)
            os.pwrite(fd, version, 0)
            os.ftruncate(fd, len(version))
            return found
        finally:
            os.close(fd)


class OpenFolder:
    """A folder's descriptor for the time of a ``with``."""

    def __init__(self, folder: Path) -> None:
        self.fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


if __name__ == "__main__":
    root_of, report_at, way, stop_at, pause = sys.argv[1:]
    Editor(Path(root_of), Path(report_at), float(pause)).run(way, Path(stop_at))
