"""Which cases properties are tried on; and what was done in a torture run, each test's counts and how long it took.

The suite tries the same cases each time, so that it passes or fails by what was changed; a torture run tries new ones.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import settings

settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.register_profile("search", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("suite")

# Each of several workers has its share of the processors: more threads than these wait for each other at full speed.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // _WORKERS)))

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process that a test starts compiles the project anew

_TOLD: dict[str, tuple[str, float, str]] = {}
"""By test: how it ended, the seconds it took, and what it printed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and item.get_closest_marker("torture"):
        _TOLD[item.nodeid] = report.outcome, report.duration, report.capstdout.strip()
    return report


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if not _TOLD:
        return
    terminalreporter.section("what was tortured")
    for name, (outcome, seconds, told) in _TOLD.items():
        terminalreporter.write_line(f"{outcome:<7} {seconds:6.0f} s  {name}")
        for line in told.splitlines():
            terminalreporter.write_line(f"                  {line}")
    failed = sum(outcome == "failed" for outcome, _, _ in _TOLD.values())
    minutes = sum(seconds for _, seconds, _ in _TOLD.values()) / 60
    loss = "nothing lost, nothing mixed" if not failed else f"{failed} FAILED"
    terminalreporter.write_line(f"{len(_TOLD)} tortures in {minutes:.0f} min: {loss}")
