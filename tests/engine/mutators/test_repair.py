"""What a repair is given of a real workspace, and the search for a proposal that passes a gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.engine.mutators.port import Proposal, RepairRequest
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
