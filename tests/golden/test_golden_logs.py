"""A log of every schema that was ever released is read for ever, to the same state."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.fsm.codec import TYPES
from instar.store.log import EventLog, create_log
from instar.store.reader import SCHEMA_HEAD, LogReader

GOLDEN = Path(__file__).parent
ENDS = {
    "schema_0001.db": (
        "fbc02d2fb63e29f7cd8eacaffdf00e1b008a1ab216240dcc34c3087536856068",
        "1:f5a71f23dadaf8e713423f703f6f890269843bfbae333a73ce95b0c1c9f90ac4",
    )
}


def test_present_schema_has_a_golden_log() -> None:
    assert {path.name for path in GOLDEN.glob("*.db")} == set(ENDS)
    assert f"schema_{SCHEMA_HEAD}.db" in ENDS


@pytest.mark.parametrize("name", ENDS)
def test_golden_log_replays_to_the_state_it_always_had(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.db"
    shutil.copyfile(GOLDEN / name, path)
    create_log(path)
    replayed = replay(LogReader(path))
    assert (replayed.head_hash, replayed.state_digest) == ENDS[name]
    assert {type(record.event).__name__ for record in LogReader(path).read()} == set(TYPES)


@pytest.mark.parametrize("name", ENDS)
def test_golden_log_can_be_appended_to(tmp_path: Path, name: str) -> None:
    from tests.store.logs import feedback

    path = tmp_path / "log.db"
    shutil.copyfile(GOLDEN / name, path)
    create_log(path)
    log = EventLog(path)
    head = log.reader.head()
    assert log.append(feedback(1)).seq == head + 1
    assert replay(log.reader).events == head + 1
    log.close()
