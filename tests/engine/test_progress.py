"""What a worker does, and for how long nothing was heard of it, is told to whoever asks."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from instar.engine.progress import Progress, ProgressFile, read_progress
from instar.engine.worker import Worker
from tests.engine.agents import code_only, instar

MINUTE_US = 60_000_000


def test_effect_is_told_since_it_was_begun(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "progress.json")
    file.report("diff")
    begun = read_progress(tmp_path / "progress.json")
    file.report("diff", 3, 3)
    later = read_progress(tmp_path / "progress.json")
    file.report("diff")  # of the next cycle
    anew = read_progress(tmp_path / "progress.json")
    assert begun is not None
    assert later is not None
    assert anew is not None
    assert begun.since_us == begun.at_us == later.since_us <= later.at_us
    assert anew.since_us == anew.at_us > begun.since_us


@pytest.mark.parametrize(
    ("effect", "minutes", "told"),
    [
        ("train", 0.5, "train for 30 minutes, step 3 of 8"),
        ("train", 2, "train for 32 minutes, step 3 of 8, without a word for 2 minutes"),
        ("idle", 90, ""),
    ],
)
def test_silence_is_told(effect: str, minutes: float, told: str) -> None:
    at_us = 40 * MINUTE_US
    report = Progress(effect, 3, 8, "", at_us, 1, at_us - 30 * MINUTE_US)
    assert report.told(at_us + round(minutes * MINUTE_US)) == told


def test_report_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    earlier = {"effect": "plan", "step": 0, "steps": 0, "note": "", "at_us": MINUTE_US, "pid": os.getpid()}
    (tmp_path / "progress.json").write_bytes(msgspec.json.encode(earlier))
    report = read_progress(tmp_path / "progress.json")
    assert report is not None
    assert report.told(4 * MINUTE_US) == "plan for 3 minutes, without a word for 3 minutes"


def test_status_and_doctor_tell_of_a_worker_that_hangs(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    worker = Worker(runtime)
    worker.acquire()
    runtime.progress.report("plan")
    assert b"running: plan for " in instar("status", cwd=runtime.workspace.root).stdout
    report = read_progress(runtime.workspace.progress)
    assert report is not None
    long_ago = msgspec.structs.replace(
        report, at_us=report.at_us - 20 * MINUTE_US, since_us=report.at_us - 20 * MINUTE_US
    )
    runtime.workspace.progress.write_bytes(msgspec.json.encode(long_ago))
    status, doctor = (instar(verb, cwd=runtime.workspace.root).stdout.decode() for verb in ("status", "doctor"))
    assert f"running: plan for 20 minutes, without a word for 20 minutes (process {os.getpid()})" in status
    assert f"`kill -9 {os.getpid()}`" in doctor
    worker._release()
    assert b"not running" in instar("status", cwd=runtime.workspace.root).stdout
    assert b"kill -9" not in instar("doctor", cwd=runtime.workspace.root).stdout
    runtime.close()
