"""A workspace that was set up without a model is given one later; a rollback leads back to where it had none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from instar import Engine
from instar.engine.cli.main import main
from instar.engine.initialize import adopt_model, initialize, model_of
from instar.engine.replay import Level, replay
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings
from instar.engine.worker import Worker
from instar.fsm.errors import ConfigError, IllegalTransition, LogUnavailable, RollbackRefused
from instar.fsm.events import DatasetGenerated, ModelAdopted, SignalEmbedded
from instar.fsm.words import Seq
from instar.store.locate import PACKAGED
from tests.engine.agents import agent_folder, code_only
from tests.engine.tiny_model import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose name would colour a terminal."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny\x1b[31m")


def told(engine: Engine, text: str) -> None:
    engine.feedback(task_type="find", input=text, output="x", reference="y", outcome="fail")
    Worker(engine.runtime).run_once()


def remembered(engine: Engine) -> set[str]:
    """The feedback that memory holds."""
    return {row.text.splitlines()[0] for row in engine.search("it", k=20) if row.kind == "failure"}


def test_what_comes_after_it_is_remembered_and_all_failures_are_rows(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = agent_folder(tmp_path / "agent")
    (root / "instar.toml").write_text(f"model = {json.dumps(str(model))}\n")
    initialize(root, with_model=False)
    with Engine(root, worker=False) as engine:
        told(engine, "before it")
        assert engine.runtime.state.checkpoint is None
        before = engine.runtime.reader.head()
    assert main(["init", "-C", str(root)]) == 0
    assert "It has no model; `instar init --model NAME` gives it one." in capsys.readouterr().out
    assert main(["init", "--model", str(model), "-C", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "has a model from event" in shown
    assert "\x1b" not in shown
    assert main(["init", "--model", str(model), "-C", str(root)]) == 0
    assert "nothing done." in capsys.readouterr().out
    assert main(["init", "--model", PACKAGED, "-C", str(root)]) == 2
    assert "`instar train --weights` has another one judged" in capsys.readouterr().err
    with Engine(root, worker=False) as engine:
        runtime = engine.runtime
        (adopted,) = runtime.reader.tail(1, [ModelAdopted])
        assert runtime.state.checkpoint == adopted.event.checkpoint  # type: ignore[union-attr]
        assert model_of(runtime.reader) == str(model)
        told(engine, "after it")
        (embedded,) = runtime.reader.tail(1, [SignalEmbedded])
        assert isinstance(embedded.event, SignalEmbedded)
        assert embedded.event.space == runtime.state.checkpoint
        assert remembered(engine) == {"after it"}
        (made,) = runtime.reader.tail(1, [DatasetGenerated])
        assert isinstance(made.event, DatasetGenerated)
        assert b"before it" in runtime.blobs.get(made.event.dataset)
        for words in (["lineage"], ["log"], ["show", str(adopted.seq)]):
            assert main([*words, "-C", str(root)]) == 0
            shown = capsys.readouterr().out
            assert "tiny" in shown
            assert "\x1b" not in shown
        why = engine.why(f"checkpoint:{runtime.state.checkpoint}")
        assert [node.seq for node in why.nodes] == [adopted.seq]
        assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()
        link = runtime.workspace.active_checkpoint
        assert link.is_symlink()
        with pytest.raises(RollbackRefused, match="memory has rows"):
            engine.rollback(before, only=["checkpoint"])
        engine.rollback(before)
        assert (runtime.state.checkpoint, link.is_symlink(), model_of(runtime.reader)) == (None, False, "")  # type: ignore[comparison-overlap]
        told(engine, "without it again")
        assert adopt_model(root, settings=runtime.settings) is not None
        assert link.is_symlink()
        told(engine, "with it again")
        assert remembered(engine) == {"with it again"}
        assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()


def test_model_that_is_there_is_not_exchanged(tmp_path: Path, model: Path) -> None:
    root = agent_folder(tmp_path / "agent")
    settings = Settings(model=str(model))
    initialize(root, settings=settings)
    assert adopt_model(root, settings=settings) is None
    runtime = Runtime(root, actor="test", settings=settings)
    assert runtime.state.checkpoint is not None
    head = runtime.reader.head()
    with pytest.raises(IllegalTransition, match="there is a model already"):
        runtime.log.append(ModelAdopted(checkpoint=runtime.state.checkpoint, model="m"))
    assert runtime.reader.head() == head
    runtime.close()


def test_what_is_no_model_or_finds_no_rest_is_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = code_only(tmp_path / "agent")
    root, head = runtime.workspace.root, runtime.reader.head()
    with pytest.raises(ConfigError, match="there is no model folder"):
        adopt_model(root, settings=Settings(model=str(tmp_path / "nothing")))
    monkeypatch.setattr("instar.engine.initialize._TRIES", 2)
    monkeypatch.setattr("instar.engine.initialize._PAUSE_S", 0.0)
    loop_waits(runtime)
    with pytest.raises(LogUnavailable, match="not at rest"):
        adopt_model(root, settings=Settings(model=str(model)))
    assert not list(runtime.reader.read(Seq(head + 1), types=[ModelAdopted]))
    runtime.close()


def loop_waits(runtime: Runtime) -> None:
    """Begins a cycle, as a worker that is still at it."""
    from instar.engine.loop import Loop
    from tests.store.logs import feedback

    runtime.log.append(feedback(1))
    assert Loop(runtime).step()
