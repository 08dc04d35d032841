"""A mutation that passed its gate and makes the agent worse is undone; what others did since is left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from instar.engine.face.learning import tell
from instar.engine.keeping.gc import collect
from instar.engine.loop import Loop
from instar.engine.provenance.graph import Graph
from instar.engine.replay import Level, replay
from instar.engine.restoring.rollback import roll_back
from instar.engine.restoring.undo import undo
from instar.engine.runtime import Runtime
from instar.engine.status import read_status
from instar.engine.tool_executor import execute
from instar.engine.watcher import rescan
from instar.engine.what_if import what_if
from instar.fsm.errors import IllegalTransition
from instar.fsm.events import FeedbackReceived, MutationApplied, Outcome, ProbationEnded, RollbackStarted, SnapshotTaken
from instar.fsm.record import Recorded
from instar.fsm.retention import Retention
from instar.fsm.words import State
from instar.store.log import Pending
from tests.engine.agents import code_only, contents
from tests.engine.test_kernel import GOOD

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")

BAD = GOOD.replace("+    return b + a", "+    return b - a")
LESSON = {"task_type": "lookup", "source": "user", "note": ""}
NEW_FILE = """--- /dev/null
+++ b/added.py
@@ -0,0 +1 @@
+x = 1
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """An agent whose task type has earned enough to be watched."""
    runtime = code_only(tmp_path / "agent")
    earn(runtime, "pass", 20)
    return runtime


def run(runtime: Runtime) -> None:
    loop = Loop(runtime)
    while loop.step():
        pass
    assert runtime.state.machine is State.IDLE


def earn(runtime: Runtime, outcome: Outcome, count: int) -> None:
    head = runtime.reader.head()
    texts = [f"request {head + n}" for n in range(count)]
    events = [FeedbackReceived(task_type="lookup", input=text, output="x", outcome=outcome) for text in texts]
    runtime.log.transact(lambda _: [Pending(event) for event in events])
    run(runtime)


def mutate(runtime: Runtime, patch: str = BAD) -> None:
    execute(runtime, {"type": "mutate", "patch": patch, "gate": ["true"]}, source="test")
    run(runtime)


def last(runtime: Runtime, kind: type) -> Recorded:
    (record,) = runtime.reader.tail(1, [kind])
    return record


def ended(runtime: Runtime) -> ProbationEnded:
    event = last(runtime, ProbationEnded).event
    assert isinstance(event, ProbationEnded)
    return event


def test_mutation_that_loses_reward_is_undone_and_nothing_else_is(runtime: Runtime) -> None:
    root = runtime.workspace.root
    before = contents(root)
    mutate(runtime, BAD + NEW_FILE)
    assert contents(root) != before
    (root / "notes.txt").write_text("typed by a person while it was watched\n")
    earn(runtime, "fail", 8)
    assert {**contents(root), "notes.txt": before["notes.txt"]} == before
    assert (root / "notes.txt").read_text().startswith("typed by")
    event = ended(runtime)
    assert event.verdict == "undone"
    assert "reward fell by more than 0.1: lookup 1.00 → 0.00" in event.reason
    begun = last(runtime, RollbackStarted)
    assert isinstance(begun.event, RollbackStarted)
    assert begun.event.paths == ("added.py", "heuristics.py")
    assert event.reason in begun.event.reason
    assert not runtime.state.mutation_probations
    report = replay(runtime.reader, level=Level.DECISIONS)
    assert report.state.head == runtime.reader.head()
    graph = Graph(runtime.reader, runtime.reader.head())
    verdict = last(runtime, ProbationEnded).seq
    assert (verdict, "after probation") in list(graph.edges(begun.seq))
    assert (event.applied, "watches") in list(graph.edges(verdict))
    undo(runtime)
    assert b"b - a" in contents(root)["heuristics.py"][1]


def test_lessons_taught_meanwhile_are_no_outcomes(runtime: Runtime) -> None:
    mutate(runtime)
    before = runtime.state.standings["lookup"]
    pairs = [(f"question {number}", f"answer {number}") for number in range(70)]
    tell(runtime, [*pairs, {"input": "q", "output": "right", "negatives": ["wrong"]}], {}, **LESSON)
    run(runtime)
    (watch,) = read_status(runtime.reader, runtime.workspace).mutation_probations
    assert watch["left"] == 64
    assert runtime.state.standings["lookup"] == before
    assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()
    earn(runtime, "fail", 8)
    assert ended(runtime).verdict == "undone"


def test_what_an_undo_needs_outlives_every_collection(runtime: Runtime) -> None:
    before = contents(runtime.workspace.root)
    mutate(runtime, BAD + NEW_FILE)
    assert collect(runtime, Retention(days=0)) is not None
    earn(runtime, "fail", 8)
    assert ended(runtime).verdict == "undone"
    assert contents(runtime.workspace.root) == before


def test_mutation_that_holds_is_kept_and_said_so(runtime: Runtime) -> None:
    mutate(runtime)
    (watch,) = read_status(runtime.reader, runtime.workspace).mutation_probations
    assert watch["left"] == 64
    earn(runtime, "pass", 64)
    event = ended(runtime)
    assert (event.verdict, event.watched[0].count) == ("kept", 64)
    assert b"b - a" in contents(runtime.workspace.root)["heuristics.py"][1]
    assert not read_status(runtime.reader, runtime.workspace).mutation_probations
    assert not list(runtime.reader.read(types=[RollbackStarted]))


def test_file_that_somebody_edited_since_is_left_as_it_is(runtime: Runtime) -> None:
    mutate(runtime)
    edited = runtime.workspace.root / "heuristics.py"
    edited.write_text(edited.read_text() + "# mine\n")
    earn(runtime, "fail", 8)
    event = ended(runtime)
    assert event.verdict == "left"
    assert "heuristics.py changed since" in event.reason
    assert edited.read_text().endswith("# mine\n")
    assert not list(runtime.reader.read(types=[RollbackStarted]))
    assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()


def test_undo_that_the_log_refuses_is_not_tried_for_ever(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise IllegalTransition("not here")

    monkeypatch.setattr("instar.engine.effects.probation.carry_out", refused)
    mutate(runtime)
    earn(runtime, "fail", 8)
    event = ended(runtime)
    assert event.verdict == "left"
    assert event.reason.endswith("It could not be undone: not here")
    assert runtime.state.due is None


def test_own_rollback_ends_it_and_is_not_undone(runtime: Runtime) -> None:
    mutate(runtime)
    applied = last(runtime, MutationApplied)
    roll_back(runtime, applied.seq - 2)
    assert not runtime.state.mutation_probations
    earn(runtime, "fail", 8)
    assert not list(runtime.reader.read(types=[ProbationEnded]))


def test_verdict_and_beginning_are_one_append(runtime: Runtime) -> None:
    mutate(runtime)
    earn(runtime, "fail", 8)
    verdict, begun = last(runtime, ProbationEnded), last(runtime, RollbackStarted)
    assert verdict.recorded_at_us == begun.recorded_at_us
    safety = runtime.reader.get(begun.cause or 0)
    assert isinstance(safety.event, SnapshotTaken)
    assert safety.event.name == f"before-rollback-{safety.seq}"


def test_verdict_of_a_probation_is_remembered(runtime: Runtime) -> None:
    mutate(runtime)
    earn(runtime, "fail", 8)
    rescan(runtime)
    run(runtime)
    assert runtime.state.waiting == ()
    assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()


def test_other_policy_undoes_sooner_later_or_never(runtime: Runtime) -> None:
    mutate(runtime)
    earn(runtime, "fail", 1)
    earn(runtime, "fail", 7)
    asked = {
        key: what_if(runtime.reader, {f"mutation.{key}": value}).otherwise
        for key, value in (("fall_max", 1.0), ("probation", 0), ("p_max", 0.9), ("per_hour_max", 12))
    }
    told = {
        key: [(one.decision, one.was.split(":")[0], one.would_be.split(":")[0]) for one in found]
        for key, found in asked.items()
    }
    assert told == {
        "fall_max": [("probation", "undone", "watched on")],
        "probation": [("probation", "undone", "not watched")],
        "p_max": [("probation", "watched on", "undone")],
        "per_hour_max": [],
    }
    (never,) = asked["fall_max"]
    assert last(runtime, RollbackStarted).seq in never.then
