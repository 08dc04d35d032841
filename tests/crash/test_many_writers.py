"""Many processes append at once: nothing is lost, each one's order is kept, and nobody starves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT
from tests.store.logs import fresh_log

WAIT_MAX_S = 1.0


@dataclass(frozen=True)
class Raced:
    """How a race of writers went."""

    durations_s: list[float]
    longest_s: float
    events: int

    @property
    def fastest_over_slowest(self) -> float:
        """How many times as fast as the slowest writer the fastest was."""
        return max(self.durations_s) / min(self.durations_s)


def raced(folder: Path, processes: int, count: int) -> Raced:
    """Lets processes append, all at once, and checks that everything is there and in order."""
    log = fresh_log(folder)
    log.close()
    command = [sys.executable, "-m", "tests.crash.appenders", "race", str(log.path)]
    writers = [
        subprocess.Popen(
            [*command, f"p{n}", str(count)], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(processes)
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    outputs = [writer.communicate(timeout=1800)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * processes

    reader = LogReader(log.path)
    replayed = replay(reader)
    assert replayed.events == 1 + processes * count
    own: dict[str, list[str]] = defaultdict(list)
    for record in reader.read(2):
        own[record.event.task_type].append(record.event.input)  # type: ignore[union-attr]
    assert own == {f"p{n}": [f"request {k}" for k in range(count)] for n in range(processes)}
    reader.close()
    told = [json.loads(output) for output in outputs]
    return Raced([one["duration_s"] for one in told], max(one["longest_s"] for one in told), replayed.events)


def test_processes_lose_nothing_and_keep_their_order(tmp_path: Path) -> None:
    assert raced(tmp_path, processes=4, count=200).events == 801


@pytest.mark.torture
def test_eight_processes_of_ten_thousand_appends_starve_nobody(tmp_path: Path) -> None:
    race = raced(tmp_path, processes=8, count=10_000)
    print(
        f"\n8 processes × 10,000 appends: {race.events} events, 0 lost, in {max(race.durations_s):.0f} s "
        f"({80_000 / max(race.durations_s):.0f} a second); the longest wait {race.longest_s * 1000:.0f} ms, "
        f"fastest ÷ slowest {race.fastest_over_slowest:.2f}"
    )
    assert race.longest_s < WAIT_MAX_S
