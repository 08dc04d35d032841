"""Pairs that are learnt at once, by another recipe, cancelled, and asked for again."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from instar import Checkpoint, Engine
from instar.engine.effects.learning import origin_of
from instar.engine.embedding.models import active_space
from instar.engine.face.learning import outcome_of
from instar.engine.replay import replay
from instar.engine.tool_executor import execute
from instar.engine.training.cancelling import NAME, ask_to_cancel
from instar.engine.training.probes import parse_probes
from instar.engine.training.recipe import parse_recipe
from instar.engine.worker import Worker
from instar.fsm.decisions import progress_due
from instar.fsm.errors import ConfigError, InputRefused
from instar.fsm.events import (
    CheckpointTrained,
    EffectFailed,
    TaskQueued,
    TrainingProgressed,
    WorkspaceInitialized,
)
from instar.fsm.words import Seq, State
from tests.crash.lessons import rows
from tests.engine.agents import agent_folder, code_only, instar
from tests.engine.tiny_model import tiny_model

SETTINGS = """
model = "{model}"
[policy]
retrain = {{ rows_min = 8 }}
gate = {{ gain_min = -100.0, heldout_min = 2, forgetting_max = 1.0 }}
[training]
threads = 1
probes = "probes.jsonl"
[training.recipe]
epochs = 2
batch = 16
tokens_max = 32
general = 0.0
"""
PAIRS = [{"input": row["input"], "output": row["reference"], "group": row.get("group")} for row in rows(24)]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Checkpoint]:
    folder = tmp_path_factory.mktemp("learn")
    root = agent_folder(folder / "agent")
    (root / "instar.toml").write_text(SETTINGS.format(model=tiny_model(folder / "model")))
    (root / "probes.jsonl").write_text('{"input": "hello", "output": "hi", "ability": "greetings"}\n')
    engine = Engine(root, worker=False).start()
    return engine, engine.learn(PAIRS, recipe={"epochs": 1, "mix": 1}, note="a first lesson")


def test_pairs_are_learnt_by_the_ordered_recipe_and_judged(learnt: tuple[Engine, Checkpoint]) -> None:
    engine, found = learnt
    assert found.promoted, found.reason
    assert found.trained is not None
    assert engine.space == found.checkpoint
    trained = engine.runtime.reader.get(found.trained).event
    assert isinstance(trained, CheckpointTrained)
    assert (trained.recipe["epochs"], trained.recipe["mix"], trained.recipe["batch"]) == (1, 1.0, 16)
    assert {one.name for one in found.abilities} >= {"general", "greetings"}
    task = engine.runtime.reader.get(found.task).event
    assert isinstance(task, TaskQueued)
    assert (task.recipe, task.note) == ({"epochs": 1, "mix": 1}, "a first lesson")
    assert len([one for one in engine.events() if isinstance(one.event, CheckpointTrained)]) == 1
    assert replay(engine.runtime.reader).events == engine.runtime.state.head


def test_why_leads_from_the_checkpoint_to_each_pair(learnt: tuple[Engine, Checkpoint]) -> None:
    engine, found = learnt
    why = engine.why(f"checkpoint:{found.checkpoint[:12]}" if found.checkpoint else "")
    told = {int(pair) for pair in range(found.task + 1, found.task + 1 + len(PAIRS))}
    assert told <= {node.seq for node in why.nodes}


def test_how_far_a_training_has_come_is_in_the_log(learnt: tuple[Engine, Checkpoint]) -> None:
    engine, found = learnt
    assert found.trained is not None
    trained = engine.runtime.reader.get(found.trained)
    assert isinstance(trained.event, CheckpointTrained)
    steps = trained.event.steps
    told = [one for one in engine.runtime.reader.read(1, found.trained) if isinstance(one.event, TrainingProgressed)]
    assert [(one.event.step, one.event.steps) for one in told if isinstance(one.event, TrainingProgressed)] == [
        (step, steps) for step in range(1, steps + 1) if progress_due(step, steps)
    ]
    last = told[-1].event
    assert isinstance(last, TrainingProgressed)
    assert last.loss == trained.event.loss[-1]
    assert [(one.cause, one.state_after) for one in told] == [(trained.cause, State.TRAINING)] * len(told)
    assert {edge.parent for edge in engine.why(told[0].seq).edges if edge.child == told[0].seq} == {trained.cause}


def test_cancelled_training_is_recorded_and_can_be_ordered_again(learnt: tuple[Engine, Checkpoint]) -> None:
    engine, _ = learnt
    runtime = engine.runtime
    before = runtime.state.checkpoint

    def cancel(effect: str, step: int, steps: int, note: str) -> None:
        if effect == "train" and step == 1:
            ask_to_cancel(runtime.workspace, runtime.state)

    runtime.progress.listen(cancel)
    ordered = execute(runtime, {"type": "self_train", "recipe": {"epochs": 3}}, source="test")
    Worker(runtime).run_once()
    found = outcome_of(runtime.reader, Seq(ordered.event))
    assert found.verdict == "failed"
    assert found.reason.startswith("cancelled on request after step 1 of ")
    failures = [one.event for one in engine.events() if isinstance(one.event, EffectFailed)]
    assert [failure.cancelled for failure in failures] == [True]
    progressed = engine.runtime.reader.read(ordered.event, types=[TrainingProgressed])
    assert [one.event.step for one in progressed if isinstance(one.event, TrainingProgressed)] == [1]
    assert (runtime.state.machine, runtime.state.waiting, runtime.state.checkpoint) == (State.IDLE, (), before)
    assert not (runtime.workspace.home / NAME).exists()
    assert not list(runtime.workspace.scratch.glob("train-*"))
    runtime.progress.listen(lambda effect, step, steps, note: None)
    again = engine.learn(PAIRS[:1], recipe={"epochs": 1})
    assert again.trained is not None
    assert replay(runtime.reader).events == runtime.state.head


def test_general_texts_stay_where_the_first_checkpoint_has_them(
    learnt: tuple[Engine, Checkpoint], caplog: pytest.LogCaptureFixture
) -> None:
    engine, _ = learnt
    runtime = engine.runtime
    first = runtime.reader.get(Seq(1)).event
    assert isinstance(first, WorkspaceInitialized)
    assert first.checkpoint
    trained = [one.event for one in engine.events() if isinstance(one.event, CheckpointTrained)]
    assert {event.origin for event in trained} == {None}  # nothing was held
    active = active_space(runtime.state)
    assert active != first.checkpoint
    found = engine.learn(PAIRS, recipe={"epochs": 1, "general": 1})
    assert found.trained is not None
    event = runtime.reader.get(found.trained).event
    assert isinstance(event, CheckpointTrained)
    assert (event.base, event.origin) == (active, first.checkpoint)
    assert origin_of(runtime, first.checkpoint) == first.checkpoint
    shutil.rmtree(runtime.workspace.checkpoints / first.checkpoint)
    with sqlite3.connect(runtime.workspace.log) as connection:
        connection.execute("DELETE FROM blobs WHERE digest = ?", (first.checkpoint,))
    connection.close()
    assert origin_of(runtime, event.checkpoint) == event.checkpoint
    assert f"checkpoint {first.checkpoint[:12]} is gone" in caplog.text


def test_why_nothing_was_learnt_is_told_with_what_became_of_the_pairs(tmp_path: Path) -> None:
    tiny_model(tmp_path / "model")
    root = agent_folder(tmp_path / "agent")
    (root / "instar.toml").write_text(
        f'model = "{tmp_path / "model"}"\n[policy]\nretrain = {{ heldout_share = 0.9, validation_share = 0.05 }}\n'
    )
    with Engine(root, worker=False) as engine:
        found = engine.learn([("open a file", "c")])
        assert (found.verdict, found.reason) == (
            "not trained",
            "there is no row to learn. Of all pairs so far the data set has 0 to learn, 1 held out to judge by, "
            "0 to validate by, 0 that went well. `instar dataset show` lists them.",
        )
        found = engine.learn([("open a file", "c"), ("same", "same")])
        assert "merged with others: 1 duplicate; left out: 1 input equals output." in found.reason


def test_order_that_cannot_be_followed_is_refused_and_nothing_recorded(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    head = runtime.state.head
    engine = Engine(tmp_path / "agent", worker=False).start()
    for pairs, recipe, told in (
        ([], {}, "no pair"),
        ([("a", "")], {}, "output is empty"),
        ([("", "b")], {}, "input is empty"),
        ([("a", "b", "c")], {}, "pair 0"),
        ([{"input": "a"}], {}, "pair 0"),
        ([{"input": "a", "output": "b", "negative": "c"}], {}, "pair 0"),
        ([("a", "b")], {"epoch": 3}, "recipe"),
        ([("a", "b")], {"rate": -1}, "rate"),
    ):
        with pytest.raises(InputRefused, match=told):
            engine.learn(pairs, recipe=recipe)  # type: ignore[arg-type]
    assert runtime.state.head == head
    with pytest.raises(ConfigError, match="no training is in progress"):
        ask_to_cancel(runtime.workspace, runtime.state)
    found = engine.learn([("a", "b")])
    assert (found.verdict, found.reason) == ("not trained", "this workspace has no model")
    engine.stop()
    runtime.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pairs": 5}, "pairs is of the type int"),
        ({"pairs": {"a": "b"}}, "the pairs are dict"),
        ({"pairs": "ab"}, "the pairs are str"),
        ({"pairs": {("a", "b")}}, "the pairs are set"),
        ({"pairs": [("a", "b"), (" ", "c")]}, "pair 1: feedback refused: input is empty"),
        ({"pairs": ["ab", "cd"]}, "pair 0 refused: str is no pair"),
        ({"note": 5}, "note is of the type int"),
        ({"source": None}, "source is of the type NoneType"),
        ({"recipe": "epochs=2"}, "the recipe is str"),
    ],
)
def test_arguments_of_other_types_are_refused_in_words(tmp_path: Path, arguments: dict[str, object], said: str) -> None:
    code_only(tmp_path / "agent").close()
    with Engine(tmp_path / "agent", worker=False) as engine:
        head = engine.status().head
        with pytest.raises(InputRefused, match=said):
            engine.learn(**{"pairs": [("a", "b")], **arguments})  # type: ignore[arg-type]
        assert engine.status().head == head


def test_recipe_is_read_from_text_and_files(tmp_path: Path) -> None:
    expected = {"epochs": 3, "rate": 1e-4, "loss": "pairs"}
    assert parse_recipe("epochs=3, rate=1e-4,loss=pairs") == expected
    (tmp_path / "r.toml").write_text('epochs = 3\nrate = 1e-4\nloss = "pairs"\n')
    assert parse_recipe(str(tmp_path / "r.toml")) == expected
    (tmp_path / "r.json").write_text('{"epochs": 3, "rate": 1e-4, "loss": "pairs"}')
    assert parse_recipe(str(tmp_path / "r.json")) == expected
    assert parse_recipe("") == {}
    (tmp_path / "latin.toml").write_bytes(b'loss = "\xff"\n')
    (tmp_path / "latin.json").write_bytes(b'{"loss": "\xff"}')
    for wrong in ("latin.toml", "latin.json"):
        with pytest.raises(ValueError, match=rf"{wrong} cannot be read"):
            parse_recipe(str(tmp_path / wrong))
    with pytest.raises(ValueError, match="epochs is given twice"):
        parse_recipe("epochs=1, rate=1, epochs = 1")
    (tmp_path / "twice.json").write_text('{"epochs": 1, "rate": 1, "epochs": 2}')
    with pytest.raises(ValueError, match="epochs is given twice"):
        parse_recipe(str(tmp_path / "twice.json"))
    for content in ('{"epochs": NaN}', '{"epochs": [1]}', "[]", '{"epochs": 1', '{"rate": 1e999}'):
        (tmp_path / "odd.json").write_text(content)
        with pytest.raises(ValueError, match=r"odd\.json cannot be read"):
            parse_recipe(str(tmp_path / "odd.json"))
    for wrong in ("epochs", str(tmp_path / "none.toml")):
        with pytest.raises(ValueError, match=r"epochs|cannot be read"):
            parse_recipe(wrong)


def test_probes_that_cannot_be_used_are_refused() -> None:
    found = parse_probes(b'{"input":"a","output":"b"}\n\n{"input":"c","output":"d","ability":"x"}\n', "p")
    assert {name: len(pairs) for name, pairs in found.items()} == {"probes": 1, "x": 1}
    for line in (b'{"input":"a"}', b"[]", b"\xff", b'{"input":"a","output":"b","ability":"own"}'):
        with pytest.raises(ConfigError, match="line 1 of p"):
            parse_probes(line, "p")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("", "holds no pair"), ("{}", "line 1 of probes.jsonl")],
    ids=["absent", "empty", "broken"],
)
def test_order_is_refused_where_its_probes_cannot_be_measured_on(
    tmp_path: Path, content: str | None, said: str
) -> None:
    code_only(tmp_path / "agent").close()
    (tmp_path / "agent" / "instar.toml").write_text('[training]\nprobes = "probes.jsonl"\n')
    if content is not None:
        (tmp_path / "agent" / "probes.jsonl").write_text(content)
    with Engine(tmp_path / "agent", worker=False) as engine:
        head = engine.status().head
        with pytest.raises(ConfigError, match=said):
            engine.learn([("a", "b")])
        with pytest.raises(ConfigError, match=said):
            engine.execute({"type": "self_train"})
        assert engine.status().head == head


def test_command_line_refuses_a_recipe_that_cannot_be_used(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    run = instar("train", "--recipe", "rate=fast", "--queue", cwd=tmp_path / "agent")
    assert run.returncode != 0
    assert b"rate" in run.stderr
    queued = instar("train", "--recipe", "epochs=3", "--queue", "--json", cwd=tmp_path / "agent")
    assert queued.returncode == 0, queued.stderr
    cancelled = instar("train", "--cancel", cwd=tmp_path / "agent")
    assert cancelled.returncode != 0
    assert b"no training is in progress" in cancelled.stderr
