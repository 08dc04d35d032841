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
        "683fdb5794c5af2d9d99eb7d9f5eadb0b1a3fba3e7d0bb4ec831ccbbdfa579fc",
        "1:09410e8ecf04cfffd06e6a66fbc459c2578f028de369b6403b917ca5db24cba5",
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
