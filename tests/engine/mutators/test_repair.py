"""What a repair is given of a real workspace, and the search for a proposal that passes a gate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.engine.mutators.port import Proposal, RepairRequest
from instar.engine.mutators.source import BYTES_MAX
from instar.engine.repair import Found, as_patch, chosen_mutators, material, past_edits, search
from instar.engine.runtime import Runtime
from instar.engine.settings import MutatorSettings
from instar.engine.watcher import rescan
from instar.fsm.errors import ConfigError, InputRefused
from instar.store.trees import Tree, read_tree
from tests.engine.agents import code_only


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


def tree_of(runtime: Runtime) -> Tree:
    rescan(runtime)
    assert runtime.state.tree is not None
    return read_tree(runtime.blobs, runtime.state.tree)


def passes(_mutator: str, proposal: Proposal) -> bool:
    names: dict[str, object] = {}
    exec(proposal.content, names)
    score = names["score"]
    assert callable(score)
    return bool(score(1, 2) == 3)


def searched(runtime: Runtime, names: list[str], tries: int = 200) -> Found:
    files, _ = material(runtime.blobs, runtime.state, tree_of(runtime), [])
    request = RepairRequest(files=files, output="", edits=past_edits(runtime.reader, runtime.blobs))
    mutators = chosen_mutators(runtime.settings.mutators, names)
    proposals = {one.name: iter(one.propose(request)) for one in mutators}
    return search(proposals, passes, tries=tries, time_s=60, files=files)


def test_change_that_broke_the_agent_is_taken_back(runtime: Runtime) -> None:
    place = runtime.workspace.root / "heuristics.py"
    right = place.read_bytes()
    place.write_bytes(right.replace(b"a + b", b"a ** b"))
    found = searched(runtime, [])
    assert found.proposal is not None
    assert (found.mutator, found.proposal.content, dict(found.tried)) == (
        "templates",
        right,
        {"templates": 1, "operators": 0},
    )
    before = tree_of(runtime).files["heuristics.py"]
    patch = as_patch(runtime.blobs, before, found.proposal)
    assert b"--- a/heuristics.py\n+++ b/heuristics.py\n" in patch
    assert b"-    return a ** b\n+    return a + b\n" in patch


def test_search_ends_after_the_tries(runtime: Runtime) -> None:
    place = runtime.workspace.root / "heuristics.py"
    place.write_bytes(place.read_bytes().replace(b"a + b", b"7 if a else b"))
    found = searched(runtime, ["operators"], tries=2)
    assert (found.proposal, found.mutator, dict(found.tried)) == (None, "", {"operators": 2})


def test_only_what_is_monitored_or_asked_for_may_be_changed(runtime: Runtime) -> None:
    root = runtime.workspace.root
    (root / "tests").mkdir()
    (root / "tests" / "test_x.py").write_text("x = 1\n")
    (root / "lib").mkdir()
    (root / "lib" / "b.py").write_text("y = 1\n")
    tree = tree_of(runtime)
    files, context = material(runtime.blobs, runtime.state, tree, [])
    assert (set(files), set(context)) == ({"heuristics.py"}, {"tests/test_x.py", "lib/b.py"})
    assert set(material(runtime.blobs, runtime.state, tree, ["lib/"])[0]) == {"lib/b.py"}
    with pytest.raises(InputRefused, match="protected"):
        material(runtime.blobs, runtime.state, tree, ["tests/test_x.py"])
    with pytest.raises(InputRefused, match="no Python file"):
        material(runtime.blobs, runtime.state, tree, ["tests"])


def test_mutator_that_proposes_what_it_may_not_is_asked_no_further() -> None:
    odd = iter([Proposal("tests/t.py", b"x = 1\n", ""), Proposal("a.py", b"x = 2\n", "")])
    found = search({"odd": odd}, lambda *_: True, tries=9, time_s=60, files={"a.py": b"x = 1\n"})
    assert (found.proposal, dict(found.tried)) == (None, {"odd": 0})


def test_mutator_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="known are templates, operators, llm"):
        chosen_mutators(MutatorSettings(), ["nonsense"])
    with pytest.raises(ConfigError, match="llm_url"):
        chosen_mutators(MutatorSettings(), ["llm"])


def broken(kind: str) -> Iterator[Any]:
    """What a mutator of others may give."""
    match kind:
        case "raises":
            raise ValueError("boom")
        case "ends":
            raise SystemExit(3)
        case "a word":
            yield "no proposal"
        case "a text for bytes":
            yield Proposal("heuristics.py", "x = 1", "a text")  # type: ignore[arg-type]
        case "a list for a path":
            yield Proposal(["heuristics.py"], b"x = 1", "a list")  # type: ignore[arg-type]
        case "another file":
            yield Proposal("../x.py", b"x = 1", "outside")
        case "too much":
            yield Proposal("heuristics.py", b"#" * (BYTES_MAX + 1), "long")


@pytest.mark.parametrize(
    "kind", ["raises", "ends", "a word", "a text for bytes", "a list for a path", "another file", "too much"]
)
def test_mutator_that_fails_leaves_the_turn_to_the_next(kind: str) -> None:
    good = Proposal("heuristics.py", b"right", "right")
    proposals = {"broken": broken(kind), "other": iter([good])}
    found = search(proposals, lambda *_: True, tries=5, time_s=60, files={"heuristics.py": b"wrong"})
    assert (found.proposal, found.mutator, dict(found.tried)) == (good, "other", {"broken": 0, "other": 1})
    alone = search({"broken": broken(kind)}, lambda *_: True, tries=5, time_s=60, files={"heuristics.py": b"wrong"})
    assert "broken" in alone.why


def test_mutator_that_repeats_itself_for_ever_is_ended() -> None:
    same = itertools.repeat(Proposal("heuristics.py", b"wrong", "as it is"))
    found = search({"same": same}, lambda *_: True, tries=5, time_s=0.05, files={"heuristics.py": b"wrong"})
    assert (found.proposal, found.why) == (None, "0.05 s went by")


def test_what_passes_raises_is_not_laid_to_the_mutator() -> None:
    def full(*_: object) -> bool:
        raise OSError("the disk is full")

    proposals = {"one": iter([Proposal("heuristics.py", b"x", "x")])}
    with pytest.raises(OSError, match="full"):
        search(proposals, full, tries=5, time_s=60, files={"heuristics.py": b"wrong"})


class Named:
    """A mutator of others that calls itself anything."""

    name: object = "operators"

    def propose(self, request: RepairRequest) -> Iterator[Proposal]:
        yield from ()


class Unnamed(Named):
    name = None


class Unprintable(Named):
    name = "a\ud800"


def test_mutator_has_a_name_that_the_log_can_hold_and_no_other_has() -> None:
    def named(*which: str) -> MutatorSettings:
        return MutatorSettings(enabled=tuple(which))

    assert chosen_mutators(named(f"{__name__}:Named"))[0].name == "operators"
    with pytest.raises(ConfigError, match="two mutators are called 'operators'"):
        chosen_mutators(named("operators", f"{__name__}:Named"))
    for which in ("Unnamed", "Unprintable"):
        with pytest.raises(ConfigError, match="a name is 1 to 200 printable characters"):
            chosen_mutators(named(f"{__name__}:{which}"))
