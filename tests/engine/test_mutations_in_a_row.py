"""Mutations that follow each other before the first is proven: each is watched, and what made things worse goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from instar.engine.keeping.gc import collect
from instar.engine.provenance.graph import Graph
from instar.engine.replay import Level, replay
from instar.engine.restoring.rollback import roll_back
from instar.engine.restoring.undo import undo
from instar.engine.runtime import Runtime
from instar.engine.status import read_status
from instar.engine.what_if import what_if
from instar.fsm.events import MutationAccepted, MutationApplied, ProbationEnded, RollbackStarted
from instar.fsm.retention import Retention
from tests.engine.agents import code_only, contents
from tests.engine.test_probation import BAD, NEW_FILE, earn, last, mutate

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")

SAME_FILE = """--- a/heuristics.py
+++ b/heuristics.py
@@ -3,4 +3,4 @@

 def score(a, b):
     \"\"\"Adds two numbers.\"\"\"
-    return b - a
+    return b - a - 1
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """An agent whose task type has earned enough to be watched."""
    runtime = code_only(tmp_path / "agent")
    earn(runtime, "pass", 20)
    return runtime


def ends(runtime: Runtime) -> list[tuple[int, str]]:
    """Which mutations' watch ended how, by the position of each."""
    found: list[tuple[int, str]] = []
    for record in runtime.reader.read(types=[ProbationEnded]):
        assert isinstance(record.event, ProbationEnded)
        found.append((record.event.applied, record.event.verdict))
    return found


def applied(runtime: Runtime) -> list[int]:
    return [record.seq for record in runtime.reader.read(types=[MutationApplied])]


def holds(runtime: Runtime) -> None:
    """Each decision comes out again, and what the end of a watch rests on is what the fold counted."""
    assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()
    graph = Graph(runtime.reader, runtime.reader.head())
    for record in runtime.reader.read(types=[ProbationEnded]):
        rests_on = [seq for seq, label in graph.edges(record.seq) if label == "rewards since"]
        assert record.cause in rests_on


def test_first_of_two_is_undone_with_the_one_that_was_tried_on_top_of_it(runtime: Runtime) -> None:
    root = runtime.workspace.root
    before = contents(root)
    mutate(runtime, BAD)
    earn(runtime, "fail", 1)
    earn(runtime, "fail", 1)
    mutate(runtime, NEW_FILE)
    (root / "notes.txt").write_text("typed by a person while both were watched\n")
    assert [watch["applied"] for watch in read_status(runtime.reader, runtime.workspace).mutation_probations] == (
        applied(runtime)
    )
    while not ends(runtime):
        earn(runtime, "fail", 1)
    first, _ = applied(runtime)
    assert ends(runtime) == [(first, "undone")]
    assert {**contents(root), "notes.txt": before["notes.txt"]} == before
    assert (root / "notes.txt").read_text().startswith("typed by")
    begun = last(runtime, RollbackStarted).event
    assert isinstance(begun, RollbackStarted)
    assert begun.paths == ("added.py", "heuristics.py")
    accepted = last(runtime, MutationAccepted).seq
    assert f"With it go the mutations accepted at {accepted}" in begun.reason
    assert not runtime.state.mutation_probations
    holds(runtime)
    undo(runtime)
    assert (root / "added.py").exists()


def test_of_two_that_are_due_together_the_later_goes_first_and_the_other_is_watched_anew(runtime: Runtime) -> None:
    before = contents(runtime.workspace.root)
    mutate(runtime, BAD)
    mutate(runtime, NEW_FILE)
    first, second = applied(runtime)
    earn(runtime, "fail", 8)
    assert ends(runtime) == [(second, "undone")]
    assert b"b - a" in contents(runtime.workspace.root)["heuristics.py"][1]
    (watch,) = runtime.state.mutation_probations
    assert (watch.applied, watch.left, watch.watched[0].count) == (first, 64, 0)
    earn(runtime, "fail", 8)
    assert ends(runtime) == [(second, "undone"), (first, "undone")]
    assert contents(runtime.workspace.root) == before
    holds(runtime)


def test_same_file_changed_twice_comes_back_to_what_it_was_before_the_first(runtime: Runtime) -> None:
    before = contents(runtime.workspace.root)
    mutate(runtime, BAD)
    earn(runtime, "fail", 1)
    earn(runtime, "fail", 1)
    mutate(runtime, SAME_FILE)
    assert collect(runtime, Retention(days=0)) is not None
    while not ends(runtime):
        earn(runtime, "fail", 1)
    assert ends(runtime) == [(applied(runtime)[0], "undone")]
    assert contents(runtime.workspace.root) == before


@pytest.mark.parametrize("restored", [False, True])
def test_edit_between_two_mutations_is_never_taken_back(runtime: Runtime, *, restored: bool) -> None:
    """What a person typed into a file that a later mutation changed again would be lost with it."""
    edited = runtime.workspace.root / "heuristics.py"
    mutate(runtime, BAD)
    was = edited.read_text()
    edited.write_text("# mine\n" + was)
    earn(runtime, "fail", 1)
    if restored:
        edited.write_text(was)
    earn(runtime, "fail", 1)
    mutate(runtime, SAME_FILE)
    while not ends(runtime):
        earn(runtime, "fail", 1)
    (end,) = ends(runtime)
    assert end == (applied(runtime)[0], "undone" if restored else "left")
    assert edited.read_text().startswith("# mine\n") is not restored
    # What could not be undone is watched no more; the other one is, on the same outcomes.
    assert [watch.applied for watch in runtime.state.mutation_probations] == applied(runtime)[1:] * (not restored)
    holds(runtime)


def test_mutation_that_was_taken_back_by_hand_does_not_go_along(runtime: Runtime) -> None:
    root = runtime.workspace.root
    mutate(runtime, BAD)
    mutate(runtime, NEW_FILE)
    first, second = applied(runtime)
    roll_back(runtime, second - 2, only=["code"])
    (watch,) = runtime.state.mutation_probations
    assert (watch.applied, watch.due) == (first, None)
    (root / "added.py").write_text("mine = 1\n")
    earn(runtime, "fail", 8)
    assert ends(runtime) == [(first, "undone")]
    assert (root / "added.py").read_text() == "mine = 1\n"
    begun = last(runtime, RollbackStarted).event
    assert isinstance(begun, RollbackStarted)
    assert begun.paths == ("heuristics.py",)
    holds(runtime)


def test_mutation_that_was_taken_back_and_brought_back_goes_along(runtime: Runtime) -> None:
    mutate(runtime, BAD)
    mutate(runtime, NEW_FILE)
    first, second = applied(runtime)
    roll_back(runtime, second - 2, only=["code"])
    undo(runtime)
    assert [watch.applied for watch in runtime.state.mutation_probations] == [first]
    earn(runtime, "fail", 8)
    assert ends(runtime) == [(first, "undone")]
    assert not (runtime.workspace.root / "added.py").exists()
    holds(runtime)


def test_other_policy_tells_of_each(runtime: Runtime) -> None:
    mutate(runtime, BAD)
    mutate(runtime, NEW_FILE)
    earn(runtime, "fail", 8)
    earn(runtime, "fail", 8)
    never = what_if(runtime.reader, {"mutation.fall_max": "1.0"}).otherwise
    assert [(one.decision, one.would_be.split(":")[0]) for one in never] == [("probation", "watched on")] * 2
    assert what_if(runtime.reader, {"mutation.per_hour_max": "12"}).otherwise == []
