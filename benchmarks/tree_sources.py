"""What the benchmarks of trees work on: thousands of real Python files, on a tmpfs and on a disk, and git beside us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from instar.engine.files.mounts import file_system

FILES = 10_000
TMPFS = Path("/dev/shm")
_ROOM_BYTES = 4 << 30


class Base(NamedTuple):
    """A place to measure in."""

    name: str
    """``tmpfs`` or ``disk``."""
    folder: Path


def has_git() -> bool:
    """Says whether git is installed; if not, says on the console what is skipped."""
    if shutil.which("git"):
        return True
    print("git is not installed: the benchmarks of trees are skipped")
    return False


def bases() -> list[Base]:
    """Gives a tmpfs, where one with room is mounted, and a folder of a disk."""
    found = []
    if file_system(TMPFS) == "tmpfs" and shutil.disk_usage(TMPFS).free > _ROOM_BYTES:
        found.append(Base("tmpfs", TMPFS))
    for folder in (Path(tempfile.gettempdir()), Path(__file__).parent):
        if file_system(folder) not in ("tmpfs", "ramfs"):
            return [*found, Base("disk", folder)]
    return found


@contextmanager
def fresh(base: Base) -> Iterator[Path]:
    """Gives a new folder of a base for the time of a ``with``."""
    with tempfile.TemporaryDirectory(prefix="instar-bench-", dir=base.folder) as name:
        yield Path(name).resolve()


def settle() -> None:
    """Has everything written out, as the files of a workspace are that were not changed for a minute."""
    os.sync()
    time.sleep(0.5)


@lru_cache(maxsize=1)
def chosen(count: int = FILES) -> tuple[tuple[Path, str], ...]:
    """Chooses real ``.py`` files of this environment, spread over all of its packages; the same at every call.

    Returns:
        Each file, and the path that it gets. Where there are too few, the same come again below a numbered folder.
    """
    homes = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    found: dict[str, Path] = {}
    for home in homes:
        for path in home.rglob("*.py"):
            relative = path.relative_to(home)
            if "site-packages" not in relative.parts and path.is_file() and not path.is_symlink():
                found.setdefault(f"{home.name}/{relative.as_posix()}", path)
    order = sorted(found, key=lambda relative: sha256(relative.encode()).digest())
    rounds = -(-count // len(order))
    taken = [(found[each], f"{turn}/{each}" if turn else each) for turn in range(rounds) for each in order][:count]
    return tuple(sorted(taken, key=lambda pair: pair[1]))


def build(folder: Path, count: int = FILES) -> list[Path]:
    """Copies the chosen files into a folder; gives their paths, sorted, in the same order at every call."""
    made: set[Path] = set()
    paths = []
    for source, relative in chosen(count):
        target = folder / relative
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        shutil.copyfile(source, target)
        paths.append(target)
    return paths


def size_of(folder: Path) -> int:
    """Adds up the bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def git(folder: Path, *command: str) -> str:
    """Runs git in a folder, as it comes, with an identity of its own and without a gc by itself; gives its output."""
    identity = ["-c", "user.name=b", "-c", "user.email=b@localhost", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]
    environ = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    ran = subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True, env=environ)
    return ran.stdout.decode("utf-8", "replace")


def edit(paths: list[Path], count: int, number: int) -> None:
    """Adds a line with a number to the first ``count`` files."""
    for path in paths[:count]:
        with path.open("ab") as file:
            file.write(b"# %d\n" % number)


def edit_spread(paths: list[Path], count: int, number: int) -> list[Path]:
    """Adds a line with a number to ``count`` files that are spread evenly over all; gives their paths."""
    step = max(1, len(paths) // count)
    touched = paths[number % step :: step][:count]
    edit(touched, count, number)
    return touched
