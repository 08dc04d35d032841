"""Each level compares what those before it do and more; a large log is shared between processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from instar.engine.replay import Level, level_of, ranges, replay
from instar.engine.replay.chain import CHUNK, Place, check_row, chunks, whole
from instar.engine.replay.judges import Judges
from instar.engine.replay.parallel import verify_ranges
from instar.fsm.errors import ConfigError, InstarError, LogCorrupt, ReplayDiverged, UnknownEvent
from instar.fsm.state import state_digest
from instar.fsm.words import Seq
from instar.store.columns import read_columns
from instar.store.log import EventLog, Pending
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT, code_only, instar
from tests.engine.decided_log import Story, decided_log, forged, write_rows

FOLDING = (Level.TRANSITIONS, Level.DIGESTS, Level.DECISIONS)
COMPARING = (Level.CHAIN, Level.DECODE, *FOLDING)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    """Two whole chunks and some: saved states along the way, one cycle at the end."""
    story = Story(tmp_path_factory.mktemp("log"))
    log = story.log
    while log.reader.head() < 2 * CHUNK + 100:
        log.transact(lambda state: [Pending(story.feedback(n, "pass"), key=f"k{state.head}-{n}") for n in range(200)])
    story.start()
    story.embed()
    return log


def altered(log: EventLog, folder: Path, *statements: str) -> LogReader:
    """A copy of the file in which somebody changed rows."""
    folder.mkdir()
    source = sqlite3.connect(log.path)
    source.execute("VACUUM INTO ?", (str(folder / "log.db"),))
    source.close()
    connection = sqlite3.connect(folder / "log.db")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return LogReader(folder / "log.db")


# ---- the chain -----------------------------------------------------------------------------------------------------


def test_whole_stretch_and_single_rows_agree(log: EventLog) -> None:
    place, single = Place(), Place()
    for rows in chunks(log.reader, Seq(1), log.reader.head()):
        columns = read_columns(log.reader, rows[0][0], rows[-1][0])
        assert columns is not None
        assert whole(columns, place)
        assert columns.payloads == [check_row(row, single) for row in rows]
        place.go_behind(columns)
    assert (place.seq, place.hash, place.at_us) == (single.seq, single.hash, single.at_us)


@pytest.mark.parametrize(
    ("statement", "seq", "field"),
    [
        ("UPDATE events SET payload = replace(payload, 'way', 'why') WHERE seq = 700", 700, "payload_hash"),
        ("UPDATE events SET actor = 'somebody' WHERE seq = 700", 700, "hash"),
        ("UPDATE events SET key = NULL WHERE seq = 700", 700, "hash"),
        ("UPDATE events SET prev_hash = hash WHERE seq = 700", 700, "prev_hash"),
        ("UPDATE events SET hash = prev_hash WHERE seq = 501", 501, "hash"),
        ("DELETE FROM events WHERE seq = 700", 700, "seq"),
        ("DELETE FROM events WHERE seq = 1", 1, "seq"),
        ("UPDATE events SET recorded_at_us = 1 WHERE seq = 700", 700, "hash"),
    ],
)
@pytest.mark.parametrize("level", [Level.CHAIN, Level.DECISIONS])
def test_first_row_that_does_not_fit_is_named(
    log: EventLog, tmp_path: Path, statement: str, seq: int, field: str, level: Level
) -> None:
    with pytest.raises(LogCorrupt) as caught:
        replay(altered(log, tmp_path / "altered", statement), level=level)
    assert (caught.value.seq, caught.value.field) == (seq, field)
    assert caught.value.expected != caught.value.actual


def test_row_that_vanishes_at_the_end_is_missed_only_if_it_was_asked_for(log: EventLog, tmp_path: Path) -> None:
    head = log.reader.head()
    reader = altered(log, tmp_path / "altered", f"DELETE FROM events WHERE seq = {head}")
    assert replay(reader).events == head - 1
    with pytest.raises(LogCorrupt) as caught:
        replay(reader, to=head)
    assert (caught.value.seq, caught.value.field) == (head, "seq")


# ---- levels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", COMPARING)
def test_true_log_passes_every_level(tmp_path: Path, level: Level) -> None:
    log = decided_log(tmp_path)
    found = replay(log.reader, level=level)
    assert (found.level, found.events, found.head_hash) == (level, 96, log.reader.head_hash())
    assert (found.state == log.state) == (level in FOLDING)
    assert bool(found.state_digest) == (level in FOLDING)
    assert found.digests == (1 if level in FOLDING[1:] else 0)
    assert bool(found.decisions) == (level is Level.DECISIONS)


def test_each_level_sees_what_the_one_before_does_not(tmp_path: Path) -> None:
    (tmp_path / "true").mkdir()
    log = decided_log(tmp_path / "true")

    def shape(rows: list[dict[str, object]]) -> None:
        rows[4]["event"]["outcome"] = "perhaps"  # type: ignore[index]

    def illegal(rows: list[dict[str, object]]) -> None:
        rows[11]["cause"] = 3

    def digest(rows: list[dict[str, object]]) -> None:
        rows[63]["state_digest"] = "1:" + "0" * 64

    def decision(rows: list[dict[str, object]]) -> None:
        rows[1]["event"]["monitored"] = False  # type: ignore[index]

    broken = [
        (shape, UnknownEvent, Level.DECODE, False),
        (illegal, ReplayDiverged, Level.TRANSITIONS, False),
        (digest, ReplayDiverged, Level.DIGESTS, False),
        (decision, ReplayDiverged, Level.DECISIONS, True),
    ]
    for number, (change, error, found_at, refold) in enumerate(broken):
        if refold:
            reader = forged(log, tmp_path / str(number), change)
        else:
            reader = _unfolded(log, tmp_path / str(number), change)
        for level in COMPARING:
            if level.includes(found_at):
                with pytest.raises(error):
                    replay(reader, level=level)
            else:
                replay(reader, level=level)


def _unfolded(log: EventLog, folder: Path, change: object) -> LogReader:
    from instar.store.reader import COLUMNS

    rows = [dict(zip(COLUMNS.split(", "), row, strict=True)) for row in log.reader.rows()]
    for row in rows:
        row["event"] = msgspec.json.decode(row["payload"])
    change(rows)  # type: ignore[operator]
    return write_rows(folder, rows, refold=False)


def test_level_is_read_or_refused() -> None:
    assert level_of("digests") is Level.DIGESTS
    with pytest.raises(ConfigError, match="chain, decode, transitions, digests, decisions, effects"):
        level_of("all")


def test_replay_from_a_saved_state_says_so(log: EventLog) -> None:
    saved = [seq for seq, _ in log.reader.saved_digests()]
    assert len(saved) >= 3
    found = replay(log.reader, first=Seq(saved[1] + 5))
    assert found.state == log.state
    assert found.events == log.state.head - saved[1] - 4
    assert found.start == (
        f"begun with the saved state of event {saved[1]}, which matches its digest; "
        f"folded to event {saved[1] + 4} without comparing"
    )
    exact = replay(log.reader, first=Seq(saved[1] + 1))
    assert exact.start == f"begun with the saved state of event {saved[1]}, which matches its digest"
    early = replay(log.reader, first=Seq(10))
    assert early.start == "folded from event 1 to event 9 without comparing"
    assert replay(log.reader, first=Seq(10), level=Level.CHAIN).start == ""


def test_replay_from_an_event_compares_no_earlier_one(log: EventLog, tmp_path: Path) -> None:
    reader = altered(log, tmp_path / "altered", "UPDATE events SET actor = 'somebody' WHERE seq = 7")
    assert replay(reader, first=Seq(8)).events == log.state.head - 7
    with pytest.raises(LogCorrupt):
        replay(reader, first=Seq(7))
    with pytest.raises(ConfigError, match="nothing to replay"):
        replay(reader, first=Seq(9), to=Seq(8))


def test_rollback_is_compared_with_a_state_far_before_it(tmp_path: Path) -> None:
    """Its target lies in front of where the replay begins: the state there is folded from a saved one, or the start."""
    log = decided_log(tmp_path)
    assert replay(log.reader, first=Seq(60), level=Level.DECISIONS).decisions["rollbacks"] == 1


# ---- several processes ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "EVENTS_MIN", 200)


@pytest.fixture(params=["whoever is first", "the other one"])
def taker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, small_ranges: None) -> None:
    """Ranges are taken by whoever is first, which is this process in a log so small; or all by the other one."""
    if request.param == "the other one":
        from instar.engine.replay import parallel

        monkeypatch.setattr(parallel, "take", lambda _tokens: None)


@pytest.mark.usefixtures("taker")
@pytest.mark.parametrize("level", COMPARING)
def test_shared_replay_finds_what_a_single_one_does(log: EventLog, level: Level) -> None:
    shared, single = replay(log.reader, level=level, jobs=2), replay(log.reader, level=level, jobs=1)
    assert (shared.jobs, single.jobs) == (2, 1)
    for name in ("events", "transitions", "digests", "cycles", "head_hash", "state_digest", "state", "decisions"):
        assert getattr(shared, name) == getattr(single, name)


@pytest.mark.usefixtures("taker")
def test_shared_replay_names_the_first_of_two_faults(log: EventLog, tmp_path: Path) -> None:
    later = "UPDATE events SET actor = 'somebody' WHERE seq = 2050"
    earlier = "UPDATE events SET state_after = 'Training' WHERE seq = 300"
    reader = altered(log, tmp_path / "altered", later, earlier)
    for jobs in (1, 2):
        with pytest.raises(LogCorrupt) as caught:
            replay(reader, jobs=jobs)
        assert caught.value.seq == 300


@pytest.mark.usefixtures("taker")
def test_saved_state_that_the_fold_does_not_give_is_passed_over(log: EventLog, tmp_path: Path) -> None:
    """A range that began with it says nothing: the fold from the start is the judge."""
    seq, _ = log.reader.saved_digests()[1]
    wrong = log.reader.snapshot_before(seq)
    wrong = msgspec.structs.replace(wrong, cycles=7)
    from instar.fsm.state import encode_state

    text = encode_state(wrong).decode()
    update = f"UPDATE state_snapshots SET state = '{text}', digest = '{state_digest(wrong)}' WHERE seq = {seq}"
    reader = altered(log, tmp_path / "altered", update)
    assert reader.snapshot_before(seq).cycles == 7
    found = replay(reader, jobs=2)
    assert (found.state, found.head_hash, found.jobs) == (log.state, log.reader.head_hash(), 2)


@pytest.mark.usefixtures("small_ranges")
def test_other_process_tells_what_it_found(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    from instar.engine.replay import parallel

    monkeypatch.setattr(parallel, "take", lambda _tokens: None)
    parts = ranges.cut(log.reader, Seq(1), log.reader.head(), Level.DECISIONS, 2)
    found, folded = verify_ranges(log.reader, parts, Level.DECISIONS, 2)
    assert sorted(found) == list(range(len(parts)))
    assert folded == {}
    for number, part in enumerate(parts):
        assert found[number] == ranges.fold_range(log.reader, part, Level.DECISIONS)[0]


@pytest.mark.usefixtures("small_ranges")
def test_ranges_of_a_process_that_died_are_verified_here(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    from instar.engine.replay import parallel

    taken: list[int] = []

    def take(tokens: int) -> int | None:
        """Lets the first range be taken by somebody who never tells."""
        token = os.read(tokens, 1)
        if token and not taken:
            taken.append(token[0])
            token = os.read(tokens, 1)
        return token[0] if token else None

    monkeypatch.setattr(parallel, "take", take)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    parts = ranges.cut(log.reader, Seq(1), log.reader.head(), Level.DIGESTS, 2)
    found, _ = verify_ranges(log.reader, parts, Level.DIGESTS, 2)
    assert 0 not in found
    taken.clear()
    assert replay(log.reader, jobs=2).state == log.state


@pytest.mark.usefixtures("small_ranges")
def test_ranges_lie_end_to_end_behind_saved_states(log: EventLog) -> None:
    head = log.reader.head()
    saved = {seq for seq, _ in log.reader.saved_digests()}
    for level in (Level.CHAIN, Level.DIGESTS):
        parts = ranges.cut(log.reader, Seq(1), head, level, 2)
        assert len(parts) > 2
        assert [first for first, _ in parts] == [1, *(last + 1 for _, last in parts[:-1])]
        assert parts[-1][1] == head
        if level is Level.DIGESTS:
            assert {last for _, last in parts[:-1]} <= saved
    assert ranges.cut(log.reader, Seq(1), head, Level.CHAIN, 1) == [(1, head)]


_WATCHING = """
import sys
from pathlib import Path
from instar.engine.replay import Level, ranges, replay
from instar.store.reader import LogReader
ranges.EVENTS_MIN = 200
reader = LogReader(Path(sys.argv[1]))
started = []
def watch(event, arguments):
    if event == "open" and arguments[2] & 3 and arguments[0] != "/dev/null":
        raise AssertionError(f"opened {arguments[0]} for writing")
    if event == "subprocess.Popen":
        started.append(arguments)
    elif event.startswith(("socket.", "os.system", "os.exec", "os.fork", "os.remove", "os.rename", "os.mkdir")):
        raise AssertionError(f"did {event}")
sys.addaudithook(watch)
print(replay(reader, level=Level(sys.argv[2]), jobs=2).events, len(started))
"""


def test_shared_replay_writes_nothing_and_starts_one_process(log: EventLog) -> None:
    for level in (Level.DIGESTS, Level.DECISIONS):
        done = subprocess.run(
            [sys.executable, "-B", "-c", _WATCHING, str(log.path), level],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.split() == [str(log.state.head).encode(), b"1"]


# ---- plugins -------------------------------------------------------------------------------------------------------


def test_installed_plugin_decides_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site"
    (package / "theirs-1.dist-info").mkdir(parents=True)
    (package / "theirs-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (package / "theirs-1.dist-info" / "entry_points.txt").write_text("[instar.planners]\ntheirs = theirs:Planner\n")
    planner = "class Planner:\n    name = 'theirs'\n    def plan(self, standings, policy):\n        return ()\n"
    (package / "theirs.py").write_text(planner)
    monkeypatch.syspath_prepend(str(package))
    assert Judges().planner("theirs") is not None
    assert Judges().planner("other") is None
    assert Judges().reward_model("theirs") is None
    story = Story(tmp_path)
    story.outside(story.feedback(1))
    story.start()
    story.settle()

    def theirs(rows: list[dict[str, object]]) -> None:
        rows[-1]["event"]["planner"] = "theirs"  # type: ignore[index]

    with pytest.raises(ReplayDiverged) as caught:
        replay(forged(story.log, tmp_path / "forged", theirs), level=Level.DECISIONS)
    assert caught.value.field == "steps.length"


# ---- the command line ----------------------------------------------------------------------------------------------


def test_command_compares_decisions_and_tells_errors_in_parts(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    runtime.close()
    root = runtime.workspace.root
    told = instar("replay", cwd=root).stdout.decode()
    assert told.startswith("verified to level decisions: 1 events")
    assert "head hash" in told
    content = msgspec.json.decode(instar("replay", "--json", "--level", "chain", cwd=root).stdout)
    assert (content["data"]["level"], content["data"]["events"]) == ("chain", 1)
    with sqlite3.connect(runtime.workspace.log) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE events SET actor = 'x'")
    connection.close()
    failed = instar("replay", "--json", cwd=root)
    assert failed.returncode == 3
    error = msgspec.json.decode(failed.stdout)["error"]
    assert error["kind"] == "LogCorrupt"
    assert (error["details"]["seq"], error["details"]["field"]) == (1, "hash")
    assert error["details"]["expected"] != error["details"]["actual"]
    refused = instar("replay", "--level", "nonsense", cwd=root)
    assert refused.returncode == 2


def test_errors_without_parts_have_no_details() -> None:
    assert InstarError("x").details == {}
    assert LogCorrupt("x").details == {}
    assert LogCorrupt("x", seq=3, field="f").details == {"seq": 3, "field": "f", "expected": None, "actual": None}
