"""An extension that never answers is told of, and whoever waits for it can be ended."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from instar.engine import extension_calls
from instar.engine.cli.main import main
from instar.engine.extension_calls import asked
from instar.engine.initialize import initialize
from instar.engine.replay import parallel
from instar.store.long_waits import told_after
from tests.engine.agents import PROJECT, agent_folder, instar

PLUGIN = """
import time
from pathlib import Path

class Hangs:
    name = "hangs"
    def score(self, outcome, item):
        Path("{asked}").touch()
        time.sleep(250)
"""
WORKER = "import sys; from instar.engine import worker; worker.HANGS_S = 0.5; sys.exit(worker.main(sys.argv[1:]))"


def owing_a_score(folder: Path, signal_file: Path) -> None:
    agent_folder(folder)
    initialize(folder, with_model=False)
    (folder.parent / "hanging_plugin.py").write_text(PLUGIN.format(asked=signal_file))
    (folder / "instar.toml").write_text('[plugins]\nreward_model = "hanging_plugin:Hangs"\n')
    told = ("--task-type", "t", "--input", "x", "--outcome", "fail")
    assert instar("feedback", *told, cwd=folder, PYTHONPATH=f"{folder.parent}:{PROJECT}").returncode == 0


def there_is(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.05)


def test_extension_that_does_not_answer_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(extension_calls, "LONG_S", 0.2)

    def answers_late() -> int:
        until = time.monotonic() + 30
        while "the planner acme" not in caplog.text and time.monotonic() < until:
            time.sleep(0.05)
        return 7

    assert asked("the planner prompt", lambda: 1) == 1
    assert asked("the planner acme", answers_late) == 7
    assert "the planner acme was asked 0.2 s ago, and has not answered: " in caplog.text
    assert f"end this process ({os.getpid()})" in caplog.text
    assert "prompt" not in caplog.text


def test_wait_is_told_of_once_and_not_in_a_child(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with told_after(0.0, lambda: "a long wait"):
        child = os.fork()
        if not child:  # the wait is not its own: it tells of its own alone
            records: list[str] = []
            handler = logging.Handler()
            handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
            logging.getLogger("instar.store").addHandler(handler)
            with suppress(BaseException), told_after(0.0, lambda: "a child's"):
                until = time.monotonic() + 30
                while not records and time.monotonic() < until:
                    time.sleep(0.05)
                time.sleep(0.6)
            os._exit(records != ["a child's"])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        until = time.monotonic() + 30
        while "a long wait" not in caplog.text and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.6)
    assert caplog.text.count("a long wait") == 1


def test_process_of_a_replay_that_does_not_end_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parallel, "_LONG_S", 0.1)
    with subprocess.Popen(["sleep", "1.5"], stdout=subprocess.PIPE) as other:
        assert parallel._told(other) == {}
        assert f"waiting for process {other.pid}, which verifies a part of the log" in caplog.text


@pytest.mark.parametrize(
    ("verb", "number", "code"), [(("run",), 2, 130), (("run",), 15, 143), (("run", "--once"), 15, 143)]
)
def test_second_signal_ends_a_worker_whose_plugin_hangs(
    tmp_path: Path, verb: tuple[str, ...], number: int, code: int
) -> None:
    folder, came = tmp_path / "agent", tmp_path / "asked"
    owing_a_score(folder, came)
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    command = [sys.executable, "-m", "instar.engine.cli.main", *verb]
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            there_is(came)
            process.send_signal(number)
            assert process.stderr is not None
            said = b""
            while b"once more ends it at once" not in said:
                line = process.stderr.readline()
                assert line, f"it did not say how it is ended: {said!r}"
                said += line
            process.send_signal(number)
            assert process.wait(30) == code
        finally:
            process.kill()
    assert main(["replay", "-C", str(folder)]) == 0


def test_worker_whose_agent_is_gone_ends_though_its_plugin_hangs(tmp_path: Path) -> None:
    folder, came = tmp_path / "agent", tmp_path / "asked"
    owing_a_score(folder, came)
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    command = [sys.executable, "-c", WORKER, str(folder), "--with-parent"]
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            there_is(came)
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 1
    assert b"the agent's process is gone" in said
