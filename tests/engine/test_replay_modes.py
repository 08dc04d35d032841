"""``instar replay`` in each of its modes: an anchor is checked in all of them, and no option is passed over."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path

import pytest

from instar.engine.cli.main import main
from instar.engine.cli.replay import command
from instar.engine.cli.replay_options import Mode, mode_of
from instar.fsm.errors import ConfigError
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


# ---- which options go together ---------------------------------------------------------------------------------------

ASKING = ("--verify", "--no-verify", "--reexecute", "--what-if", "--diff")
GO_WITH = {
    "--level": {"--verify"},
    "--jobs": {"--verify"},
    "--from": {"--verify", "--reexecute"},
    "--to": {"--verify", "--no-verify", "--reexecute", "--what-if"},
    "--anchor": set(ASKING),
}
VALUES = {
    "--level": ("chain",),
    "--jobs": ("1",),
    "--from": ("4",),
    "--to": ("6",),
    "--anchor": ("ANCHOR",),
    "--reexecute": ("diff",),
    "--what-if": ("drift.threshold=0.6",),
    "--diff": ("2", "8"),
}
SUBSETS = [
    given
    for count in range(len(ASKING) + len(GO_WITH) + 1)
    for given in combinations((*ASKING, *GO_WITH), count)
    if not {"--verify", "--no-verify"} <= set(given)  # one option of typer's: the last one holds
]


def go_together(given: tuple[str, ...]) -> bool:
    asked = [option for option in given if option in ASKING] or ["--verify"]
    return len(asked) == 1 and all(asked[0] in GO_WITH[option] for option in given if option in GO_WITH)


def test_every_option_of_the_verb_is_in_the_table() -> None:
    named = {f"--{name.replace('_', '-')}" for name in inspect.signature(command).parameters}
    assert named - {"--workspace", "--json"} == {*ASKING, *GO_WITH} - {"--no-verify", "--from"} | {"--first"}


def test_every_combination_is_taken_whole_or_refused() -> None:
    assert len(SUBSETS) == 768
    for given in SUBSETS:
        if go_together(given):
            assert mode_of(given) in (*given, Mode.VERIFY)
        else:
            with pytest.raises(ConfigError, match=r"leave .+ out\. With --|give one of them"):
                mode_of(given)


@pytest.mark.parametrize(
    ("asking", "option"),
    [
        (asking, option)
        for asking, option in product(("", *ASKING), (*GO_WITH, *ASKING))
        if asking != option and {asking, option} != {"--verify", "--no-verify"}  # one option of typer's: the last holds
    ],
)
def test_option_is_heeded_or_refused_on_the_command_line(run: Run, asking: str, option: str) -> None:
    anchor = run("anchor", "--to", "5")[1]
    given = tuple(name for name in (asking, option) if name)
    arguments = [word for name in given for word in (name, *VALUES.get(name, ()))]
    code, out, err = run("replay", *(anchor if word == "ANCHOR" else word for word in arguments))
    if not go_together(given):
        assert (code, out) == (2, "")
        assert option in err
        return
    assert code == 0
    told = json.loads(run("replay", *(anchor if word == "ANCHOR" else word for word in arguments), "--json")[1])["data"]
    heeded = {"--to": ("last", "events"), "--from": ("first",), "--level": ("level",), "--anchor": ("anchors",)}
    for field in heeded.get(option, ()):
        if field in told:
            assert told[field] == {"--to": 6, "--from": 4, "--level": "chain", "--anchor": 1}[option]
            break
    else:
        assert option in (*ASKING, "--jobs")


def test_refusal_says_what_to_leave_out(run: Run) -> None:
    assert run("replay", "--diff", "1", "8", "--to", "3", "--level", "chain")[2] == (
        "instar: --diff compares the states at its own two references, so --level and --to would change nothing: "
        "leave --level and --to out. With --diff goes --anchor.\n"
    )
    assert run("replay", "--reexecute", "all", "--what-if", "drift.threshold=1")[2] == (
        "instar: --reexecute and --what-if ask for different things: give one of them. Each runs alone.\n"
    )
