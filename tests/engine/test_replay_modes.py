"""``instar replay`` in each of its modes: an anchor is checked in all of them, and no option is passed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.engine.cli.main import main
from tests.engine.bundles import small_log

Run = Callable[..., tuple[int, str, str]]

MODES = {
    "verify": (),
    "effects": ("--level", "effects"),
    "fold": ("--no-verify",),
    "reexecute": ("--reexecute", "diff"),
    "what-if": ("--what-if", "drift.threshold=0.6"),
    "diff": ("--diff", "1", "8"),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    small_log(tmp_path / "agent").close()
    monkeypatch.chdir(tmp_path / "agent")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


# ---- anchors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_false_anchor_is_never_passed_over(run: Run, tmp_path: Path, mode: str) -> None:
    """One of another workspace, one with another hash, one beyond the end, and one that is none."""
    line = run("anchor", "--to", "5")[1]
    own = line.split()[3]
    for anchor, code, said in (
        (line.replace(" a1b2 ", " another "), 4, "workspace another"),
        (line.replace(own, "0" * 64), 3, "rewritten"),
        (line.replace(" 5 ", " 999 "), 3, "cut off"),
        ("nonsense", 2, "cannot be read"),
    ):
        (tmp_path / "kept").write_text(anchor)
        for given in (anchor, str(tmp_path / "kept")) if code != 2 else (anchor,):
            found, out, err = run("replay", *MODES[mode], "--anchor", given)
            assert (found, out) == (code, ""), (mode, anchor)
            assert said in err
        found, out, _ = run("replay", *MODES[mode], "--anchor", line, "--anchor", anchor, "--json")
        assert (found, json.loads(out)["ok"]) == (code, False)


@pytest.mark.parametrize("mode", MODES)
def test_true_anchor_is_told_of(run: Run, mode: str) -> None:
    line = run("anchor", "--to", "5")[1]
    code, out, _ = run("replay", *MODES[mode], "--anchor", line)
    assert code == 0
    assert out.count("  anchored      event 5, 3 events since; signature none\n") == 1
    assert json.loads(run("replay", *MODES[mode], "--anchor", line, "--json")[1])["data"]["anchors"] == 1
    assert json.loads(run("replay", *MODES[mode], "--json")[1])["data"]["anchors"] == 0
