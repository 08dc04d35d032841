"""Weights that were trained elsewhere come in by the gate alone, and the log tells them from trained ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from instar import Engine
from instar.engine.effects.learning import origin_of
from instar.engine.face.learning import Checkpoint
from instar.engine.reexecution.reexecute import reexecute
from instar.engine.replay import Level, replay
from instar.engine.tool_executor import execute
from instar.engine.worker import Worker
from instar.fsm import events as e
from instar.fsm.errors import ConfigError, InputRefused, ReplayDiverged
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.log import EventLog
from instar.store.naming import digests_of
from tests.crash.lessons import rows
from tests.engine.agents import agent_folder, code_only, instar
from tests.engine.decided_log import Rows, Story, forged
from tests.engine.tiny_model import tiny_model

SETTINGS = """
model = "{model}"
[policy]
retrain = {{ rows_min = 8, per_hour_max = 100 }}
gate = {{ gain_min = {gain_min}, heldout_min = 2, forgetting_max = 1.0 }}
[training]
threads = 1
[training.recipe]
epochs = 1
tokens_max = 32
"""
ADMITS = -100.0
PAIRS = [{"input": row["input"], "output": row["reference"], "group": row.get("group")} for row in rows(24)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "base")
    tiny_model(folder / "other", seed=2, width=48)  # of another family: its vectors are longer
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Engine]:
    """An agent that has learnt once; its gate admits nothing."""
    root = agent_folder(tmp_path_factory.mktemp("strict") / "agent")
    admit(root, models, 100.0)
    with Engine(root, worker=False) as engine:
        engine.feedback_many(
            {"task_type": "find", "output": "x", "outcome": "fail", "source": "user", **_told(row)} for row in PAIRS
        )
        Worker(engine.runtime).run_once()
        yield engine


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {"input": row["input"], "reference": row["output"], "group": row["group"]}


def admit(root: Path, models: Path, gain_min: float) -> None:
    (root / "instar.toml").write_text(SETTINGS.format(model=models / "base", gain_min=gain_min))


def judged(engine: Engine, weights: str) -> tuple[Checkpoint, e.CheckpointTrained]:
    found = engine.judge(weights, source="test")
    assert found.trained is not None, found.reason
    event = engine.runtime.reader.get(found.trained).event
    assert isinstance(event, e.CheckpointTrained)
    assert event.brought == found.task
    return found, event


def test_weights_that_the_gate_admits_become_active_with_memory_in_their_space(tmp_path: Path, models: Path) -> None:
    root = agent_folder(tmp_path / "agent")
    admit(root, models, ADMITS)
    with Engine(root, worker=False) as engine:
        engine.learn(PAIRS)
        runtime = engine.runtime
        before, rows_learnt = engine.space, runtime.state.trained_rows
        trained = runtime.state.trained
        head = runtime.state.head
        found, event = judged(engine, str(models / "other"))
        assert found.promoted, found.reason
        assert engine.space == found.checkpoint != before
        assert (event.base, event.steps, event.epochs, event.loss, event.origin) == (before, 0, 0, (), None)
        assert event.after.pairs == event.before.pairs > 0
        assert (runtime.state.trained, runtime.state.trained_rows) == (trained, rows_learnt)  # nothing was learnt
        assert origin_of(runtime, event.checkpoint) == event.checkpoint
        assert engine.embed(["a"]).shape == (1, 48)
        assert engine.search("create a list", k=1)
        assert replay(runtime.reader).events == runtime.state.head
        again = reexecute(runtime.reader, ["train"]).findings
        assert {finding.verdict for finding in again} == {"same"}, again
        why = {node.seq: node.kind for node in engine.why(f"checkpoint:{found.checkpoint}").nodes}
        assert why[found.task] == "content"
        assert "content" not in {why.get(Seq(record.seq)) for record in told(engine)}
        engine.rollback(head)
        assert engine.space == before
        assert engine.embed(["a"]).shape == (1, 32)
        assert engine.search("create a list", k=1)
        assert replay(runtime.reader).events == runtime.state.head


def told(engine: Engine) -> list[Any]:
    return [record for record in engine.events() if isinstance(record.event, e.FeedbackReceived)]


def test_weights_that_gain_nothing_stay_out_and_can_be_judged_again(engine: Engine, models: Path) -> None:
    active = engine.space
    first, event = judged(engine, str(models / "other"))
    assert first.verdict == "rejected", first.reason
    assert engine.space == active
    assert ("checkpoint", event.checkpoint) in set(digests_of(engine.runtime.reader.get(first.task).event))
    again, event = judged(engine, f"checkpoint:{event.checkpoint[:12]}")
    assert (again.checkpoint, again.verdict) == (first.checkpoint, "rejected")
    trained = [one.event for one in engine.events() if isinstance(one.event, e.CheckpointTrained)]
    own = next(one for one in trained if one.brought is None)
    earlier, _ = judged(engine, f"checkpoint:{own.checkpoint}")
    assert earlier.checkpoint == own.checkpoint
    why = {node.seq: node.kind for node in engine.why(earlier.trained or 0).nodes}
    assert "content" in {why.get(record.seq) for record in told(engine)}  # those taught it when it was trained
    assert replay(engine.runtime.reader).events == engine.runtime.state.head


def pickled(folder: Path) -> Path:
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return folder


REFUSED: dict[str, tuple[Callable[[Path, Path], dict[str, Any]], type[Exception], str]] = {
    "nothing there": (lambda _, tmp: {"weights": str(tmp / "none")}, ConfigError, "none"),
    "no model": (lambda _, tmp: {"weights": str(tmp)}, ConfigError, "model"),
    "a pickle": (lambda _, tmp: {"weights": str(pickled(tiny_model(tmp / "p")))}, ConfigError, "safetensors"),
    "active already": (lambda models, _: {"weights": str(models / "base")}, InputRefused, "active already"),
    "not in this log": (lambda _, __: {"weights": "checkpoint:0123"}, ConfigError, "no checkpoint is called"),
    "a recipe too": (
        lambda models, _: {"weights": str(models / "other"), "recipe": {"epochs": 2}},
        InputRefused,
        "judged as they are",
    ),
    "no text": (lambda _, __: {"weights": 3}, InputRefused, "weights"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_judged_is_refused_and_nothing_recorded(
    engine: Engine, models: Path, tmp_path: Path, name: str
) -> None:
    given, error, message = REFUSED[name]
    head = engine.runtime.state.head
    with pytest.raises(error, match=message):
        execute(engine.runtime, {"type": "self_train", **given(models, tmp_path)}, source="test")
    assert engine.runtime.state.head == head


def test_workspace_without_a_model_has_nothing_to_judge_by(tmp_path: Path, models: Path) -> None:
    runtime = code_only(tmp_path)
    with pytest.raises(ConfigError, match="has no model"):
        execute(runtime, {"type": "self_train", "weights": str(models / "other")}, source="test")
    runtime.close()


def test_command_line_has_weights_judged_and_exits_by_the_verdict(engine: Engine, models: Path) -> None:
    root = engine.runtime.workspace.root
    done = instar("train", "--weights", str(models / "other"), "--note", "from the cluster", cwd=root)
    assert done.returncode == 5, done.stderr
    assert b"brought: MRR" in done.stdout
    assert b"rejected" in done.stdout
    done = instar("lineage", cwd=root)
    assert b" brought by event " in done.stdout.splitlines()[-1], done.stdout
    done = instar("train", "--weights", str(models / "none"), cwd=root)
    assert done.returncode in {1, 2}
    assert str(models / "none").encode() in done.stderr


# ---- the log is checked --------------------------------------------------------------------------------------------

BROUGHT = digest_of(b"brought")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    found = Story(tmp_path_factory.mktemp("story"))
    found.outside(*(found.feedback(number) for number in range(4)))
    found.start()
    found.settle()
    found.outside(e.TaskQueued(task="self_train", source="t", checkpoint=BROUGHT))
    while found.state.waiting:
        found.start()
        if found.state.machine == "Flagged":
            found.flag()
            found.dataset(40)
            found.train(e.Interval(0.1, 0.05, 0.15), BROUGHT)
            found.judge()
        else:
            found.settle()
    return found.log


def trained_row(rows: Rows) -> dict[str, Any]:
    return next(row for row in rows if row["type"] == "CheckpointTrained")


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "other weights": (lambda event: event.update(checkpoint=Digest("c" * 64)), "checkpoint"),
    "said to be trained": (lambda event: event.update(brought=None), "brought"),
    "another order": (lambda event: event.update(brought=2), "brought"),
    "steps": (lambda event: event.update(steps=3), "steps"),
}


def test_log_with_brought_weights_replays(story: EventLog) -> None:
    assert story.state.checkpoint == BROUGHT
    assert replay(story.reader, level=Level.DECISIONS).events == story.state.head


@pytest.mark.parametrize("name", FORGERIES)
def test_log_that_says_otherwise_of_brought_weights_diverges(story: EventLog, tmp_path: Path, name: str) -> None:
    change, field = FORGERIES[name]
    with pytest.raises(ReplayDiverged) as caught:
        replay(
            forged(story, tmp_path / "forged", lambda rows: change(trained_row(rows)["event"])), level=Level.DECISIONS
        )
    assert caught.value.field == field


def test_trained_weights_cannot_be_said_to_be_brought(tmp_path: Path) -> None:
    from tests.engine.decided_log import decided_log

    log = decided_log(tmp_path / "true")
    forgery = forged(log, tmp_path / "forged", lambda rows: trained_row(rows)["event"].update(brought=2))
    with pytest.raises(ReplayDiverged) as caught:
        replay(forgery, level=Level.DECISIONS)
    assert caught.value.field == "brought"
