"""Long runs: kill -9 at random, again and again. ``make torture`` runs them; a short form runs with the suite."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.fsm.events import FeedbackReceived
from instar.store.log import EventLog
from tests.engine.agents import PROJECT
from tests.store.logs import fresh_log

_APPENDER = """
import sys
from pathlib import Path
from instar.store.log import EventLog
from tests.store.logs import feedback
log = EventLog(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    record = log.append(feedback(number), key=f"n{number}")
    print(number, record.seq, flush=True)
    number += 1
"""


def killed_again_and_again(folder: Path, kills: int) -> tuple[int, int]:
    """Appends in a process that is killed at random moments; gives how many were acknowledged and recorded."""
    log = fresh_log(folder)
    path = log.path
    log.close()
    rng = random.Random(7)
    acknowledged: dict[int, int] = {}
    for kill in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", _APPENDER, str(path), str(kill * 100_000)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            cwd=PROJECT,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
        for line in (first + rest).splitlines():
            parts = line.split()
            if len(parts) == 2 and line:
                acknowledged[int(parts[0])] = int(parts[1])
    again = EventLog(path)
    recorded = {record.key: record.seq for record in again.reader.read(types=[FeedbackReceived])}
    last_torn = max(acknowledged)
    for number, seq in acknowledged.items():
        if number != last_torn:
            assert recorded[f"n{number}"] == seq, f"append {number} was acknowledged and is lost"
    replayed = replay(again.reader)
    assert replayed.events == again.reader.head()
    assert len(recorded) == replayed.events - 1
    again.close()
    return len(acknowledged), len(recorded)


def test_acknowledged_appends_survive_kills(tmp_path: Path) -> None:
    acknowledged, recorded = killed_again_and_again(tmp_path, kills=5)
    assert 0 < acknowledged <= recorded


@pytest.mark.torture
def test_acknowledged_appends_survive_many_kills(tmp_path: Path) -> None:
    acknowledged, recorded = killed_again_and_again(tmp_path, kills=200)
    print(f"200 kills: {acknowledged} appends acknowledged, {recorded} recorded, none lost, none twice")
