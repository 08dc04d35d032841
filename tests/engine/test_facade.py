"""The engine as an agent embeds it: a worker beside it, and what becomes of both."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import instar
from instar.engine import service
from instar.engine.initialize import initialize
from instar.engine.service import Client
from instar.engine.settings import load_settings
from instar.fsm.errors import ConfigError, EffectFailedError, InputRefused, InstarError, ServiceError, WorkerBusy
from instar.fsm.events import ChangeObserved, EffectFailed, RetrainFlagged, TaskQueued
from tests.crash.lessons import rows
from tests.engine.agents import agent_folder, contents
from tests.engine.test_beginnings import KILLS
from tests.engine.test_kernel import GOOD

SETTINGS = """
[watch]
rescan_s = 1
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[instar.Engine]:
    folder = agent_folder(tmp_path_factory.mktemp("facade") / ("deep/" * 12) / "agent")
    (folder / "instar.toml").write_text(SETTINGS)
    with instar.Engine(folder) as engine:
        yield engine


def until(engine: instar.Engine, found: object, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():  # type: ignore[operator]
        assert time.monotonic() < deadline, engine.events()[-5:]
        time.sleep(0.05)


@pytest.mark.model
def test_feedback_is_embedded_and_found_again(engine: instar.Engine) -> None:
    engine.feedback_many(rows(6))
    status = engine.wait(timeout_s=120)
    assert status.state == "Idle"
    assert status.worker is True
    assert {row["task_type"] for row in status.rewards} == {"lookup"}
    found = engine.search("encode bytes as base 64", k=3)
    assert len(found) == 3
    assert found[0].similarity >= found[1].similarity >= found[2].similarity
    assert engine.search("x", kinds=["unit"]) == []


@pytest.mark.model
def test_vectors_come_from_the_worker_and_have_length_one(engine: instar.Engine) -> None:
    vectors = engine.embed(["open a file", "close a file", "x" * 50_000])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert engine.space is not None
    client = Client(engine.runtime.workspace.socket)
    assert client.embed(["open a file"])[0] == engine.space


@pytest.mark.model
def test_space_is_called_as_checkpoints_are_elsewhere(engine: instar.Engine) -> None:
    assert engine.space is not None
    wanted = engine.embed(["open a file"])
    for name in ("active", "base", engine.space[:8], f"checkpoint:{engine.space}"):
        assert np.array_equal(engine.embed(["open a file"], space=name), wanted), name
    with instar.Engine(engine.root, worker=False) as alone:
        assert np.allclose(alone.embed(["open a file"], space=engine.space[:8]), wanted, atol=1e-3)
        for asked in (engine, alone):
            for wrong in ("f" * 64, engine.space[:-1] + "x", "actve", ""):
                with pytest.raises(ConfigError, match="no checkpoint is called"):
                    asked.embed(["open a file"], space=wrong)
    with pytest.raises(ConfigError, match="no checkpoint is called 'actve'"):
        Client(engine.runtime.workspace.socket).embed(["x"], "actve")


@pytest.mark.model
def test_what_is_no_text_is_refused_by_its_place(engine: instar.Engine) -> None:
    with instar.Engine(engine.root, worker=False) as alone:
        for asked in (engine, alone):
            with pytest.raises(ServiceError, match="text 1 cannot be embedded: it is no text"):
                asked.embed(["ok", 5])  # type: ignore[list-item]
            for one in ("abc", b"abc"):
                with pytest.raises(InputRefused, match=f"one {type(one).__name__}: give a list"):
                    asked.embed(one)  # type: ignore[arg-type]
            assert asked.embed(text for text in ("a", "b")).shape == (2, 384)
            assert asked.embed([]).shape == (0, 384)


@pytest.mark.model
def test_many_texts_are_asked_for_in_parts(engine: instar.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {number}" for number in range(10)]
    whole = engine.embed(texts)
    for name, most in (("PART_TEXTS", 3), ("PART_CHARS", 15)):
        monkeypatch.setattr(service, name, most)
        assert np.allclose(engine.embed(texts), whole, atol=1e-3)
        parts = list(service._parts(texts))
        assert len(parts) > 3
        assert [first + at for first, part in parts for at in range(len(part))] == list(range(10))
        assert [text for _, part in parts for text in part] == texts


@pytest.mark.model
def test_edit_is_seen_by_itself_and_flagged(engine: instar.Engine) -> None:
    (engine.root / "heuristics.py").write_text("def score(a, b):\n    return [a] * len(b)\n")

    def flagged() -> bool:
        flags = [r.event for r in engine.events() if isinstance(r.event, RetrainFlagged)]
        return any(trigger.policy == "code_mutation" for flag in flags for trigger in flag.triggers)

    until(engine, flagged)
    engine.wait(timeout_s=120)
    assert any(isinstance(record.event, ChangeObserved) for record in engine.events())
    assert engine.runtime.workspace.retrain_trigger.is_file()


@pytest.mark.model
def test_trigger_that_another_program_drops_is_taken(engine: instar.Engine) -> None:
    path = engine.runtime.workspace.retrain_trigger
    path.write_text('{"trigger": "cron", "note": "nightly"}')

    def taken() -> bool:
        return any(isinstance(r.event, TaskQueued) and r.event.source == "trigger_file:cron" for r in engine.events())

    until(engine, taken)
    engine.wait(timeout_s=120)
    path.write_text("{broken")
    until(engine, lambda: any(type(r.event).__name__ == "InputSkipped" for r in engine.events()))


def killed_worker(engine: instar.Engine) -> None:
    assert engine._process is not None
    os.kill(engine._process.pid, signal.SIGKILL)
    engine._process.wait()


def test_killed_worker_leaves_the_agent_alive(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    with instar.Engine(folder) as engine:
        until(engine, lambda: engine.status().worker)
        first = engine._process
        killed_worker(engine)
        head = engine.feedback(task_type="lookup", input="after the kill")
        assert engine.wait(timeout_s=120).worker
        assert engine._process is not first
        assert engine.status().head > head
        assert engine.replay().events == engine.status().head


@pytest.mark.model
def test_vectors_are_had_after_a_worker_was_killed(engine: instar.Engine) -> None:
    killed_worker(engine)
    assert len(engine.embed(["by a second one"])) == 1
    assert engine._process is not None
    assert engine._process.poll() is None
    killed_worker(engine)
    left = engine.runtime.workspace.socket
    engine.stop()
    assert left.exists()
    engine.start()
    assert len(engine.embed(["at once, while the socket of the one that was killed is there"])) == 1
    engine.wait(timeout_s=120)
    assert engine.replay().events == engine.status().head


def test_engine_whose_worker_was_one_too_many_starts_it_when_the_other_is_gone(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    with instar.Engine(folder) as first:
        until(first, lambda: first.status().worker)
        with instar.Engine(folder) as second:
            assert second._process is not None
            assert second._process.wait(60) == WorkerBusy.exit_code
            second.feedback(task_type="t", input="for the worker of the first")
            second.wait(timeout_s=60)
            assert second._process.poll() is not None
            first.stop()
            second.feedback(task_type="t", input="for its own")
            assert second.wait(timeout_s=60).worker
            assert second._process.poll() is None


def test_agent_that_only_reports_gets_its_worker_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    other = instar.Engine(folder).start()
    until(other, lambda: other.status().worker)
    with instar.Engine(folder) as engine:
        assert engine._process is not None
        assert engine._process.wait(60) == WorkerBusy.exit_code
        engine.feedback(task_type="t", input="the worker of the other one takes it up")
        other.stop()
        engine.feedback(task_type="t", input="too soon to look again")
        assert engine._process.poll() is not None
        monkeypatch.setattr(engine, "_look_at", 0.0)
        engine.feedback_many([{"task_type": "t", "input": "for its own"}])
        until(engine, lambda: not engine.status().waiting and engine.status().worker)
        os.kill(engine._process.pid, signal.SIGKILL)
        engine._process.wait(60)
        monkeypatch.setattr(engine, "_look_at", 0.0)
        engine.execute({"type": "self_train"})
        until(engine, lambda: not engine.status().waiting)
        assert engine._process.poll() is None


def test_what_is_recorded_is_not_told_as_failed_where_no_worker_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    with instar.Engine(folder) as engine:
        assert engine._process is not None
        os.kill(engine._process.pid, signal.SIGKILL)
        engine._process.wait(60)

        def refused(*_: object, **__: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(subprocess, "Popen", refused)
        before = engine.status().head
        assert engine.feedback(task_type="t", input="x") == before + 1
        assert "cannot be started anew now: [Errno 11]" in caplog.text


def test_worker_that_ends_again_and_again_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    monkeypatch.setenv("INSTAR_FAILPOINTS", "diff.owed=kill")
    with instar.Engine(folder) as engine:
        engine.feedback(task_type="t", input="x", outcome="fail")
        with pytest.raises(EffectFailedError, match=r"no worker to wait for; see .*worker\.log"):
            engine.wait(timeout_s=120)
        monkeypatch.delenv("INSTAR_FAILPOINTS")
        engine.feedback(task_type="t", input="y", outcome="fail")
        assert engine.wait(timeout_s=60).state == "Idle"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")
def test_gate_that_kills_each_worker_is_waited_out(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    unconfined = load_settings(folder, mutation__sandbox="rlimits")
    with instar.Engine(folder, settings=unconfined) as engine:
        engine.execute({"type": "mutate", "patch": GOOD, "gate": KILLS})
        assert engine.wait(timeout_s=120).state == "Idle"
        assert [record.event.effect for record in engine.events() if isinstance(record.event, EffectFailed)] == [
            "mutate"
        ]


def test_start_that_failed_leaves_nothing_open(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    (folder / ".instar" / "worker.log").mkdir()
    engine = instar.Engine(folder)
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            engine.start()
        with pytest.raises(InstarError, match="not started"):
            engine.runtime  # noqa: B018
    (folder / ".instar" / "worker.log").rmdir()
    with engine:
        assert engine.wait(timeout_s=60).head == engine.status().head


def test_agent_without_a_worker_records_and_rolls_back(tmp_path: Path) -> None:
    from instar.engine.initialize import initialize

    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    before = contents(folder)
    with instar.Engine(folder, worker=False) as engine:
        seq = engine.feedback(task_type="find", input="x", outcome="fail")
        assert seq == 2
        assert engine.execute({"type": "self_train"}).event == 3
        assert engine.status().waiting == 2
        engine.snapshot("here")
        (folder / "heuristics.py").write_text("y = 1\n")
        assert [step.path for step in engine.plan_rollback("snapshot:here").plan.steps] == ["heuristics.py"]
        engine.rollback("snapshot:here")
        assert contents(folder) == before
        assert engine.replay().events == engine.status().head
        with pytest.raises(EffectFailedError, match="no worker"):
            engine.wait(timeout_s=1)
        with pytest.raises(ConfigError, match="no model"):
            engine.embed(["x"])
        with pytest.raises(InputRefused):
            engine.feedback(task_type="find", input="x", confidence=3)


def test_arguments_that_cannot_be_are_refused_alike_with_a_worker_and_without(tmp_path: Path) -> None:
    from instar.engine.initialize import initialize

    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    wrong: list[tuple[str, Callable[[instar.Engine], object]]] = [
        ("text is empty", lambda engine: engine.search(" ")),
        ("text is NoneType", lambda engine: engine.answer(None)),  # type: ignore[arg-type]
        ("k is 0", lambda engine: engine.search("x", 0)),
        ("k is '3'", lambda engine: engine.answer("x", "3")),  # type: ignore[arg-type]
        ("no model", lambda engine: engine.search("x")),
        ("no model", lambda engine: engine.answer("x")),
        ("no model", lambda engine: engine.embed(["x"])),
        (r"give a list, such as \['code'\]", lambda engine: engine.plan_rollback(1, only="code")),  # type: ignore[arg-type]
        ("'codes' is nothing", lambda engine: engine.plan_rollback(1, only=["codes"])),  # type: ignore[list-item]
        ("blobs is 'some'", lambda engine: engine.export(tmp_path / "b", blobs="some")),  # type: ignore[arg-type]
    ]
    for worker in (True, False):
        with instar.Engine(folder, worker=worker) as engine:
            for message, ask in wrong:
                with pytest.raises(ConfigError, match=message):
                    ask(engine)
            state: instar.State = engine.status().state  # what a type checker has to take, here and below
            assert state is instar.State.IDLE
            for plan in (
                engine.plan_rollback("latest", only=("code",)),
                engine.plan_rollback("latest", only=["code"]),
                engine.plan_rollback("latest", only={"code"}),
            ):
                assert plan.asked.parts == ("code",)


def test_engine_that_was_not_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(InstarError, match="not started"):
        instar.Engine(tmp_path).status()


def test_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        instar.Engine(tmp_path / "absent").start()


def test_client_without_a_worker_says_so(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="does not answer"):
        Client(tmp_path / "worker.sock").embed(["x"])


def test_agent_follows_its_log_and_erases_what_it_must(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path)
    initialize(folder, with_model=False)
    with instar.Engine(folder, worker=False) as engine:
        seq = engine.feedback(task_type="t", input="my name is Ada", outcome="pass")
        follower = engine.follow("index")
        seen = list(follower.ready())
        assert [record.seq for record in seen] == [1, seq]
        follower.acknowledge(seen[-1])
        (erased,) = engine.erase(seq, "Ada asked for it")
        assert [record.seq for record in engine.follow("index").ready()] == [erased]
        assert "Ada" not in str(engine.events(seq)[0].event)
        assert engine.replay().events == erased
