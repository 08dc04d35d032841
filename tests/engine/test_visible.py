"""What an agent wrote reaches the terminal of whoever looks as text alone: no forged line, no control sequence."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from instar.engine.cli import live, output
from instar.engine.cli.main import main
from instar.engine.visible import visible
from instar.fsm.events import FeedbackReceived
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT, code_only, instar
from tests.engine.hostile_log import HARMLESS, HOSTILE, hostile_log

SGR = re.compile(r"\x1b\[[\d;]*m")
FORGED = "x\n    99  23:59:59  RollbackFinished      Idle                      forged"
NAMES = (FORGED, "\x1b[31mred\x1b[0m.py", "\x9b31mc1.py", "\u202egpj.py", os.fsdecode(b"lone\xff.py"), "bell\a\r.txt")


def assert_text_alone(told: str, *, own: re.Pattern[str] | None = None) -> None:
    """Looks for what a terminal would take for anything but text; ``own`` is what the program itself may send."""
    rest = own.sub("", told) if own else told
    hidden = {char for char in rest if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
    assert not hidden, (hidden, rest)


@given(st.text(st.characters()) | st.lists(st.sampled_from(HOSTILE)).map("".join))
def test_visible_text_is_one_line_that_can_be_written(text: str) -> None:
    told = visible(text)
    assert_text_alone(re.sub("[\t\u200c\u200d]", "", told))
    assert len(told.splitlines()) <= 1
    told.encode()
    assert visible(told) == told


@pytest.mark.parametrize(
    "text", ["", "plain", "naïve → 漢字 …", "עברית", "نص عربي", "👩\u200d🔬", "a\tb", r"C:\new \x1b", "\ue0b0"]
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def verbs(reader: LogReader) -> Iterator[list[str]]:
    yield from (["log", "-c", "1000"], ["status"], ["lineage"], ["replay"], ["verify"])
    yield from (
        ["diff", "1", "latest"],
        ["replay", "--diff", "1", "latest"],
        ["replay", "--what-if", "drift.threshold=0.01"],
    )
    yield from (["dataset"], ["dataset", "show"])
    for seq in {type(record.event): str(record.seq) for record in reader.read()}.values():
        yield from (["show", seq], ["why", seq, "--all"], ["taint", seq, "--all"])


def told_of(home: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """Runs every verb that shows a log, and draws each event as ``instar run`` does, in colour."""
    reader = LogReader(home / "log.db")
    told: dict[str, tuple[str, str]] = {}
    for words in verbs(reader):
        capsys.readouterr()
        main([*words, "-C", str(home.parent)])
        out, err = capsys.readouterr()
        told[" ".join(words)] = out, err
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "stderr_console", lambda: Console(file=screen, force_terminal=True, width=200))
        shown = live.Live()
        for record in reader.read():
            shown.event(record)
    reader.close()
    told["run"] = (SGR.sub("", screen.getvalue()), "")
    return told


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("harmless") / ".instar"
    hostile_log(home, HARMLESS)
    return home


@pytest.mark.parametrize("texts", [HOSTILE[:1], HOSTILE])
def test_hostile_log_is_told_in_as_many_lines_as_a_harmless_one(
    harmless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], texts: tuple[str, ...]
) -> None:
    hostile_log(tmp_path / ".instar", *texts)
    expected, told = told_of(harmless, capsys), told_of(tmp_path / ".instar", capsys)
    for words, streams in told.items():
        for stream, usual in zip(streams, expected[words], strict=True):
            assert_text_alone(stream)
            assert stream.count("\n") == usual.count("\n"), (words, stream)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace without a model in which an agent wrote files with hostile names, and reported hostile feedback."""
    runtime = code_only(tmp_path_factory.mktemp("agent") / "agent")
    root = runtime.workspace.root
    for name in NAMES:
        (root / name).write_text("x = '\x1b[2J'\n\ty = 1\n")
    for number, text in enumerate(HOSTILE):
        event = FeedbackReceived(
            task_type=f"t{text}", input=f"asked {number} {text}", output="no", reference=f"line\n{text}", outcome="fail"
        )
        runtime.log.append(event)
    runtime.close()
    assert instar("run", "--once", cwd=root).returncode == 0
    return root


def run(*words: str, cwd: Path) -> str:
    done = instar(*words, cwd=cwd)
    assert b"Traceback" not in done.stderr
    assert_text_alone((told := done.stdout.decode()).replace("\t", "") + done.stderr.decode())
    return told


def test_names_of_files_forge_no_row_and_reach_no_terminal(agent: Path) -> None:
    counted = int(run("run", "--once", cwd=agent).split()[0])
    rows = run("log", "-c", "1000", cwd=agent).splitlines()
    assert len(rows) == json.loads(instar("status", "--json", cwd=agent).stdout)["data"]["head"] > counted
    assert [row.split()[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert any(
        row.endswith(r"added x\n    99  23:59:59  RollbackFinished      Idle                      forged")
        for row in rows
    )
    assert any(r"added \x1b[31mred\x1b[0m.py" in row for row in rows)
    plan = run("rollback", "1", "-n", cwd=agent).splitlines()
    assert sum(line.startswith("  - ") for line in plan) >= len(NAMES)
    assert plan[-1].startswith("plan ")
    assert all(line.startswith(("to event 1", "  ", "plan ")) for line in plan)
    restored = run("restore", FORGED, "--at", "latest", "-n", cwd=agent)
    assert len(restored.splitlines()) == 3
    for words in (("diff", "1", "--stat"), ("replay", "--diff", "1", "latest")):
        assert not re.search("^    99", run(*words, cwd=agent), re.M)
    shown = run("show", rows_of(agent, FORGED)[0], cwd=agent)
    assert "\n+x = '\\x1b[2J'\n+\ty = 1\n" in shown  # a difference keeps its lines and tabs
    assert "\n    99" not in shown


def rows_of(agent: Path, path: str) -> list[str]:
    found = json.loads(instar("log", "-c", "1000", "--json", cwd=agent).stdout)["data"]
    return [str(row["seq"]) for row in found if row["about"] == f"added {path}"]


def test_json_holds_the_names_as_they_are(agent: Path) -> None:
    assert rows_of(agent, FORGED)
    assert rows_of(agent, "\u202egpj.py")


def test_row_of_a_data_set_in_full_stands_apart_from_its_names(agent: Path) -> None:
    run("run", "--once", cwd=agent)
    rows = json.loads(instar("dataset", "show", "-c", "99", "--json", cwd=agent).stdout)["data"]
    (number,) = (str(one["number"]) for one in rows if "forged" in one["row"]["output"])
    lines = run("dataset", "show", "latest", number, cwd=agent).splitlines()
    assert [line for line in lines if "forged" in line and "output" in line[:13]] == []
    assert f"{'':<13}    99  23:59:59  RollbackFinished      Idle                      forged" in lines
    listed = run("dataset", "show", cwd=agent).splitlines()
    assert len(listed) == len(rows)


def test_errors_and_messages_are_one_line(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = instar("restore", f"gone{FORGED}", "--at", "1", "-y", cwd=agent)
    assert done.returncode
    assert done.stderr.count(b"\n") == 1
    assert_text_alone(done.stderr.decode())
    done = instar("show", "snapshot:\x1b[2J", cwd=agent)
    assert done.stderr.count(b"\n") == 1
    assert_text_alone(done.stderr.decode())
    output.say("one\ntwo", "\x1b[3m")
    output.fail("X", "a\nworker: b\x07", 1, as_json=False)
    output.fail("X", "the gate failed:\nforged\x1b[1m\n  set in", 5, as_json=False, by_lines=True)
    assert capsys.readouterr().err == (
        "one\\ntwo\n\\x1b[3m\ninstar: a\\nworker: b\\x07\ninstar: the gate failed:\n  forged\\x1b[1m\n  set in\n"
    )


def test_followed_log_is_told_by_lines_too(agent: Path) -> None:
    command = [sys.executable, "-m", "instar.engine.cli.main", "log", "-f", "-c", "1000"]
    process = subprocess.Popen(
        command, cwd=agent, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    assert process.stdout is not None
    seqs = rows_of(agent, FORGED)
    rows: list[str] = []
    while not rows or rows[-1].split()[0] != seqs[0]:
        rows.append(process.stdout.readline().decode())
    process.kill()
    process.wait()
    process.stdout.close()
    assert [row.split()[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert_text_alone("".join(rows))


def test_bar_shows_a_note_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(live, "stderr_console", lambda: Console(file=screen, force_terminal=True, width=200))
    with live.Live() as shown:
        shown.report("train", 1, 9, "loss [bold]\x1b]0;title\x07\nforged")
        shown._bars.refresh()
    assert r"loss [bold]\x1b]0;title\x07\nforged" in screen.getvalue()
