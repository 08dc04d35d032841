"""What linters and refactorings write otherwise, each beside a change that looks much like it."""

from __future__ import annotations

import textwrap

import pytest

from instar.engine.drift import BOUNDARY, compare

HEAD = "import math, operator, os, re, subprocess\nfrom collections import deque\n\n\n"

SAME = {
    "attribute by text": ("return getattr(a, 'x')", "return a.x"),
    "attribute set by text": ("setattr(a, 'x', b)", "a.x = b"),
    "attribute deleted by text": ("delattr(a, 'x')", "del a.x"),
    "dict of one value": ("return {e: b for e in a}", "return dict.fromkeys(a, b)"),
    "dict of None": ("return {e: None for e in a}", "return dict.fromkeys(a)"),
    "two negations": ("return not not (a or b)", "return bool(a or b)"),
    "constant by its capitals": ("return A.LIMIT != a[b]", "return a[b] != A.LIMIT"),
    "sides of an equality": ("return a.x == b", "return b == a.x"),
    "sides of several equalities": ("return a == b.x or a == b.y", "return b.x == a or a == b.y"),
    "bounded above": ("if a > b:\n    a = b\nreturn a", "a = min(a, b)\nreturn a"),
    "bounded below": ("if a < 0:\n    a = 0\nreturn a", "return max(a, 0)"),
    "smaller of two": ("return a if a < b else b", "return min(a, b)"),
    "prefix cut off": ("return a[len(b):] if a.startswith(b) else a", "return a.removeprefix(b)"),
    "suffix cut off": ("if a.endswith('ab'):\n    a = a[:-2]\nreturn a", "return a.removesuffix('ab')"),
    "bytes of a text": ("return 'ab'.encode('utf-8')", "return b'ab'"),
    "format of a count": ("return '%d of %d' % (len(a), len(b))", "return f'{len(a)} of {len(b)}'"),
    "numbered fields": ("f = '{0}: {1!r}'.format\nreturn f(a, b)", "f = '{}: {!r}'.format\nreturn f(a, b)"),
    "empty deque": ("return deque([])", "return deque()"),
    "several appended": ("a.append(b)\na.append(1)", "a.extend((b, 1))"),
    "appended by a sum": ("a.append(b)", "a += [b]"),
    "loop that extends": ("for e in b:\n    if e:\n        a.append(e.x)", "a.extend(e.x for e in b if e)"),
    "loop that adds": ("for e in b:\n    a.add(e)", "a.update(b)"),
    "loops within a loop": (
        "r = []\nfor e in a:\n    for f in e:\n        r.append(f)\nreturn r",
        "return [f for e in a for f in e]",
    ),
    "loop that sums": ("r = 0\nfor e in a:\n    r += e.x\nreturn r", "return sum(e.x for e in a)"),
    "loop that counts": (
        "r = 0\nfor e in a:\n    if e.ok:\n        r += 1\nreturn r",
        "return sum(1 for e in a if e.ok)",
    ),
    "loop that finds": (
        "for e in a:\n    if e == b:\n        return e\nreturn None",
        "return next((e for e in a if e == b), None)",
    ),
    "number on the left": ("return 1.0 + a", "return a + 1.0"),
    "unused key": ("for _, v in a.items():\n    g(v)", "for v in a.values():\n    g(v)"),
    "unused value": ("for k, _ in a.items():\n    g(k)", "for k in a:\n    g(k)"),
    "unused count": ("for i, e in enumerate(a):\n    g(e)", "for e in a:\n    g(e)"),
    "assertion of what never holds": ("assert False, 'no'", "raise AssertionError('no')"),
    "defaults that are said": ("return zip(a, b)", "return zip(a, b, strict=False)"),
    "default of a sort": ("return sorted(a)", "return sorted(a, reverse=False)"),
    "default of a process": ("return subprocess.run(a)", "return subprocess.run(a, check=False)"),
    "otherwise": ("if not a:\n    a = b\nreturn a", "a = a or b\nreturn a"),
    "otherwise, if none": ("if a is None:\n    a = []\nreturn a", "a = [] if a is None else a\nreturn a"),
    "default put": ("if a not in b:\n    b[a] = []", "b.setdefault(a, [])"),
    "default asked for": ("if b in a:\n    return a[b]\nreturn 0", "return a.get(b, 0)"),
    "class of None": ("return isinstance(a, type(None))", "return a is None"),
    "lines of a file": ("for e in a.readlines():\n    g(e)", "for e in a:\n    g(e)"),
    "all deleted": ("del a[:]", "a.clear()"),
    "keys and values": ("return zip(a.keys(), a.values())", "return a.items()"),
    "keywords in a dict": ("return a(**{'x': 1})", "return a(x=1)"),
    "dict in a dict": ("return {**{'x': 1}, 'y': 2}", "return {'x': 1, 'y': 2}"),
    "merged dicts": ("return {**a, **b}", "return a | b"),
    "lambda of an empty list": ("return a(lambda: [])", "return a(list)"),
    "getter": ("return sorted(a, key=lambda e: e[0])", "return sorted(a, key=operator.itemgetter(0))"),
    "unpacked list": ("return [*a]", "return list(a)"),
    "filter without a function": ("return list(filter(None, a))", "return [e for e in a if e]"),
    "not any": ("return not any(e > 1 for e in a)", "return all(e <= 1 for e in a)"),
    "unpacked comprehension": ("x, y = [g(e) for e in a]\nreturn x", "x, y = (g(e) for e in a)\nreturn x"),
    "folded constant": ("return a & (1 << 9)", "return a & 512"),
    "sign of a constant": ("return a * +1", "return a * 1"),
    "one return": (
        "if a:\n    r = 1\nelif b:\n    r = 2\nelse:\n    r = 3\nreturn r",
        "if a:\n    return 1\nif b:\n    return 2\nreturn 3",
    ),
    "value before its exception": ("r = None\nif a:\n    r = b\nreturn r", "return b if a else None"),
    "else of a try": (
        "try:\n    r = int(a)\nexcept ValueError:\n    return None\nelse:\n    return r + 1",
        "try:\n    r = int(a)\nexcept ValueError:\n    return None\nreturn r + 1",
    ),
    "return out of a try": (
        "try:\n    r = int(a)\nexcept ValueError:\n    return None\nreturn r",
        "try:\n    return int(a)\nexcept ValueError:\n    return None",
    ),
    "same branch, joined late": (
        "if a and g(b):\n    return g(a)\nelif b:\n    return g(a)\nelif g(b):\n    try:\n        return a.x\n"
        "    except KeyError:\n        return b\nelse:\n    return b",
        "if a and g(b):\n    return g(a)\nif b:\n    return g(a)\nif g(b):\n    try:\n        return a.x\n"
        "    except KeyError:\n        return b\nreturn b",
    ),
    "local in a function that asks for names of others": (
        "found = []\nfor name in dir(a):\n    found.append(name)\ng(found, found)",
        "x = []\nfor y in dir(a):\n    x.append(y)\ng(x, x)",
    ),
    "copy of a parameter that an inner function has too": (
        "def g(b):\n    return b.x\nreturn g(b) + b",
        "y = b\ndef g(b):\n    return b.x\nreturn g(y) + y",
    ),
}
OTHER = {
    "attribute with a default": ("return getattr(a, 'x', None)", "return a.x"),
    "another attribute": ("setattr(a, 'x', b)", "a.y = b"),
    "another value": ("return {e: 1 for e in a}", "return dict.fromkeys(a, 2)"),
    "other bound": ("if a > b:\n    a = b\nreturn a", "return max(a, b)"),
    "bound of another": ("if a > b:\n    a = b\nreturn a", "if a > b:\n    b = a\nreturn a"),
    "larger of two": ("return a if a < b else b", "return a if a > b else b"),
    "too much of a prefix": ("return a[3:] if a.startswith('ab') else a", "return a.removeprefix('ab')"),
    "prefix for a suffix": ("return a.removesuffix('ab')", "return a.removeprefix('ab')"),
    "sides of an order": ("return a.x < b", "return b < a.x"),
    "equality of others": ("return a == b.x or a == b.y", "return a == b.x or b == b.y"),
    "order of what is appended": ("a.append(b)\na.append(1)", "a.append(1)\na.append(b)"),
    "one item or all": ("a.append(b)", "a.extend(b)"),
    "loop over the holder": ("for e in b:\n    a.append(e)", "a.extend(a)"),
    "sum from another start": ("r = 1\nfor e in a:\n    r += e\nreturn r", "r = 0\nfor e in a:\n    r += e\nreturn r"),
    "difference for a sum": ("r = 0\nfor e in a:\n    r += e\nreturn r", "r = 0\nfor e in a:\n    r -= e\nreturn r"),
    "other default of a search": (
        "for e in a:\n    if e == b:\n        return e\nreturn None",
        "for e in a:\n    if e == b:\n        return e\nreturn b",
    ),
    "keys for values": ("for _, v in a.items():\n    g(v)", "for v in a:\n    g(v)"),
    "count from one": ("for i, e in enumerate(a):\n    g(i, e)", "for i, e in enumerate(a, start=1):\n    g(i, e)"),
    "strict zip": ("return zip(a, b)", "return zip(a, b, strict=True)"),
    "sorted backwards": ("return sorted(a)", "return sorted(a, reverse=True)"),
    "checked process": ("return subprocess.run(a)", "return subprocess.run(a, check=True)"),
    "and for or": ("a = a or b\nreturn a", "a = a and b\nreturn a"),
    "default put over all": ("b.setdefault(a, [])", "b[a] = []"),
    "default of another": ("if b in a:\n    return a[b]\nreturn 0", "return a.get(b, 1)"),
    "none but one deleted": ("del a[:]", "del a[0]"),
    "any for all": ("return not any(e > 1 for e in a)", "return not all(e > 1 for e in a)"),
    "another item": ("return sorted(a, key=lambda e: e[0])", "return sorted(a, key=operator.itemgetter(1))"),
    "order of merged dicts": ("return {**a, **b}", "return {**b, **a}"),
    "another shift": ("return a & (1 << 9)", "return a & (1 << 8)"),
    "one return, exchanged": (
        "if a:\n    r = 1\nelse:\n    r = 2\nreturn r",
        "if a:\n    return 2\nreturn 1",
    ),
    "value that overwrites": ("r = 1\nif a:\n    r = b\nreturn r", "if a:\n    r = b\nr = 1\nreturn r"),
    "else of a try that goes on": (
        "try:\n    g(a)\nexcept ValueError:\n    h()\nelse:\n    k()",
        "try:\n    g(a)\nexcept ValueError:\n    h()\nk()",
    ),
    "guarded less": (
        "try:\n    r = g(a)\nexcept ValueError:\n    return None\nreturn h(r)",
        "try:\n    return h(g(a))\nexcept ValueError:\n    return None",
    ),
    "fields exchanged": ("f = '{0}: {1}'.format\nreturn f(a, b)", "f = '{1}: {0}'.format\nreturn f(a, b)"),
    "inner variable": (
        "def g(b):\n    return b.x\nreturn g(b) + b",
        "y = b\ndef g(b):\n    return y.x\nreturn g(y) + y",
    ),
}
SAME_WHOLE = {
    "order of slots": ("class A:\n    __slots__ = ('b', 'a')\n", "class A:\n    __slots__ = ('a', 'b')\n"),
    "flags by their letters": (
        "import re\nX = re.compile('a', re.X | re.I)\n",
        "import re\nX = re.compile('a', re.VERBOSE | re.IGNORECASE)\n",
    ),
    "moved types": (
        "from typing import Pattern, Deque, Set\n\n\ndef f(a: Pattern, b: Set[int]) -> Deque:\n    return g(a)\n",
        "from re import Pattern\nfrom collections import deque\n\n\n"
        "def f(a: Pattern, b: set[int]) -> deque:\n    return g(a)\n",
    ),
    "import in a branch": (
        "try:\n    import a\nexcept ImportError:\n    from typing_extensions import Self, Never\n\nX = Self, Never\n",
        "try:\n    import a\nexcept ImportError:\n"
        "    from typing import Never\n    from typing import Self\n\nX = Self, Never\n",
    ),
    "receiver of one letter": (
        "class C:\n    def f(self, o):\n        return self is o\n",
        "class C:\n    def f(A, o):\n        return A is o\n",
    ),
    "special names in another order": (
        "class A(B):\n    __a__ = P()\n    __b__ = P()\n",
        "class A(B):\n    __b__ = P()\n    __a__ = P()\n",
    ),
}
OTHER_WHOLE = {
    "another slot": ("class A:\n    __slots__ = ('b', 'a')\n", "class A:\n    __slots__ = ('a', 'c')\n"),
    "another flag": ("import re\nX = re.compile('a', re.I)\n", "import re\nX = re.compile('a', re.MULTILINE)\n"),
    "another import in a branch": (
        "try:\n    import a\nexcept ImportError:\n    from b import f\n\nX = f()\n",
        "try:\n    import a\nexcept ImportError:\n    from c import f\n\nX = f()\n",
    ),
    "members in another order": (
        "class A(Enum):\n    X = auto()\n    Y = auto()\n",
        "class A(Enum):\n    Y = auto()\n    X = auto()\n",
    ),
}


def _function(body: str) -> str:
    return f"{HEAD}def run(a, b):\n{textwrap.indent(body, '    ')}\n"


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
def test_what_a_linter_writes_otherwise_is_no_change(before: str, after: str) -> None:
    for old, new in ((before, after), (after, before)):
        found = compare("agent.py", _function(old), _function(new))
        assert not found.changed, found.because
        assert found.drift < 0.1


@pytest.mark.parametrize(("before", "after"), OTHER.values(), ids=OTHER)
def test_what_only_looks_like_it_is_a_change(before: str, after: str) -> None:
    for old, new in ((before, after), (after, before)):
        found = compare("agent.py", _function(old), _function(new))
        assert found.changed, found.because
        assert found.drift >= BOUNDARY, found.because


@pytest.mark.parametrize(("before", "after"), SAME_WHOLE.values(), ids=SAME_WHOLE)
def test_what_a_linter_writes_otherwise_in_a_whole_source_is_no_change(before: str, after: str) -> None:
    for old, new in ((before, after), (after, before)):
        found = compare("agent.py", old, new)
        assert found.drift < BOUNDARY, found.because
        assert not found.changed, found.because


@pytest.mark.parametrize(("before", "after"), OTHER_WHOLE.values(), ids=OTHER_WHOLE)
def test_what_only_looks_like_it_in_a_whole_source_is_a_change(before: str, after: str) -> None:
    for old, new in ((before, after), (after, before)):
        found = compare("agent.py", old, new)
        assert found.changed, found.because
        assert found.drift >= BOUNDARY, found.because


PROMPT = (
    "You tidy the folder of a project. Never delete files. Ask before you push, and wait 30 seconds. "
    + "Be brief. " * 40
)


@pytest.mark.parametrize(
    ("old", "new"),
    [("Never delete", "Always delete"), ("Never delete", "Delete"), ("Ask before", "Do not ask before"), ("30", "3")],
)
def test_prompt_that_says_the_opposite_is_a_change_however_long_it_is(old: str, new: str) -> None:
    found = compare("prompt.md", PROMPT, PROMPT.replace(old, new))
    assert found.changed
    assert found.drift >= BOUNDARY, found.because


def test_prompt_that_is_reworded_is_none() -> None:
    for old, new in (("Never delete", "Do not delete"), ("brief", "short"), ("wait 30", "then wait for 30")):
        found = compare("prompt.txt", PROMPT, PROMPT.replace(old, new, 1))
        assert found.drift < BOUNDARY, found.because
