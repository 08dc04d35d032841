"""kill -9 at random moments, again and again, while several processes of several threads append."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from instar.engine.integrity import check
from instar.store.log import EventLog, create_log
from instar.store.trees import Tree, write_tree
from tests.crash.appenders import THREADS, acks_in
from tests.engine.agents import PROJECT
from tests.store.logs import INIT

SLOTS = 4


@dataclass(frozen=True)
class Survived:
    """What was acknowledged before the kills and is recorded after them."""

    acknowledged: int
    recorded: int
    blobs: int
    duration_s: float


def killed_again_and_again(folder: Path, kills: int, seed: int) -> Survived:
    """Appends in processes that are killed at random; every append that was cut off is asked for again."""
    path, notes = folder / "log.db", folder / "notes"
    notes.mkdir()
    create_log(path)
    log = EventLog(path)
    log.append(replace(INIT, tree=write_tree(log.blobs, Tree(files={}))))
    log.close()
    began = time.perf_counter()
    command = [sys.executable, "-m", "tests.crash.appenders", "nursery", str(path), str(notes)]
    subprocess.run([*command, str(SLOTS), str(kills), str(seed)], cwd=PROJECT, check=True, timeout=1800)
    duration_s = time.perf_counter() - began

    log = EventLog(path)
    found = check(log.reader)
    assert not found.problems, found.problems[:5]
    records = list(log.reader.read(2))
    assert [record.seq for record in records] == list(range(2, log.reader.head() + 1))
    by_seq = {int(record.seq): record for record in records}
    numbers: dict[str, list[int]] = defaultdict(list)
    for record in records:
        assert record.key is not None
        name, _, number = record.key.rpartition(" ")
        numbers[name].append(int(number))
    for name, recorded in numbers.items():  # none lost, none twice, in the order in which they were asked for
        assert recorded == list(range(len(recorded))), name
    acknowledged = 0
    for slot in range(SLOTS):
        for thread in range(THREADS):
            name = f"{slot}.{thread}"
            for ack in acks_in(notes / name):
                record = by_seq[ack.seq]
                assert (record.hash, record.key) == (ack.hash, f"{name} {ack.number}"), (
                    f"{ack} was acknowledged and lost"
                )
                acknowledged += 1
    log.close()
    return Survived(acknowledged, len(records), found.blobs, duration_s)


def test_acknowledged_appends_survive_kills(tmp_path: Path) -> None:
    survived = killed_again_and_again(tmp_path, kills=12, seed=1)
    assert 0 < survived.acknowledged <= survived.recorded
    assert survived.blobs > 1


@pytest.mark.torture
def test_acknowledged_appends_survive_a_thousand_kills(tmp_path: Path) -> None:
    survived = killed_again_and_again(tmp_path, kills=1000, seed=7)
    print(
        f"\n1,000 kills of {SLOTS} processes × {THREADS} threads in {survived.duration_s:.0f} s: "
        f"{survived.acknowledged} appends acknowledged, {survived.recorded} recorded, 0 lost, 0 twice, the chain whole"
    )
