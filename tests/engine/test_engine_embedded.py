"""The engine inside programs of every kind: ones that fork, whose folder hides modules, that have no interpreter."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import instar
from instar.engine.initialize import initialize
from instar.engine.last_settings import load_for_work
from instar.engine.own_python import own_python
from instar.engine.replay import parallel, ranges, replay
from instar.engine.replay.levels import Level
from instar.engine.replay.worker import Order
from instar.fsm.errors import ConfigError, InputRefused, InstarError
from instar.fsm.events import EffectFailed, FeedbackReceived, OutcomeRewarded
from tests.engine.agents import agent_folder

HIDES = ("logging", "queue", "struct", "select", "msgspec", "numpy", "store")
"""Names of files that agents have, and of modules that the engine's own processes import."""
REWARDS = """
class Always:
    name = "always"

    def score(self, outcome, item):
        return 0.25
"""


def made(folder: Path) -> Path:
    root = agent_folder(folder)
    initialize(root, with_model=False)
    return root


def hiding(folder: Path) -> Path:
    """Makes a folder with modules that must not run, and gives the file that they would leave."""
    trace = folder / "ran"
    for name in HIDES:
        (folder / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write({name!r})\nraise SystemExit({name!r})\n")
    return trace


def ends(pid: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def sleeping_child() -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(100)
        os._exit(0)
    return pid


def test_worker_ends_with_its_engine_though_a_forked_process_lives_on(tmp_path: Path) -> None:
    with instar.Engine(made(tmp_path / "agent")) as engine:
        engine.wait(timeout_s=60)
        process = engine._process
        assert process is not None
        child = sleeping_child()
        try:
            engine.stop(timeout_s=30)
            assert process.returncode == 0  # else it was killed after that time
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_worker_ends_with_a_killed_agent_though_a_forked_process_lives_on(tmp_path: Path) -> None:
    root = made(tmp_path / "agent")
    agent = f"""
import os, signal, sys, time, instar
engine = instar.Engine({str(root)!r}).start()
engine.wait(timeout_s=60)
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(100)
    os._exit(0)
print(engine._process.pid, child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", agent], stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    worker, child = map(int, done.stdout.split())
    try:
        assert ends(worker, timeout_s=30)
    finally:
        os.kill(child, signal.SIGKILL)


def test_forked_process_that_leaves_the_block_leaves_the_worker_alone(tmp_path: Path) -> None:
    with instar.Engine(made(tmp_path / "agent")) as engine:
        engine.wait(timeout_s=60)
        child = os.fork()
        if child == 0:
            engine.stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert engine._process is not None
        assert engine._process.poll() is None
        engine.feedback(task_type="t", input="after the other one left")
        assert engine.wait(timeout_s=60).worker


def test_threads_that_are_at_it_while_the_engine_stops_are_told_so(tmp_path: Path) -> None:
    root = made(tmp_path / "agent")
    engine = instar.Engine(root, worker=False)
    errors: list[BaseException] = []
    told: list[int] = []

    def go_on(ask: Callable[[], list[int]]) -> None:
        try:
            while True:
                told.extend(ask())
        except BaseException as error:
            errors.append(error)

    row = {"task_type": "t", "input": "x"}
    asked: list[Callable[[], list[int]]] = [
        lambda: [engine.feedback(**row)],
        lambda: [engine.feedback(**row)],
        lambda: engine.feedback_many([row] * 20),
        lambda: [engine.status().head][:0],
        lambda: [engine.snapshot("here")][:0],
    ]
    for _ in range(3):
        engine.start()
        threads = [threading.Thread(target=go_on, args=(ask,)) for ask in asked]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        engine.stop()
        for thread in threads:
            thread.join(timeout=30)
        assert not any(thread.is_alive() for thread in threads)
    assert len(errors) == 3 * len(asked)
    for error in errors:
        assert isinstance(error, InstarError)
        assert "was closed meanwhile, in this process" in str(error) or "not started" in str(error)
    with engine:
        assert sorted(told) == [one.seq for one in engine.events() if isinstance(one.event, FeedbackReceived)]


def test_module_in_the_current_folder_hides_none_of_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path / "agent")
    trace = hiding(root)
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root)  # as where the agent is a script in it
    with instar.Engine(root) as engine:
        engine.feedback(task_type="t", input="x")
        assert engine.wait(timeout_s=60).worker
    assert not trace.exists()


def test_replay_runs_nothing_that_lies_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path / "agent")
    trace = hiding(root)
    monkeypatch.chdir(root)
    order = msgspec.json.encode(Order(str(root / ".instar" / "log.db"), Level.DECISIONS, ())).decode()
    with parallel._tokens(0) as tokens:
        (other,) = parallel._start(1, order, tokens)
        other.communicate(timeout=60)
    assert other.returncode == 0
    assert not trace.exists()


def test_plugin_beside_the_agent_is_found_by_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path / "agent")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "own_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(tmp_path / "beside")
    (root / "instar.toml").write_text('[plugins]\nreward_model = "own_rewards:Always"\n')
    with instar.Engine(root) as engine:
        engine.feedback(task_type="t", input="x", outcome="fail")
        engine.wait(timeout_s=60)
        events = [record.event for record in engine.events()]
    assert not [event for event in events if isinstance(event, EffectFailed)]
    assert [event for event in events if isinstance(event, OutcomeRewarded) and "0.25" in str(event)]


def test_engines_that_were_dropped_without_a_stop_keep_no_file_open(tmp_path: Path) -> None:
    root = made(tmp_path / "agent")

    def opened() -> int:
        for _ in range(10):
            instar.Engine(root, worker=False).start().status()
        for _ in range(3):
            gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    assert opened() >= opened() - 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python tells of the process too
def test_worker_of_an_engine_that_was_dropped_without_a_stop_ends(tmp_path: Path) -> None:
    """``subprocess`` keeps a process that nobody waited for, and the pipe whose end tells a worker to end."""
    engine = instar.Engine(tmp_path)
    engine._process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # ends as a worker does
    pid = engine._process.pid
    del engine
    gc.collect()
    assert ends(pid, timeout_s=10)


def test_threads_that_start_an_engine_at_once_start_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(instar.Engine, "_start_worker", lambda _, workspace: started.append(workspace))
    monkeypatch.setattr(
        "instar.engine.facade.load_for_work", lambda *given: (time.sleep(0.2), load_for_work(*given))[1]
    )
    engine = instar.Engine(made(tmp_path / "agent"))
    threads = [threading.Thread(target=engine.start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    engine.stop()
    assert len(started) == 1


def test_process_without_room_for_another_open_file_is_told_so(tmp_path: Path) -> None:
    with instar.Engine(made(tmp_path / "agent"), worker=False) as engine:
        engine.snapshot("before")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            for ask in (lambda: engine.snapshot("now"), instar.Engine(engine.root).start):
                with pytest.raises(InstarError, match="as many files open"):
                    ask()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert engine.snapshot("after")


def test_single_path_in_place_of_a_list_is_refused(tmp_path: Path) -> None:
    root = made(tmp_path / "agent")
    with instar.Engine(root, worker=False) as engine:
        for one in ("heuristics.py", Path("heuristics.py")):
            with pytest.raises(InputRefused, match="give a list"):
                engine.restore(one, at=1)  # type: ignore[arg-type]
        assert engine.status().head == 1


def test_program_with_its_interpreter_in_it_starts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path / "agent")
    assert own_python("x")[0] == sys.executable
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(ranges, "EVENTS_MIN", 1000)
    engine = instar.Engine(root)
    with pytest.raises(ConfigError, match="worker=False"):
        engine.start()  # it would start itself, and that again
    with pytest.raises(InstarError, match="not started"):
        engine.status()
    with instar.Engine(root, worker=False) as alone:
        alone.feedback_many({"task_type": "t", "input": f"{number}"} for number in range(3000))
        assert replay(alone.runtime.reader, jobs=2).events == 3001
