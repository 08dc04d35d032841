"""An append that a signal's handler cuts off at whatever moment lets other processes go on; the log stays whole."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from instar.engine.replay import replay
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT
from tests.store.logs import fresh_log

FOR_S = 4.0


def test_others_go_on_while_one_is_interrupted_at_random_moments(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    log.close()
    runs = [("7", "cut"), ("0", "a"), ("0", "b")]
    command = [sys.executable, "-m", "tests.crash.interrupted", str(log.path)]
    processes = [
        subprocess.Popen([*command, seed, str(FOR_S), name], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        for seed, name in runs
    ]
    try:
        cut, *others = [int(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    reader = LogReader(log.path)
    assert replay(reader).events == reader.head()
    recorded = Counter(record.actor for record in reader.read(2))
    reader.close()
    assert cut > 20
    assert [recorded["a"], recorded["b"]] == others
    assert min(others) > 20
