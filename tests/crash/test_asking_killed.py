"""kill -9 of a process that asks another to record its event, and of one that records for others, at each step."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.store.reader import LogReader
from tests.crash.appenders import acks_in
from tests.engine.agents import PROJECT
from tests.store.logs import fresh_log

OTHERS = 3
ON_AFTER = 20
"""Appends that each other process makes once one was killed."""
ARMED = {
    "asked for": "log.asked=kill@{}",
    "answered, not yet told": "log.answered=kill@{}",
    "about to commit for others": "log.taken=kill@{}",
    "inserted for others": "log.inserted=kill@{}",
    "committed, nobody told": "log.committed=kill@{}",
    "all told": "log.served=kill@{}",
}


def killed_among_others(folder: Path, armed: str) -> int:
    """Kills one of several that append; gives how many events of the others were recorded."""
    folder.mkdir()
    notes = folder / "notes"
    notes.mkdir()
    log = fresh_log(folder)
    log.close()
    names = [f"other{number}" for number in range(OTHERS)]
    command = [sys.executable, "-m", "tests.crash.appenders", "crowd", str(log.path), str(notes), armed, str(OTHERS)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout
        assert crowd.stdout.readline() == "-9\n"
        before = {name: len(acks_in(notes / name)) for name in names}
        deadline = time.monotonic() + 30
        while any(len(acks_in(notes / name)) < before[name] + ON_AFTER for name in names):
            assert time.monotonic() < deadline, "the others do not go on"
            time.sleep(0.01)
        crowd.communicate("", timeout=60)
    assert crowd.returncode == 0

    reader = LogReader(log.path)
    recorded = defaultdict(list)
    assert replay(reader).events == reader.head()
    for record in reader.read(2):
        recorded[record.actor].append((record.event.input, int(record.seq), record.hash))  # type: ignore[union-attr]
    reader.close()
    for name in [*names, "victim"]:
        told = [(f"request {ack.number}", ack.seq, ack.hash) for ack in acks_in(notes / name)]
        assert recorded[name][: len(told)] == told, "an event was acknowledged and lost, or is there twice"
        untold = [text for text, *_ in recorded[name][len(told) :]]
        assert untold in ([], [f"request {len(told)}"] if name == "victim" else []), name
    return sum(len(recorded[name]) for name in names)


@pytest.mark.parametrize("armed", ARMED.values(), ids=ARMED)
def test_killed_process_takes_nothing_of_others_with_it(tmp_path: Path, armed: str) -> None:
    assert killed_among_others(tmp_path / "log", armed.format(5)) > OTHERS * ON_AFTER


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_killed_at_each_step_and_pass_of_recording_for_others(tmp_path: Path) -> None:
    kills = [armed.format(passes) for armed in ARMED.values() for passes in range(1, 21)]
    events = sum(killed_among_others(tmp_path / str(number), armed) for number, armed in enumerate(kills))
    print(f"\n{len(kills)} kills among processes that record for each other: {events} events, 0 lost, 0 twice")
