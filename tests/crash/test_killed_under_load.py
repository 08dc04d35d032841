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

from instar.engine.keeping.integrity import check
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
    subprocess.run([*command, str(SLOTS), str(kills), str(seed), "1"], cwd=PROJECT, check=True, timeout=1800)
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


def killed_while_they_share_commits(folder: Path, kills: int, seed: int) -> Survived:
    """Appends without keys, so that processes record each other's events; each counts from 0 until it is killed."""
    path, notes = folder / "log.db", folder / "notes"
    notes.mkdir()
    create_log(path)
    log = EventLog(path)
    log.append(replace(INIT, tree=write_tree(log.blobs, Tree(files={}))))
    began = time.perf_counter()
    command = [sys.executable, "-m", "tests.crash.appenders", "nursery", str(path), str(notes)]
    subprocess.run([*command, str(SLOTS), str(kills), str(seed), "0"], cwd=PROJECT, check=True, timeout=1800)
    duration_s = time.perf_counter() - began

    found = check(log.reader)
    assert not found.problems, found.problems[:5]
    numbers: dict[str, list[int]] = defaultdict(list)
    by_seq = {}
    for record in log.reader.read(2):
        by_seq[int(record.seq)] = record
        if record.key is None:
            numbers[record.event.task_type].append(int(record.event.input.split()[1]))  # type: ignore[union-attr]
    acknowledged = 0
    for place in notes.iterdir():
        acks = acks_in(place)
        assert all(by_seq[ack.seq].hash == ack.hash for ack in acks), f"{place.name}: acknowledged and lost"
        acknowledged += len(acks)
        if "." not in place.name:  # the last one, which a kill cut off, may be there or not
            assert len(numbers[place.name]) - len(acks) in (0, 1), place.name
    for name, recorded in numbers.items():
        assert recorded == list(range(len(recorded))), name
    log.close()
    return Survived(acknowledged, len(by_seq), found.blobs, duration_s)


def test_acknowledged_appends_survive_kills(tmp_path: Path) -> None:
    survived = killed_again_and_again(tmp_path, kills=12, seed=1)
    assert 0 < survived.acknowledged <= survived.recorded
    assert survived.blobs > 1


def test_appends_recorded_by_others_survive_kills(tmp_path: Path) -> None:
    survived = killed_while_they_share_commits(tmp_path, kills=12, seed=2)
    assert 0 < survived.acknowledged <= survived.recorded


@pytest.mark.torture
def test_appends_recorded_by_others_survive_a_thousand_kills(tmp_path: Path) -> None:
    survived = killed_while_they_share_commits(tmp_path, kills=1000, seed=8)
    print(
        f"\n1,000 kills of {SLOTS} processes that record each other's events in {survived.duration_s:.0f} s: "
        f"{survived.acknowledged} appends acknowledged, {survived.recorded} recorded, 0 lost, 0 twice, the chain whole"
    )


@pytest.mark.torture
def test_acknowledged_appends_survive_a_thousand_kills(tmp_path: Path) -> None:
    survived = killed_again_and_again(tmp_path, kills=1000, seed=7)
    print(
        f"\n1,000 kills of {SLOTS} processes × {THREADS} threads in {survived.duration_s:.0f} s: "
        f"{survived.acknowledged} appends acknowledged, {survived.recorded} recorded, 0 lost, 0 twice, the chain whole"
    )
