"""A trainer, an embedder and an executor of another package serve, and what they give is checked."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from instar import Engine
from instar.engine.embedder import MiniLMEmbedder
from instar.engine.ports import Pair, Progress, TrainRequest
from instar.engine.reexecution import scratch
from instar.engine.reexecution.reexecute import reexecute
from instar.engine.tool_executor import execute
from instar.engine.trainer import MiniLMTrainer
from instar.engine.training.foreign import ForeignTrainer
from instar.engine.training.recipe import Recipe
from instar.engine.worker import Worker
from instar.fsm import events as e
from instar.fsm.errors import ExtensionFailed, InputRefused
from instar.fsm.words import Digest
from tests.crash.lessons import rows
from tests.engine.agents import PROJECT, agent_folder
from tests.engine.tiny_model import tiny_model

SETTINGS = """
model = "{model}"
[policy]
retrain = {{ rows_min = 8, per_hour_max = 100 }}
gate = {{ gain_min = -100.0, heldout_min = 2, forgetting_max = 1.0 }}
[training]
threads = 1
[training.recipe]
tokens_max = 32
general = 0.0
"""
PLUGINS = """
[plugins]
trainer = "acme_ports:trainer"
embedder = "acme_ports:embedder"
executor = "acme_ports:executor"
"""
NOWHERE = Digest("0" * 64)
SEEN: list[TrainRequest] = []


class Trainer:
    """Takes a model that was made elsewhere for what it trained."""

    name = "acme-trains"
    gives: Callable[[TrainRequest, Path], Any]

    def train(self, request: TrainRequest, progress: Progress) -> Any:
        SEEN.append(request)
        for step in (1, 2):
            progress(step, 2, 1.0 / step)
        given = type(self).gives(request, Path(shutil.copytree(self.other, request.scratch / "made")))
        if isinstance(given, float):
            progress(3, 3, given)
        return given

    other: Path


class Embedder:
    """Runs a checkpoint by torch as it is, a little off."""

    name = "acme-embeds"

    def load(self, folder: Path) -> Callable[[list[str]], NDArray[np.float32]]:
        model = MiniLMEmbedder(folder, NOWHERE, precision="float32")
        return lambda texts: model.embed(texts) * np.float32(3.0)


def ran(command: tuple[str, ...], cwd: Path, timeout_s: float) -> tuple[int, bytes]:
    return (7, f"{command[-1]} in {cwd.name} for {timeout_s:g} s".encode())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "base")
    tiny_model(folder / "other", seed=2)
    return folder


@pytest.fixture
def ports(models: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    module = ModuleType("acme_ports")
    ports = SimpleNamespace(trainer=Trainer(), embedder=Embedder(), executor=SimpleNamespace(name="acme", run=ran))
    monkeypatch.setattr(Trainer, "gives", staticmethod(lambda _request, folder: folder), raising=False)
    monkeypatch.setattr(Trainer, "other", models / "other", raising=False)
    module.__dict__.update(vars(ports))
    monkeypatch.setitem(sys.modules, "acme_ports", module)
    SEEN.clear()
    return ports


def agent(tmp_path: Path, models: Path, plugins: str = PLUGINS) -> Engine:
    root = agent_folder(tmp_path / "agent")
    (root / "instar.toml").write_text(SETTINGS.format(model=models / "base") + plugins)
    engine = Engine(root, worker=False).start()
    engine.feedback_many(
        {"task_type": "find", "output": "x", "outcome": "fail", "source": "user", **_told(row)} for row in rows(24)
    )
    Worker(engine.runtime).run_once()
    return engine


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("input", "reference", "group")}


def the(engine: Engine, kind: type) -> list[Any]:
    return [one.event for one in engine.events() if isinstance(one.event, kind)]


def test_trainer_and_embedder_of_others_serve_and_an_audit_asks_them_again(
    tmp_path: Path, models: Path, ports: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent(tmp_path, models) as engine:
        assert the(engine, e.EffectFailed) == []
        (trained,) = the(engine, e.CheckpointTrained)
        assert trained.recipe["trainer"] == "acme-trains"
        assert (trained.loss, trained.steps) == ((1.0, 0.5), 2)
        assert trained.brought is None
        assert trained.environment.libraries["trainer acme-trains"] == "of no package"
        assert trained.after.pairs > 0  # measured here: it was shown no pair that judges
        assert SEEN[0].heldout == ()
        assert SEEN[0].rows
        assert engine.status().checkpoint == trained.checkpoint
        rooms = [one.environment.libraries for one in the(engine, e.SignalEmbedded)]
        assert {libraries["embedder acme-embeds"] for libraries in rooms} == {"of no package"}

        # The audit finds both by the names that the log knows.
        monkeypatch.setattr("instar.engine.embedding.models.load_extension", lambda _group, _name: ports.trainer)
        monkeypatch.setattr("instar.engine.embedding.foreign.load_extension", lambda _group, _name: ports.embedder)
        found = reexecute(engine.runtime.reader, ["train", "embed"]).findings
        assert {one.type: one.verdict for one in found} == {
            "CheckpointTrained": "same", "MemoryReembedded": "same", "SignalEmbedded": "same"
        }  # fmt: skip
        assert len(SEEN) == 2


def test_samples_of_the_page_serve_as_printed(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    page = (PROJECT / "docs" / "extensions.md").read_text().split("## Trainers")[1]
    code, settings = (re.findall(rf"```{language}\n(.*?)```", page, re.S)[0] for language in ("python", "toml"))
    (tmp_path / "acme_heavy.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    request.addfinalizer(lambda: sys.modules.pop("acme_heavy", None))
    with agent(tmp_path, models, plugins=settings) as engine:
        assert the(engine, e.EffectFailed) == []
        assert {one.recipe["trainer"] for one in the(engine, e.CheckpointTrained)} == {"acme-trains"}
        assert all("embedder acme-embeds" in one.environment.libraries for one in the(engine, e.SignalEmbedded))
        ran = engine.execute({"type": "shell", "command": "echo here; exit 3"}).captured
        assert ran is not None
        assert (ran.exit_code, ran.output) == (3, b"here\n")
        late = engine.execute({"type": "shell", "command": "sleep 9", "timeout_s": 0.1}).captured
        assert late is not None
        assert late.timed_out


def test_embedder_that_gives_other_vectors_is_not_used(tmp_path: Path, models: Path, ports: SimpleNamespace) -> None:
    drawn = np.random.default_rng(0)
    ports.embedder.load = lambda _folder: lambda texts: drawn.standard_normal((len(texts), 32))
    with agent(tmp_path, models) as engine:
        assert the(engine, e.SignalEmbedded)
        assert not any(
            "embedder" in name for one in the(engine, e.SignalEmbedded) for name in one.environment.libraries
        )


@pytest.mark.parametrize(
    ("gives", "why"),
    [
        (lambda _request, _folder: None, "gave None: have it return the folder"),
        (lambda request, _folder: request.base, "below request.scratch"),
        (lambda _request, folder: (folder / "model.safetensors").unlink() or folder, "left no sound model"),
        (lambda request, _folder: request.rows[9999], "IndexError"),
        (lambda _request, _folder: float("nan"), "the loss nan"),
    ],
)
def test_trainer_that_leaves_no_model_fails(
    tmp_path: Path, models: Path, ports: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, gives: Any, why: str
) -> None:
    monkeypatch.setattr(Trainer, "gives", staticmethod(gives))
    request = TrainRequest(
        base=models / "base",
        base_digest=NOWHERE,
        rows=[Pair("a question", "an answer")],
        heldout=[],
        corpus=[],
        seed=1,
        recipe=Recipe(),
        scratch=tmp_path,
    )
    with pytest.raises(ExtensionFailed, match="the trainer acme-trains") as told:
        ForeignTrainer(ports.trainer, MiniLMTrainer()).train(request, lambda *_: None)
    assert why in str(told.value)


def test_executor_of_others_runs_shell_tasks_and_its_failure_is_theirs(tmp_path: Path, ports: SimpleNamespace) -> None:
    root = agent_folder(tmp_path / "agent")
    (root / "instar.toml").write_text('[plugins]\nexecutor = "acme_ports:executor"\n')
    from instar.engine.initialize import initialize

    initialize(root, with_model=False)
    with Engine(root, worker=False) as engine:
        done = engine.execute({"type": "shell", "command": "ls", "timeout_s": 9})
        assert done.captured is not None
        assert (done.captured.exit_code, done.captured.output) == (7, b"ls in agent for 9 s")
        ports.executor.run = lambda *_: (0, b"x" * 5_000_000)
        long = engine.execute({"type": "shell", "command": "ls"}).captured
        assert long is not None
        assert len(long.output) <= 4 * 1024 * 1024
        assert b" bytes left out" in long.output
        ports.executor.run = lambda *_: "fine"
        failed = engine.execute({"type": "shell", "command": ["ls", "-l"]}).captured
        assert failed is not None
        assert failed.exit_code == 127
        assert b"the executor acme gave 'fine'" in failed.output
        assert [task.note for task in the(engine, e.TaskQueued)] == ["run by acme"] * 3
        assert [(told.exit_code, told.outcome) for told in the(engine, e.FeedbackReceived)] == [
            (7, "fail"),
            (0, "pass"),
            (127, "fail"),
        ]
        with pytest.raises(InputRefused, match="no package offers the trainer 'nobody'"):
            execute(engine.runtime, {"type": "self_train", "recipe": {"trainer": "nobody"}}, source="test")


def test_audit_reads_the_embedder_out_of_what_was_recorded() -> None:
    libraries = {"torch": "2", "embedder acme-embeds": "acme 1.0"}
    assert scratch._backend(e.Environment(engine="1", python="3", libraries=libraries)) == "acme-embeds"
    assert scratch._backend(e.Environment(engine="1", python="3", libraries={"torch": "2"})) == "torch"
