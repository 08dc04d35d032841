"""The table of goals says what was reached and what was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import goals
from benchmarks.goals import Measure, Row, summarize


@pytest.mark.parametrize(
    ("ratio", "at_most", "reached"), [(2.0, False, True), (1.9, False, False), (2.0, True, True), (2.1, True, False)]
)
def test_measure_is_reached_on_its_side_of_the_goal(ratio: float, at_most: bool, reached: bool) -> None:
    assert Measure(ratio, 2.0, at_most=at_most).reached is reached


def test_summary_shows_and_writes_each_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(goals, "RESULTS", tmp_path)
    rows = [
        Row("one", "peer", (Measure(3.0, 2.0), Measure(0.5, 0.05, at_most=True, what="stall"))),
        Row("two", "other", note="skipped: other is not installed"),
    ]
    summarize(rows)
    told = capsys.readouterr().out
    assert told.count("PASS") == 1
    assert told.count("short") == 1
    assert "skipped" in told
    written = json.loads((tmp_path / "goals.json").read_text())
    assert [one["reached"] for one in written[0]["measures"]] == [True, False]
    assert written[1]["measures"] == []


def test_absent_names_what_is_missing() -> None:
    assert goals.absent("msgspec") == ""
    assert "no_such_peer" in goals.absent("msgspec", "no_such_peer")
