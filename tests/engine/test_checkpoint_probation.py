"""A promoted checkpoint under which the agent earns less is undone; code and memory stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar import Engine
from instar.engine.keeping.gc import collect
from instar.engine.provenance.graph import Graph
from instar.engine.replay import Level, replay
from instar.engine.restoring.undo import undo
from instar.engine.status import read_status
from instar.engine.what_if import what_if
from instar.engine.worker import Worker
from instar.fsm import events as e
from instar.fsm.record import Recorded
from instar.fsm.retention import Retention
from instar.fsm.state import CheckpointProbation
from instar.fsm.words import Digest
from tests.engine.agents import agent_folder
from tests.engine.test_brought_weights import ADMITS, PAIRS, admit
from tests.engine.tiny_model import tiny_model


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Digest]:
    """An agent whose lookups passed, and which took in other weights after that; and the checkpoint before them."""
    folder = tmp_path_factory.mktemp("promoted")
    tiny_model(folder / "base")
    tiny_model(folder / "other", seed=2, width=48)
    tiny_model(folder / "third", seed=3)
    root = agent_folder(folder / "agent")
    admit(root, folder, ADMITS)
    with Engine(root, worker=False) as engine:
        engine.feedback_many(
            {"task_type": "find", "output": "x", "outcome": "fail", "source": "user", **pair} for pair in taught()
        )
        Worker(engine.runtime).run_once()
        earn(engine, "pass", 64)
        assert ended(engine).verdict == "kept"  # what it learned from these pairs
        before = engine.space
        assert before is not None
        assert engine.judge(str(folder / "other"), source="test").promoted
        assert engine.space != before
    return root, before


def taught() -> list[dict[str, Any]]:
    return [{"input": pair["input"], "reference": pair["output"], "group": pair["group"]} for pair in PAIRS]


@pytest.fixture
def engine(promoted: tuple[Path, Digest], tmp_path: Path) -> Iterator[Engine]:
    shutil.copytree(promoted[0], tmp_path / "agent", symlinks=True)
    with Engine(tmp_path / "agent", worker=False) as engine:
        yield engine


def earn(engine: Engine, outcome: str, count: int) -> None:
    head = engine.runtime.reader.head()
    texts = (f"request {head + n}" for n in range(count))
    engine.feedback_many({"task_type": "lookup", "input": text, "output": "x", "outcome": outcome} for text in texts)
    Worker(engine.runtime).run_once()


def last(engine: Engine, kind: type) -> Recorded:
    (record,) = engine.runtime.reader.tail(1, [kind])
    return record


def ended(engine: Engine) -> e.ProbationEnded:
    event = last(engine, e.ProbationEnded).event
    assert isinstance(event, e.ProbationEnded)
    return event


def watches(engine: Engine) -> tuple[CheckpointProbation, ...]:
    return engine.runtime.state.checkpoint_probations


def test_checkpoint_that_loses_reward_is_undone_and_nothing_else_is(
    engine: Engine, promoted: tuple[Path, Digest]
) -> None:
    runtime, worse = engine.runtime, engine.space
    notes = runtime.workspace.root / "notes.txt"
    notes.write_text("typed while it was watched\n")
    earn(engine, "fail", 8)
    event = ended(engine)
    assert (event.subject, event.verdict) == ("checkpoint", "undone")
    assert "reward fell by more than 0.1: lookup 1.00 → 0.00" in event.reason
    assert engine.space == promoted[1] != worse
    assert engine.embed(["a"]).shape == (1, 32)
    assert notes.read_text() == "typed while it was watched\n"
    assert any("request" in hit.text for hit in engine.search("request 140", k=5))  # what it remembered since is there
    begun = last(engine, e.RollbackStarted)
    assert isinstance(begun.event, e.RollbackStarted)
    assert begun.event.parts == ("checkpoint",)
    assert watches(engine) == ()
    trained = runtime.state.trained
    assert trained == runtime.reader.state_at(event.applied).trained  # its rows alone ask for no other retrain
    assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()
    graph, verdict = Graph(runtime.reader, runtime.reader.head()), last(engine, e.ProbationEnded).seq
    assert (verdict, "after probation") in list(graph.edges(begun.seq))
    edges = list(graph.edges(verdict))
    assert (event.applied, "watches") in edges
    assert "rewards since" in {name for _, name in edges}
    undo(runtime)
    assert engine.space == worse


def test_later_of_two_goes_first_and_the_earlier_is_watched_on(engine: Engine, promoted: tuple[Path, Digest]) -> None:
    runtime, other = engine.runtime, engine.space
    (first,) = watches(engine)
    assert engine.judge(str(promoted[0].parent / "third"), source="test").promoted
    assert collect(runtime, Retention(days=0)) is not None
    earn(engine, "fail", 8)
    event = ended(engine)
    assert event.applied > first.applied
    assert (event.verdict, engine.space) == ("undone", other)
    (again,) = watches(engine)
    assert (again.applied, again.watched[0].count) == (first.applied, 0)
    earn(engine, "fail", 8)
    assert (ended(engine).applied, engine.space) == (first.applied, promoted[1])
    assert watches(engine) == ()
    assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()


def test_outcomes_that_wait_while_it_is_undone_do_not_undo_the_one_before(engine: Engine) -> None:
    """More than a cycle takes up: the rest is rewarded after the undo, but was earned before it."""
    other = engine.space
    assert engine.judge(str(engine.runtime.settings.model).replace("base", "third"), source="test").promoted
    earn(engine, "fail", engine.runtime.state.policy.cycle.signals_max + 32)
    assert (ended(engine).verdict, engine.space) == ("undone", other)
    (first,) = watches(engine)
    assert [one.count for one in first.watched] == [0, 0]
    assert first.anew == last(engine, e.RollbackStarted).seq
    assert replay(engine.runtime.reader, level=Level.DECISIONS).state.head == engine.runtime.reader.head()


def test_checkpoint_that_holds_is_kept_and_said_so(engine: Engine) -> None:
    runtime, better = engine.runtime, engine.space
    status = read_status(runtime.reader, runtime.workspace)
    (watch,) = status.checkpoint_probations
    assert (watch["left"], status.mutation_probations) == (64, [])
    assert watch["applied"] == runtime.reader.tail(1, [e.OutcomeRewarded])[0].seq
    earn(engine, "pass", 64)
    event = ended(engine)
    assert (event.subject, event.verdict, engine.space) == ("checkpoint", "kept", better)
    assert read_status(runtime.reader, runtime.workspace).checkpoint_probations == []
    assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()


def test_what_an_undo_needs_outlives_every_collection(engine: Engine, promoted: tuple[Path, Digest]) -> None:
    assert collect(engine.runtime, Retention(days=0)) is not None
    earn(engine, "fail", 8)
    assert (ended(engine).verdict, engine.space) == ("undone", promoted[1])
    assert engine.search("request", k=1)


def test_own_rollback_ends_it(engine: Engine, promoted: tuple[Path, Digest]) -> None:
    (watch,) = watches(engine)
    engine.rollback(watch.applied - 1, only=["checkpoint"])
    assert (engine.space, watches(engine)) == (promoted[1], ())
    earn(engine, "fail", 8)
    assert ended(engine).applied < watch.applied


def test_other_policy_undoes_sooner_later_or_never(engine: Engine) -> None:
    earn(engine, "fail", 1)
    earn(engine, "fail", 7)
    assert ended(engine).verdict == "undone"
    asked = {
        key: what_if(engine.runtime.reader, {f"gate.{key}": value}).otherwise
        for key, value in (("fall_max", 1.0), ("probation", 0), ("p_max", 0.9), ("forgetting_max", 0.9))
    }
    told = {
        key: [(one.decision, one.was.split(":")[0], one.would_be.split(":")[0]) for one in found]
        for key, found in asked.items()
    }
    assert told == {
        "fall_max": [("probation", "undone", "watched on")],
        "probation": [("probation", "kept", "not watched"), ("probation", "undone", "not watched")],
        "p_max": [("probation", "watched on", "undone")],
        "forgetting_max": [],
    }
