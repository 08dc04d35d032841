from __future__ import annotations

import gzip
import json
import logging
import random
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.engine.differences import sequence_diff
from instar.engine.differences.units import MODULE, delta, meaning_changed, similarity, units

EDITS = Path(__file__).resolve().parents[3] / "shared" / "data" / "edits" / "synthetic_pypi.jsonl.gz"

SOURCE = textwrap.dedent(
    '''
    """Rules."""
    import os
    from typing import Any, NamedTuple

    LIMIT = 3


    class Machine(Base):
        """A machine.

        More."""

        retries: int = 2

        @property
        def step(self) -> int:
            """One step."""
            total = 0
            for item in self.items:
                total += item
            return total

        class Inner:
            def go(self): return os.getcwd()


    def outer(values, *, key=None):
        def inner(value):
            return total + value
        total = 1
        return [inner(value) for value in values if value is not key]
    '''
)


def test_units_are_named_by_kind_and_place() -> None:
    found = units(SOURCE)
    assert {name: unit.kind for name, unit in found.items()} == {
        MODULE: "module",
        "Machine": "class",
        "Machine.step": "method",
        "Machine.Inner": "class",
        "Machine.Inner.go": "method",
        "outer": "function",
        "outer.<locals>.inner": "nested",
    }
    assert found["Machine"].doc == "A machine."
    assert found["Machine.step"].source.splitlines()[0].strip() == "@property"
    assert found["Machine.step"].source.splitlines()[-1].strip() == "return total"
    assert "def step" not in found["Machine"].source
    assert "retries: int = 2" in found["Machine"].source
    assert "LIMIT = 3" in found[MODULE].source
    assert "class Machine" not in found[MODULE].source


COSMETIC: dict[str, list[tuple[str, str]]] = {
    "comment": [("LIMIT = 3", "LIMIT = 3  # three")],
    "layout": [("LIMIT = 3", "LIMIT   = (\n  3\n)")],
    "docstring": [('"""One step."""', '"""Another."""\n        pass')],
    "annotation": [("def step(self) -> int", "def step(self)")],
    "import split": [
        ("from typing import Any, NamedTuple", "from typing import NamedTuple\nfrom typing import Any"),
    ],
    "future annotations": [("import os\n", "from __future__ import annotations\nimport os\n")],
    "closure renamed": [("total = 1", "base = 1"), ("return total + value", "return base + value")],
    "loop variable renamed": [("inner(value) for value", "inner(x) for x"), ("if value is", "if x is")],
}


@pytest.mark.parametrize("replacements", COSMETIC.values(), ids=COSMETIC)
def test_cosmetic_edit_keeps_meaning(replacements: list[tuple[str, str]]) -> None:
    edited = SOURCE
    for old, new in replacements:
        assert old in edited
        edited = edited.replace(old, new)
    assert not meaning_changed(SOURCE, edited)
    assert similarity(SOURCE, edited) == 1.0


REAL = {
    "constant": ("LIMIT = 3", "LIMIT = 4"),
    "constant type": ("LIMIT = 3", "LIMIT = 3.0"),
    "operator": ("total += item", "total -= item"),
    "decorator": ("    @property\n", ""),
    "base": ("Machine(Base)", "Machine(Other)"),
    "field type": ("retries: int", "retries: str"),
    "parameter name": ("key=None", "other=None"),
    "condition": ("is not key", "is key"),
    "attribute": ("self.items", "self.things"),
    "other local": ("return total\n", "return item\n"),
}


@pytest.mark.parametrize(("old", "new"), REAL.values(), ids=REAL)
def test_real_edit_changes_meaning_a_little(old: str, new: str) -> None:
    edited = SOURCE.replace(old, new).replace("key]", "other]" if "other=" in new else "key]")
    found = delta(units(SOURCE), units(edited))
    assert found.meaning_changed
    assert len([name for name in found.changed if "<locals>" not in name]) == 1
    assert 0.85 < found.similarity < 1.0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(a, b):\n x = a\n y = b\n return x - y", "def f(a, b):\n x = a\n y = b\n return y - x"),
        (
            "def f():\n a = b = 0\n def g(): return a - b\n return g",
            "def f():\n a = b = 0\n def g(): return b - a\n return g",
        ),
        ("def f(x):\n y = x\n return locals()", "def f(x):\n z = x\n return locals()"),
        ("@app.command()\ndef f(x: int): pass", "@app.command()\ndef f(x: str): pass"),
        ("f(a=g(), b=h())", "f(b=h(), a=g())"),
        ("def f():\n global x\n x = 1", "def f():\n x = 1"),
        ("try: f()\nexcept ValueError: pass", "try: f()\nexcept KeyError: pass"),
        ("match x:\n case {'a': 1, **rest}: f(rest)", "match x:\n case {'a': 2, **rest}: f(rest)"),
    ],
)
def test_small_source_with_another_meaning_differs(before: str, after: str) -> None:
    assert meaning_changed(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(a):\n x = a\n return x", "def f(a):\n renamed = a\n return renamed"),
        ("lambda x: x + 1", "lambda y: y + 1"),
        ("def f(xs):\n return {k: v for k, v in xs}", "def f(xs):\n return {a: b for a, b in xs}"),
        ("f(a=1, b=x)", "f(b=x, a=1)"),
        ("def f(*args): return args", "def f(*rest): return rest"),
        ("class A(object): x = 1", "class A:\n    x = 1"),
        ("def f():\n return None", "def f():\n return"),
        ("def f():\n x: int\n x = 1\n return x", "def f():\n x = 1\n return x"),
        ("try: f()\nexcept E as e: g(e)", "try: f()\nexcept E as e:  g(e)"),
        ("def f():\n try: g()\n except E as e: h(e)", "def f():\n try: g()\n except E as err: h(err)"),
        ("def f(v):\n match v:\n  case [a, *b]: return b, a", "def f(v):\n match v:\n  case [c, *d]: return d, c"),
        ("def f():\n if (n := g()): return n", "def f():\n if (m := g()): return m"),
        ("def f():\n import json as j\n return j", "def f():\n import json as k\n return k"),
        ("def a(): return 1\ndef b(): return 2", "def b(): return 2\ndef a(): return 1"),
    ],
)
def test_small_source_with_the_same_meaning_is_equal(before: str, after: str) -> None:
    assert not meaning_changed(before, after)


def test_renamed_and_moved_unit_is_recognised_by_its_digest() -> None:
    renamed = SOURCE.replace("def outer", "def reduced")
    before, after = units(SOURCE), units(renamed)
    found = delta(before, after)
    assert ("outer", "reduced") in found.renamed
    assert "outer" in found.removed
    assert "reduced" in found.added
    assert before["outer"].digest == after["reduced"].digest
    assert found.meaning_changed
    assert found.similarity > 0.95


def test_recursive_function_keeps_its_digest_when_renamed() -> None:
    before = units("def fact(n):\n    return 1 if n < 2 else n * fact(n - 1)\n")
    after = units("def factorial(n):\n    return 1 if n < 2 else n * factorial(n - 1)\n")
    assert before["fact"].digest == after["factorial"].digest


def test_unit_defined_twice_gets_a_number() -> None:
    assert list(units("def f(): return 1\ndef f(): return 2\n")) == [MODULE, "f", "f#2"]
    assert meaning_changed("def f(): return 1\ndef f(): return 2", "def f(): return 2\ndef f(): return 1")


def test_conditional_definition_is_a_unit_and_its_place_counts() -> None:
    source = "if FAST:\n    def f(): return 1\nelse:\n    def f(): return 2\n"
    assert [unit.kind for unit in units(source).values()] == ["module", "function", "function"]
    assert meaning_changed(source, source.replace("if FAST", "if not FAST"))


@pytest.mark.parametrize("source", ["def f(:\n  x", "x = '\0'", "(" * 5000 + ")" * 5000, "a" + "+a" * 20000])
def test_source_that_does_not_parse_is_text_and_reported(source: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "instar.units"):
        found = units(source)
    assert [unit.kind for unit in found.values()] == ["text"]
    assert "does not parse" in caplog.text
    assert not meaning_changed(source, source + "\n\n")
    assert meaning_changed(source, source + "\nmore")


def test_invalid_escape_in_foreign_source_warns_nobody() -> None:
    assert units('x = "\\d"')[MODULE].kind == "module"


@given(st.lists(st.sampled_from("abcde"), max_size=60), st.lists(st.sampled_from("abcde"), max_size=60))
def test_changes_turn_left_into_right(left: list[str], right: list[str]) -> None:
    rebuilt: list[str] = []
    at = 0
    for change in sequence_diff.changes(left, right):
        rebuilt += left[at : change.a_low] + right[change.b_low : change.b_high]
        at = change.a_high
    assert rebuilt + left[at:] == right
    assert (sequence_diff.edits(left, right) == 0) == (left == right)
    for first, second in pairwise(sequence_diff.matches(left, right)):
        assert first.a + first.size <= second.a
        assert first.b + first.size <= second.b


def test_changes_of_a_large_sequence_stay_exact_and_small() -> None:
    chance = random.Random(7)
    left = [f"line {number}" if number % 3 else "" for number in range(60_000)]
    right = list(left)
    for _ in range(50):
        right.insert(chance.randrange(len(right)), "new")
        del right[chance.randrange(len(right))]
    found = sequence_diff.changes(left, right)
    rebuilt: list[str] = []
    at = 0
    for change in found:
        rebuilt += left[at : change.a_low] + right[change.b_low : change.b_high]
        at = change.a_high
    assert rebuilt + left[at:] == right
    assert sequence_diff.edits(left, right) <= 100


def _auc(rows: list[dict[str, Any]], scores: list[float]) -> float:
    changing = [score for row, score in zip(rows, scores, strict=True) if row["label"] == "changing"]
    preserving = [score for row, score in zip(rows, scores, strict=True) if row["label"] == "preserving"]
    wins = sum((high > low) + 0.5 * (high == low) for high in changing for low in preserving)
    return wins / (len(changing) * len(preserving))


def test_meaning_of_real_edits_is_read_with_auc_above_0_94() -> None:
    if not EDITS.exists():
        pytest.skip(f"the measured edits are not here: {EDITS}")
    rows = [json.loads(line) for line in gzip.decompress(EDITS.read_bytes()).splitlines()]
    found = [delta(units(row["before"]), units(row["after"])) for row in rows]
    changed = [
        row for row, one in zip(rows, found, strict=True) if row["label"] == "changing" and not one.meaning_changed
    ]
    assert not changed, "a change of behaviour passed for cosmetic"
    assert _auc(rows, [1.0 - one.similarity for one in found]) > 0.94
    assert _auc(rows, [float(one.meaning_changed) for one in found]) > 0.97
