"""EIO, ENOSPC and EACCES at every system call that changes a folder: a clear error, nothing lost, and a way on."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.crash.forked import Ended, Forked, Site
from tests.crash.syscalls import why_not
from tests.crash.tree_scenes import MEMORY, SCENES, Scene, rolling_back, spread

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

ERRORS = ("EIO", "ENOSPC", "EACCES")
ONCE, FROM_THEN_ON = "", "+"
BORNE = (
    *("stat-cache", "log.db", ".lock", "rmdir", "AT_REMOVEDIR", "rename(", "unlink("),
    *("sync_file_range(", "fdatasync("),
)
"""Calls whose failure may be borne in silence: a cache is disposable, SQLite ends the rest when it is next opened (and
says nothing of a folder that it could not sync), an early start of writing is a hint, an emptied folder may be left.
What the log says afterwards answers for all of them."""
NO_CACHE = "the stat cache was not saved"


@dataclass
class Faults:
    """What was made to fail, and how it ended."""

    at: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    def add(self, other: Faults) -> None:
        """Takes in what was made to fail elsewhere."""
        for mine, theirs in ((self.at, other.at), (self.errors, other.errors), (self.ends, other.ends)):
            mine.update(theirs)

    def __str__(self) -> str:
        places = ", ".join(f"{name} {count}" for name, count in self.at.most_common())
        errors = ", ".join(f"{name} {count}" for name, count in sorted(self.errors.items()))
        ends = ", ".join(f"{count} {name}" for name, count in sorted(self.ends.items()))
        return f"{self.at.total()} faults ({errors}; {places}): {ends}; nothing lost"


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked() as server:
        yield server


@pytest.fixture(scope="module")
def servers(forked: Forked) -> Iterator[tuple[Forked, ...]]:
    with Forked() as second:
        yield forked, second


def fail_everywhere(
    scene: Scene, forked: Forked, root: Path, faults: Iterable[tuple[Site, str, str]], *, back: int
) -> Faults:
    """Lets one call fail, or it and all of its kind after it; then the next command runs without a fault.

    Args:
        scene: what is run.
        forked: where.
        root: where the scene's workspace is copied to.
        faults: each a call, an error and whether it lasts.
        back: after each of so many faults, the way to the new tree and back to the old one is gone as well.
    """
    counted = Faults()
    for number, (site, error, lasting) in enumerate(faults, 1):
        scene.copy(root)
        ended = scene.run(forked, root, f"{site.name}:error={error}:when={site.number}{lasting}")
        try:
            _told_clearly(ended, mute=lasting == FROM_THEN_ON and site.name == "write")
            assert not scene.half_way(root)
            outcome = scene.outcome(forked, root)
            assert ended.code != 0 or outcome == "new", "it was said to be done and is not"
            # A slow run may make one call more before it, and another fails then: of a cache it is told, and goes on.
            borne = NO_CACHE in ended.said or any(one in site.what for one in BORNE)
            assert ended.code != 0 or borne, "nobody was told"
            if number % back == 0:
                scene.there_and_back(forked, root, outcome)
        except Exception as problem:
            said = f"{scene.name}, {error}{lasting} at {site}, said {ended}: {problem}"
            raise AssertionError(said) from problem
        counted.at[site.name] += 1
        counted.errors[error] += 1
        counted.ends[f"{'done in spite of it' if ended.code == 0 else 'told'}, then wholly {outcome}"] += 1
        shutil.rmtree(root)
    return counted


def fail_side_by_side(
    scene: Scene, servers: Sequence[Forked], folder: Path, faults: Sequence[tuple[Site, str, str]], *, back: int
) -> Faults:
    """As ``fail_everywhere``, by several servers at once: most of the time of each goes by in waiting for a child."""

    def part(number: int) -> Faults:
        mine = faults[number :: len(servers)]
        return fail_everywhere(scene, servers[number], folder / f"tried{number}", mine, back=back)

    counted = Faults()
    with ThreadPoolExecutor(len(servers)) as threads:
        for one in threads.map(part, range(len(servers))):
            counted.add(one)
    return counted


def differing(sites: Iterable[Site]) -> list[Site]:
    """Leaves out what lies within a run of the same call on the same file, as when SQLite writes the pages of a commit.

    The first and the last of each run stay: between the others nothing else happened.
    """
    kept: list[Site] = []
    for _, run in itertools.groupby(sites, lambda site: (site.name, _file(site))):
        first, *others = run
        kept += [first, *others[-1:]]
    return kept


def _file(site: Site) -> str:
    found = re.search(r"\((\d+<[^>]*>)", site.what)
    return found[1] if found else site.what


def _told_clearly(ended: Ended, *, mute: bool) -> None:
    """An error is one sentence of ours, with an exit code that the documentation names; no bug's traceback.

    ``mute``: nothing can be written any more, so nothing can be said.
    """
    assert ended.code in (0, 1, 2, 3, 4)
    assert "Traceback" not in ended.said
    assert "This should not happen" not in ended.said
    assert ended.code == 0 or mute or ended.said.splitlines()[-1].startswith("instar: ")


def test_call_of_each_kind_that_fails_is_told_and_loses_nothing(forked: Forked, tmp_path: Path) -> None:
    scene = rolling_back(tmp_path, forked)
    root = tmp_path / "tried"
    chosen = spread(scene.sites(forked, root), 1000)
    faults = [(site, error, ONCE) for site, error in zip(chosen, itertools.cycle(ERRORS), strict=False)]
    counted = fail_everywhere(scene, forked, root, faults, back=1000)
    assert set(counted.errors) == set(ERRORS)
    assert any(end.startswith("told") for end in counted.ends)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lasting", [ONCE, FROM_THEN_ON], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_every_call_that_fails_is_told_and_loses_nothing(
    scene: Callable[[Path, Forked], Scene], error: str, lasting: str, servers: tuple[Forked, ...]
) -> None:
    """Each error at each call; then, as on a disk that stays full, at each call and at all of its kind after it."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        prepared = scene(Path(place), servers[0])
        sites = differing(prepared.sites(servers[0], Path(place) / "tried"))
        faults = [(site, error, lasting) for site in sites]
        counted = fail_side_by_side(prepared, servers, Path(place), faults, back=8)
    assert counted.at.total() == len(sites)
    print(f"\n{prepared.name}: {counted}")


def test_calls_that_differ_are_the_ends_of_each_run() -> None:
    names = ["1<wal>"] * 4 + ["2<db>"] + ["1<wal>"] * 2
    sites = [Site("pwrite64", number, f'7 pwrite64({name}, "", 1, 0)') for number, name in enumerate(names, 1)]
    sites.insert(2, Site("fsync", 1, "7 fsync(1<wal>) = 0"))
    assert [site.number for site in differing(sites)] == [1, 2, 1, 3, 4, 5, 6, 7]
    assert [site.number for site in differing(sites[3:5] + sites[3:5])] == [3, 4]
