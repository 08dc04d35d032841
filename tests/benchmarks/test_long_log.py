"""The log that the replay benchmark reads is a real one, of the size that it claims."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.long_log import write_long_log
from instar.engine.replay import replay

COUNT = 2_000


def test_long_log_replays_with_whole_cycles_and_flags(tmp_path: Path) -> None:
    log = write_long_log(tmp_path, COUNT)
    found = replay(log.reader)
    assert found.events == COUNT
    types = [row[1] for row in log.reader.rows()]
    assert found.cycles == types.count("CycleStarted") > 50
    assert types.count("RetrainFlagged") == found.cycles // 8
    log.close()


def test_most_events_of_the_long_log_have_300_to_400_bytes(tmp_path: Path) -> None:
    log = write_long_log(tmp_path, COUNT)
    sizes = [len(row[10].encode()) for row in log.reader.rows()]
    assert 300 <= statistics.fmean(sizes) <= 400
    assert sum(300 <= size <= 400 for size in sizes) > 0.8 * COUNT
    log.close()
