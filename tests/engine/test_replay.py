"""Replay compares everything and runs nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.fsm.errors import InstarError, LogCorrupt, ReplayDiverged
from instar.fsm.events import CycleStarted, DiffComputed, Span
from instar.fsm.state import state_digest
from instar.fsm.words import Seq, digest_of
from instar.store.log import EventLog, Pending
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT, code_only
from tests.store.logs import feedback, fresh_log, tamper


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = fresh_log(tmp_path)
    log.transact(lambda _: [Pending(feedback(n)) for n in range(130)])
    log.append(CycleStarted(entry="signals", span=Span(Seq(2), Seq(131)), count=130), cause=Seq(131))
    log.append(DiffComputed(items=()), cause=Seq(132))
    return log


def test_whole_log_is_verified(log: EventLog) -> None:
    replayed = replay(log.reader)
    assert (replayed.events, replayed.digests, replayed.cycles) == (133, 2, 1)
    assert replayed.state == log.state
    assert replayed.state_digest == state_digest(log.state)
    assert replayed.head_hash == log.reader.head_hash()


def test_part_of_a_log_is_verified(log: EventLog) -> None:
    assert replay(log.reader, to=Seq(70)).state == log.reader.state_at(70)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = replace(payload, 'request 5', 'request 6') WHERE seq = 7",
        "UPDATE events SET recorded_at_us = recorded_at_us + 1 WHERE seq = 7",
        "UPDATE events SET actor = 'somebody' WHERE seq = 7",
        "UPDATE events SET cause = 1 WHERE seq = 7",
        "UPDATE events SET key = 'k' WHERE seq = 7",
        "UPDATE events SET type = 'TaskQueued' WHERE seq = 7",
        "UPDATE events SET state_after = 'Training' WHERE seq = 132",
        "UPDATE events SET state_digest = 'ff' WHERE seq = 64",
        "UPDATE events SET state_digest = NULL WHERE seq = 64",
        "UPDATE events SET hash = 'ff' WHERE seq = 133",
        "DELETE FROM events WHERE seq = 7",
        "DELETE FROM events WHERE seq = 1",
        "UPDATE events SET seq = CASE seq WHEN 7 THEN 1000 ELSE seq END",
    ],
)
def test_altered_row_is_found(log: EventLog, statement: str) -> None:
    reader = tamper(log, statement)
    with pytest.raises(LogCorrupt):
        replay(reader)


def rechain(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Rewrites a log as its own writer could: every hash is right, only the story is wrong."""
    from instar.fsm.chain import GENESIS, link

    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    prev = str(GENESIS)
    for found in connection.execute("SELECT * FROM events ORDER BY seq").fetchall():
        row: dict[str, object] = dict(found)
        change(row)
        row["payload_hash"] = digest_of(str(row["payload"]).encode())
        row["prev_hash"] = prev
        columns = {name: value for name, value in row.items() if name not in ("type", "payload", "hash")}
        row["hash"] = prev = link(kind=str(row["type"]), **columns)  # type: ignore[arg-type]
        names = ", ".join(f"{name} = :{name}" for name in row)
        connection.execute(f"UPDATE events SET {names} WHERE seq = :seq", row)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("seq", "column", "value", "field"),
    [
        (132, "state_after", "Training", "state_after"),
        (132, "cycle", 7, "cycle"),
        (64, "state_digest", "0" * 64, "state_digest"),
        (133, "cause", 5, "transition"),
    ],
)
def test_rechained_lie_is_named(log: EventLog, seq: int, column: str, value: object, field: str) -> None:
    log.close()

    def change(row: dict[str, object]) -> None:
        if row["seq"] == seq:
            row[column] = value

    rechain(log.path, change)
    with pytest.raises(ReplayDiverged) as caught:
        replay(LogReader(log.path))
    assert (caught.value.seq, caught.value.field) == (seq, field)
    assert caught.value.exit_code == 4


_FORBIDDING = """
import json, sys
from pathlib import Path
from instar.engine.replay import replay
from instar.store.reader import LogReader
reader = LogReader(Path(sys.argv[1]))
seen = []
def forbid(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & 3:
            raise AssertionError(f"replay opened {path} for writing")
    elif event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove",
                           "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.",
                           "tempfile.", "sqlite3.connect")):
        raise AssertionError(f"replay did {event} {arguments}")
    seen.append(event)
sys.addaudithook(forbid)
replayed = replay(reader)
print(json.dumps({"events": replayed.events, "modules": [name for name in ("torch", "sentence_transformers",
      "sqlalchemy", "usearch", "numpy", "watchdog") if name in sys.modules]}))
"""


def test_replay_runs_no_effect(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    (runtime.workspace.root / "notes.txt").write_text("second\n")
    from instar.engine.restoring.rollback import roll_back
    from instar.engine.snapshot import take_snapshot

    take_snapshot(runtime, "here")
    roll_back(runtime, 1)
    runtime.close()
    before = runtime.workspace.log.read_bytes()
    done = subprocess.run(
        [sys.executable, "-B", "-c", _FORBIDDING, str(runtime.workspace.log)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["events"] == 7
    assert told["modules"] == []
    assert runtime.workspace.log.read_bytes() == before


def test_what_the_hook_forbids_is_really_caught(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    log.close()
    broken = _FORBIDDING.replace("replayed = replay(reader)", "open(sys.argv[1] + '.x', 'w')")
    done = subprocess.run(
        [sys.executable, "-B", "-c", broken, str(log.path)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        timeout=60,
    )
    assert done.returncode == 1
    assert b"for writing" in done.stderr


def test_divergence_is_an_instar_error_that_says_what_to_do() -> None:
    error = ReplayDiverged(7, "state_after", "Idle", "Training")
    assert isinstance(error, InstarError)
    assert "instar show 7" in str(error)
