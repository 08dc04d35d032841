"""Edits of the syntax: each operator, what every proposal holds to, and what a failure points at."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.engine.mutators import learnt, port, scopes, suspicion
from instar.engine.mutators import source as source_module
from instar.engine.mutators.operators import Operators, edits_of
from instar.engine.mutators.port import PastEdit, Proposal, RepairRequest
from instar.engine.mutators.source import Source
from instar.engine.mutators.suspicion import ELSEWHERE, LINE, Suspicion

REAL = [inspect.getsource(module) for module in (learnt, port, scopes, suspicion, source_module, textwrap)]


def proposed(code: str, output: str = "", seed: int = 0) -> list[Proposal]:
    request = RepairRequest(files={"a.py": code.encode()}, output=output, seed=seed)
    return list(Operators().propose(request))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("def f(a, b):\n    return a < b\n", "def f(a, b):\n    return a <= b\n"),
        ("def f(a, b):\n    return a is not b  # why\n", "def f(a, b):\n    return a is b  # why\n"),
        ("def f(a, b):\n    return a - b\n", "def f(a, b):\n    return a + b\n"),
        ("def f(a, b):\n    a *= b\n    return a\n", "def f(a, b):\n    a /= b\n    return a\n"),
        ("def f(a, b):\n    return b - a\n", "def f(a, b):\n    return a - b\n"),
        ("def f(n):\n    return list(range(n))\n", "def f(n):\n    return list(range(n + 1))\n"),
        ("def f(x, i):\n    return x[i + 1]\n", "def f(x, i):\n    return x[i]\n"),
        ("def f(x):\n    return x[1]\n", "def f(x):\n    return x[0]\n"),
        ("def f(a, b):\n    return a and b\n", "def f(a, b):\n    return a or b\n"),
        ("def f(a):\n    if not a:\n        return 1\n", "def f(a):\n    if a:\n        return 1\n"),
        ("def f(a):\n    if a:\n        return 1\n", "def f(a):\n    if not a:\n        return 1\n"),
        ("def f():\n    return True\n", "def f():\n    return False\n"),
        ("def f(low, high):\n    return g(low)\n", "def f(low, high):\n    return g(high)\n"),
        ("def f(total):\n    return totl\n", "def f(total):\n    return total\n"),
        ("def f(a, b):\n    return g(a, b)\n", "def f(a, b):\n    return g(b, a)\n"),
        ("def f(x):\n    x.append(1)\n    x.apend(2)\n", "def f(x):\n    x.append(1)\n    x.append(2)\n"),
        ("def f(x=0):\n    return x\n", "def f(x=None):\n    return x\n"),
        ("def f(x):\n    x + 1\n", "def f(x):\n    return x + 1\n"),
        ("def f(x):\n    y = x\n    y = 0\n    return y\n", "def f(x):\n    y = x\n    return y\n"),
        ("def f(x):\n    for y in x:\n        break\n", "def f(x):\n    for y in x:\n        continue\n"),
        ("def f(x):\n    a(x)\n    b(x)\n", "def f(x):\n    b(x)\n    a(x)\n"),
        ("def f(x):\n    return x.y\n", "def f(x):\n    if x is None:\n        return None\n    return x.y\n"),
        ('def f(x):\n    g("a")\n    g("b")\n', 'def f(x):\n    g("a")\n    g("a")\n'),
        (
            "def f():\n    try:\n        g()\n    except Odd:\n        pass\n",
            "def f():\n    try:\n        g()\n    except KeyError:\n        pass\n",
        ),
    ],
)
def test_fault_of_a_kind_has_its_repair_among_the_proposals(wrong: str, right: str) -> None:
    assert right.encode() in [proposal.content for proposal in proposed(wrong)]


def test_exception_that_the_gate_names_can_be_caught() -> None:
    told = [one.content.decode() for one in proposed("def f(x):\n    g(x)\n", "KeyError: 'a'")]
    assert "def f(x):\n    try:\n        g(x)\n    except KeyError:\n        pass\n" in told


def test_only_the_tokens_of_an_edit_change() -> None:
    code = "def f(a,  b) :  # one\r\n    return (  a  <  # two\r\n        b )\r\n"
    assert code.replace("<", "<=").encode() in [one.content for one in proposed(code)]


def test_line_of_the_traceback_comes_first_and_its_function_next() -> None:
    code = "def g(a):\n    return a < 3\n\n\ndef f(a):\n    b = a > 1\n    return b\n"
    first = proposed(code, 'Traceback:\n  File "/x/a.py", line 6, in f\n    b = a > 1\n')[0]
    assert first.description.startswith("a.py:6: > becomes")


def test_function_that_only_failing_tests_name_is_suspected_more() -> None:
    code = "def used(a):\n    return a\n\n\ndef other(a):\n    return a\n"
    tests = "def test_a():\n    assert used(1) == 2\n\n\ndef test_b():\n    assert other(1) == 1\n"
    request = RepairRequest(
        files={"a.py": code.encode()},
        context={"tests/test_a.py": tests.encode()},
        output='File "/copy/tests/test_a.py", line 2, in test_a',
    )
    read = Source.read(code.encode())
    assert read is not None
    found = Suspicion(request, {"a.py": read})
    assert LINE > found.of("a.py", 2) > found.of("a.py", 6) == ELSEWHERE


def test_function_that_changed_last_is_suspected() -> None:
    code = "def f(a):\n    return a\n\n\ndef g(a):\n    return a\n"
    past = PastEdit(
        7, "a.py", code.replace("def g(a):\n    return a", "def g(a):\n    return 1").encode(), code.encode()
    )
    request = RepairRequest(files={"a.py": code.encode()}, output="", edits=(past,))
    read = Source.read(code.encode())
    assert read is not None
    found = Suspicion(request, {"a.py": read})
    assert found.of("a.py", 6) > found.of("a.py", 2)


def test_seed_decides_the_order_and_nothing_else() -> None:
    code = "def f(a, b, c):\n    return a < b and b < c\n"
    one, same, other = (proposed(code, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert {p.content for p in one} == {p.content for p in other}


@pytest.mark.parametrize("content", [b"def f(:\n", b"\xff\xfe", b"# coding: latin-1\nx = '\xe9'\n", b"x = 1\0", b""])
def test_what_cannot_be_read_has_no_proposals(content: bytes) -> None:
    assert list(Operators().propose(RepairRequest(files={"a.py": content}, output=""))) == []


def test_names_within_an_f_string_are_left_alone() -> None:
    code = "def f(one, two):\n    return f'{one} {two!r:>{one}}'\n"
    literal = b"f'{one} {two!r:>{one}}'"
    assert all(literal in proposal.content or b"f'" not in proposal.content for proposal in proposed(code))


SNIPPETS: tuple[Callable[[str], str], ...] = (
    lambda name: f"if {name} < 3 and not {name}:\n    {name} = {name} + 1\nelse:\n    pass\n",
    lambda name: f"for {name} in range({name}, 9):  # über\n    print({name}, 'é', sep='\\n')\n",
    lambda name: f"try:\n    {name}.go(1, x=2)\nexcept (ValueError, OSError) as e:\n    raise KeyError from e\n",
    lambda name: f"@wraps\ndef {name}(a, /, b=1, *c, d=None, **e): return a if b else lambda: c\n",
    lambda name: f"class {name.title()}_:\n    x: int = 1; y = x\n    async def m(self): await self.x[1:]\n",
    lambda name: f"{name} = [i ** 2 for i in '''a\nb''' if i if not {name}] or {{**{name}}}\n",
    lambda name: f"match {name}:\n    case [1, *_] if {name}: ...\n    case _: del {name}\n",
    lambda name: f"with a as {name}, b: \\\n    assert {name} is not None, f'{{{name}!r}}'\n",
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SNIPPETS), st.sampled_from(["a", "b", "größe"])), min_size=1, max_size=4))
def test_every_proposal_compiles_differs_and_comes_once(parts: list[tuple[Callable[[str], str], str]]) -> None:
    code = "".join(make(name) for make, name in parts)
    proposals = proposed(f"def outer(a, b):\n{textwrap.indent(code, '    ')}") if "'''" not in code else proposed(code)
    dumps = [ast.dump(ast.parse(proposal.content)) for proposal in proposals]
    assert len(dumps) == len(set(dumps))
    assert ast.dump(ast.parse(code)) not in dumps
    assert {proposal.path for proposal in proposals} <= {"a.py"}


@pytest.mark.parametrize("code", REAL)
def test_most_edits_of_real_code_compile(code: str) -> None:
    source = Source.read(code.encode())
    assert source is not None
    edits = list(edits_of(source))[::40]
    made = [edit for edit in edits if source.edited(edit) is not None]
    assert len(made) > 0.8 * len(edits)
