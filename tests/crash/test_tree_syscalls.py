"""kill -9 before every system call that changes a folder: the tree is wholly the old or wholly the new one."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.crash.forked import Forked
from tests.crash.syscalls import why_not
from tests.crash.tree_scenes import MEMORY, SCENES, Scene, rolling_back, spread

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@dataclass
class Kills:
    """What was killed, and what became of it."""

    at: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    unreached: int = 0

    def __str__(self) -> str:
        places = ", ".join(f"{name} {count}" for name, count in self.at.most_common())
        outcomes = ", ".join(f"{count} wholly {name}" for name, count in sorted(self.outcomes.items()))
        return f"{self.at.total()} kills ({places}): {outcomes}, 0 mixed; {self.unreached} calls not reached again"


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked() as server:
        yield server


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder in memory: a process is killed here, not a machine."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        yield Path(place)


def kill_everywhere(scene: Scene, forked: Forked, root: Path, *, every: int = 1, back: bool = True) -> Kills:
    """Kills the scene's command before each of its calls that changes something, and looks at what follows."""
    kills = Kills()
    for site in spread(scene.sites(forked, root), every):
        scene.copy(root)
        ended = scene.run(forked, root, f"{site.name}:signal=SIGKILL:when={site.number}")
        assert ended.code in (-9, 0), f"{site}: {ended.said}"
        kills.unreached += ended.code == 0
        try:
            assert not scene.half_way(root)
            outcome = scene.outcome(forked, root)
            if back:
                scene.there_and_back(forked, root, outcome)
        except Exception as error:
            raise AssertionError(f"{scene.name}, killed before {site}: {error}") from error
        if ended.code:
            kills.at[site.name] += 1
            kills.outcomes[outcome] += 1
        shutil.rmtree(root)
    return kills


def test_rollback_killed_at_a_call_of_each_kind_is_wholly_old_or_wholly_new(forked: Forked, folder: Path) -> None:
    kills = kill_everywhere(rolling_back(folder, forked), forked, folder / "tried", every=60, back=False)
    assert set(kills.outcomes) == {"old", "new"}
    assert kills.unreached == 0


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_killed_before_every_call_is_wholly_old_or_wholly_new(
    scene: Callable[[Path, Forked], Scene], forked: Forked, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        prepared = scene(Path(place), forked)
        kills = kill_everywhere(prepared, forked, Path(place) / "tried")
    assert kills.unreached <= kills.at.total() // 50, kills
    print(f"\n{prepared.name}: {kills}")
