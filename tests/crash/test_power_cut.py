"""A power cut at any moment, in any state that the disk may then be in: nothing acknowledged is lost.

The production code is recorded as it runs; every crash state that its writes and syncs allow is opened by that code
again. Each kind of sync is then taken away, and the same suite has to see the loss.
"""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from instar.store.reader import LogReader
from tests.crash import power_workload, syscalls
from tests.crash.disk import Disk
from tests.crash.power import Verdict, cut_everywhere, play, recorded
from tests.crash.probes import Acknowledged, Found, look
from tests.crash.syscalls import Call

pytestmark = pytest.mark.skipif(bool(syscalls.why_not()), reason=syscalls.why_not())

SHORT = ("begin", "singles", "checkpoint", "small_blob", "large_blob")
LONG = (
    *("begin", "singles", "batch", "checkpoint", "small_blob", "large_blob", "threads", "reopen", "second_large_blob"),
    *("batch", "checkpoint", "threads", "snapshot", "checkpoint", "singles", "reopen"),
)
OLDER = Path(__file__).parent.parent / "golden" / "schema_0001.db"
NEEDED = [
    "file *-wal",
    "file log.db",
    "folder of the log",
    "folder of the workspace",
    "blob file",
    "blobs/",
    "blobs/xx/",
]
"""Every kind of sync that keeps a promise."""


@dataclass
class Recording:
    """What one run of the workload did below its root."""

    root: Path
    calls: list[Call]
    seen: dict[bytes, Found] = field(default_factory=dict)

    def cut(self, *, without: str = "", randoms: int = 0, seed: int = 1, first_only: bool = False) -> Verdict:
        disk = Disk(self.root, [without] if without else [])
        return cut_everywhere(self.calls, disk, randoms=randoms, seed=seed, first_only=first_only, seen=self.seen)


def recording(root: Path, *parts: str) -> Recording:
    root.mkdir()
    return Recording(root, recorded(root, *parts))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return recording(tmp_path_factory.mktemp("power") / "short", *SHORT)


def test_recorder_rebuilds_every_file_byte_for_byte(short: Recording) -> None:
    live = play(short.calls, Disk(short.root)).live()
    real = {
        str(path.relative_to(short.root)): path.read_bytes()
        for path in short.root.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }
    assert {path: content for path, content in live.items() if not path.endswith("/")} == real


def test_power_cut_loses_nothing_that_was_acknowledged(short: Recording) -> None:
    verdict = short.cut(randoms=1)
    assert not verdict.losses, verdict.losses[:5]
    assert verdict.different > 100
    assert verdict.events_max == 8


@pytest.mark.parametrize("kind", NEEDED)
def test_loss_is_seen_when_a_sync_is_taken_away(short: Recording, kind: str) -> None:
    verdict = short.cut(without=kind, randoms=1, first_only=True)
    assert verdict.syncs[kind]
    assert verdict.losses


def test_loss_is_seen_with_synchronous_normal(tmp_path: Path) -> None:
    assert recording(tmp_path / "weak", "weakly", *SHORT).cut(first_only=True).losses


def upgrade(folder: Path, *, randoms: int, every: int) -> Verdict:
    """Cuts the power while a log of the first schema is brought to the present one."""
    root = folder / "old"
    path = root / power_workload.HOME / "log.db"
    path.parent.mkdir(parents=True)
    shutil.copyfile(OLDER, path)
    disk = Disk(root)
    disk.hold(disk.top, root)
    reader = LogReader(path)
    held: Acknowledged = {record.seq: record.hash for record in reader.read()}
    reader.close()
    calls = recorded(root, "singles")
    known = look(path).problems  # its blobs were never kept
    return cut_everywhere(calls, disk, randoms=randoms, every=every, acknowledged=held, known=known)


def test_power_cut_in_an_upgrade_loses_nothing(tmp_path: Path) -> None:
    verdict = upgrade(tmp_path, randoms=0, every=5)
    assert not verdict.losses, verdict.losses[:5]


def test_large_blob_of_a_killed_process_is_durable_before_another_names_it(tmp_path: Path) -> None:
    """The file has its name, the folder is not synced yet; the next process finds it there."""
    root = tmp_path / "shared"
    first = recording(root, "begin")
    killed = recorded(root, "die_naming_a_large_blob", exit_code=-signal.SIGKILL)
    assert [path for path in (root / power_workload.HOME / "blobs").glob("??/*") if not path.name.startswith(".")]
    disk = play(killed, play(first.calls, Disk(root)))
    verdict = cut_everywhere(recorded(root, "large_blob"), disk, randoms=1)
    assert verdict.points > 1
    assert not verdict.losses, verdict.losses[:5]


@pytest.mark.torture
def test_power_cut_at_every_moment_of_a_long_run(tmp_path: Path) -> None:
    whole = recording(tmp_path / "long", *LONG)
    for seed in (1, 2):
        verdict = whole.cut(randoms=6, seed=seed)
        print(f"\npower cut, seed {seed}: {verdict}")
        assert not verdict.losses, verdict.losses[:5]
    upgraded = upgrade(tmp_path, randoms=4, every=1)
    print(f"power cut in an upgrade: {upgraded}")
    assert not upgraded.losses, upgraded.losses[:5]


@pytest.mark.torture
def test_losses_are_counted_for_each_sync_taken_away(short: Recording, tmp_path: Path) -> None:
    for kind in NEEDED:
        verdict = short.cut(without=kind, randoms=2)
        print(f"\nwithout the sync of {kind}: {verdict.states} states, {len(verdict.losses)} with a loss", end="")
        assert verdict.losses, kind
    weak = recording(tmp_path / "weak", "weakly", *SHORT).cut(randoms=2)
    print(f"\nwith synchronous=NORMAL: {weak.states} states, {len(weak.losses)} with a loss")
    assert weak.losses
