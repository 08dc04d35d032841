"""Fixes learnt from earlier edits, and the latest changes taken back."""

from __future__ import annotations

import pytest

from instar.engine.mutators.port import PastEdit, Proposal, RepairRequest
from instar.engine.mutators.templates import Templates, learn


def proposed(now: str, *edits: tuple[str, str, str]) -> list[Proposal]:
    past = tuple(PastEdit(9 - n, path, old.encode(), new.encode()) for n, (path, old, new) in enumerate(edits))
    return list(Templates().propose(RepairRequest(files={"a.py": now.encode()}, output="", edits=past)))


@pytest.mark.parametrize(
    ("old", "new", "now", "wanted"),
    [
        ("if a.n < len(b):\n    c()\n", "if a.n <= len(b):\n    c()\n", "x = p < q  # keep\n", "x = p <= q  # keep\n"),
        ("x = range(0, a)\n", "x = range(1, a)\n", "y = range(0, len(y))\n", "y = range(1, len(y))\n"),
        (
            "def f(x):\n    return x.y\n",
            "def f(x):\n    if x is None:\n        return None\n    return x.y\n",
            "def g(q):\n    z = 1\n    return q.y\n",
            "def g(q):\n    z = 1\n    if q is None:\n        return None\n    return q.y\n",
        ),
    ],
)
def test_earlier_edit_is_made_wherever_its_pattern_fits(old: str, new: str, now: str, wanted: str) -> None:
    assert wanted.encode() in [proposal.content for proposal in proposed(now, ("b.py", old, new))]


def test_pattern_seen_more_often_comes_first() -> None:
    lower = ("b.py", "x = a < b\n", "x = a <= b\n")
    edits = [PastEdit(n, "b.py", old.encode(), new.encode()) for n, (_, old, new) in enumerate([lower, lower])]
    edits.append(PastEdit(5, "b.py", b"x = a + b\n", b"x = a - b\n"))
    assert [count for _, count in learn(tuple(edits))] == [2, 1]


def test_latest_change_is_taken_back_edit_by_edit_then_whole() -> None:
    old = "def f(a):  # one\n    b = a < 1\n    return b\n\n\ndef g(a):\n    return a\n"
    new = old.replace("<", ">").replace("def g(a):\n    return a", "def g(a):\n    return -a")
    contents = [proposal.content for proposal in proposed(new, ("a.py", old, new))]
    assert contents[0] == new.replace(">", "<").encode()
    assert contents.index(new.replace("-a", "a").encode()) < contents.index(old.encode())


def test_file_that_no_longer_parses_is_taken_back_whole() -> None:
    (only,) = proposed("def f(:\n", ("a.py", "def f():\n    pass\n", "def f(:\n"))
    assert only.content == b"def f():\n    pass\n"


def test_name_that_is_bound_nowhere_is_not_put_in() -> None:
    assert proposed("x = p(1)\n", ("b.py", "y = p(1)\n", "y = only_there(1)\n")) == []


def test_log_without_python_edits_teaches_nothing() -> None:
    assert proposed("x = 1\n") == []
