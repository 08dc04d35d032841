"""A worker that was stopped (Ctrl-Z, SIGSTOP) holds its workspace and does nothing: whoever waits for it is told so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from instar import Engine
from instar.engine import facade, service
from instar.engine.cli.main import main
from instar.engine.initialize import initialize
from instar.engine.service import Client
from instar.fsm.errors import ServiceError
from instar.store.long_waits import holder, stopped_holder
from tests.engine.agents import agent_folder

STAND_IN = """
import fcntl, os, signal, socket
lock = os.open(".instar/worker.lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
listening = socket.socket(socket.AF_UNIX)
listening.bind(".instar/worker.sock")
listening.listen(16)
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
"""Has what a worker has, and is stopped."""


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    command = [sys.executable, "-c", STAND_IN]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        yield folder, process.pid
        process.kill()


def test_stopped_worker_is_told_of(stopped: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    folder, pid = stopped
    for verb in ("status", "doctor"):
        assert main([verb, "-C", str(folder)]) in (0, 1)
        assert f"kill -CONT {pid}`" in capsys.readouterr().out
    os.kill(pid, signal.SIGKILL)
    while stopped_holder(folder / ".instar" / "worker.lock"):
        time.sleep(0.05)
    assert main(["status", "-C", str(folder)]) == 0
    assert "kill -CONT" not in capsys.readouterr().out


def test_engine_that_waits_says_that_the_worker_is_stopped(
    stopped: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, pid = stopped
    monkeypatch.setattr(facade, "LONG_S", 0.1)
    with Engine(folder, worker=False) as engine:
        engine.feedback(task_type="t", input="x", output="y", outcome="fail")
        with pytest.raises(TimeoutError, match=f"busy after 1 s, which is stopped .`kill -CONT {pid}` lets it go on"):
            engine.wait(timeout_s=1)
    assert caplog.text.count(f"waiting for the worker, which is stopped (`kill -CONT {pid}` lets it go on)") == 1


def test_client_that_waits_long_says_for_whom(
    stopped: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, pid = stopped
    monkeypatch.setattr(service, "_LONG_S", 0.1)
    with pytest.raises(ServiceError, match="does not answer"):
        Client(folder / ".instar" / "worker.sock", timeout_s=2).embed(["a"])
    assert f"waiting for the worker, process {pid} (" in caplog.text
    assert f"which is stopped (`kill -CONT {pid}` lets it go on), to answer" in caplog.text


def test_holder_of_another_file_with_the_same_number_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, listed = tmp_path / "lock", tmp_path / "locks"
    path.touch()
    status = path.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    others = f"1: FLOCK  ADVISORY  WRITE 7 ff:01:{status.st_ino} 0 EOF\n"
    own = f"2: FLOCK  ADVISORY  WRITE {os.getpid()} {device}:{status.st_ino} 0 EOF\n"
    read = Path.read_text

    def listing(of: Path, *arguments: str, **options: str) -> str:
        return read(listed if str(of) == "/proc/locks" else of, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", listing)
    for lines in (others + own, own + others):
        listed.write_text(lines)
        assert holder(path).startswith(f"process {os.getpid()} (")
    listed.write_text("")
    assert holder(path) == "another process"


def test_more_clients_than_the_kernel_lets_wait_are_all_answered(tmp_path: Path) -> None:
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(8) as clients:
        listening.bind(str(path))
        listening.listen(0)
        listening.settimeout(10)
        asked = [clients.submit(Client(path, timeout_s=20).embed, ["a"]) for _ in range(8)]
        time.sleep(0.2)  # by then all but one or two were refused
        for _ in asked:
            connection, _ = listening.accept()
            with connection:
                service._receive(connection)
                service._send(connection, service.Refused("this one"))
        for one in asked:
            assert str(one.exception(20)) == "this one"
