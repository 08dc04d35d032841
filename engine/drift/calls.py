"""The one form of calls that formatters and linters write in more than one way.

What they know of: flake8-comprehensions, pyupgrade, flake8-simplify, refurb and their kin (the rules are ruff's C4, UP,
SIM, PERF, FURB). Names of builtins are taken to mean the builtins.
"""

from __future__ import annotations

import ast
from keyword import iskeyword
from typing import Final

from .aliases import ALIASES
from .conditions import condition, truth

_CONSUMERS: Final = frozenset(
    {"any", "all", "sum", "min", "max", "sorted", "set", "frozenset", "tuple", "list", "dict", "enumerate", "iter"}
)
"""Builtins for which a list in brackets and a generator are the same argument."""
_ASSERTIONS: Final = {
    "assertEquals": "assertEqual",
    "assertNotEquals": "assertNotEqual",
    "assert_": "assertTrue",
    "assertRaisesRegexp": "assertRaisesRegex",
    "assertRegexpMatches": "assertRegex",
}
_DEFAULTS: Final[dict[str, tuple[int, object]]] = {
    "open": (1, "r"),
    "range": (0, 0),
    "print": (0, ""),
    "enumerate": (1, 0),
}
"""Positional arguments that say what is so without them: ``(place, value)``."""
_KEYWORD_DEFAULTS: Final[dict[str, dict[str, object]]] = {
    "enumerate": {"start": 0},
    "open": {"encoding": None, "errors": None, "newline": None},
    "print": {"sep": " ", "end": "\n", "file": None, "flush": False},
    "sorted": {"key": None, "reverse": False},
    "subprocess.run": {"check": False},
    "zip": {"strict": False},
}
"""Keywords that say what is so without them."""
_EMPTY: Final = {"str": str, "bytes": bytes, "int": int, "float": float, "bool": bool}


IMPORTED: Final = ":"
"""Stands before the first name of what an import brings, so that no variable of the same name is taken for it."""


EACH: Final = "each~0"
"""The variable of what `map` calls a function with; no name of Python has the sign."""


def dotted(node: ast.expr) -> str | None:
    """Gives `a.b.c` of names and attributes, or None for any other expression."""
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    return ".".join([node.id.removeprefix(IMPORTED), *path[::-1]]) if isinstance(node, ast.Name) else None


def named(name: str) -> ast.expr:
    """Gives the expression `a.b.c`; the leading dots of a relative module stay with its first name."""
    dots = len(name) - len(name.lstrip(f".{IMPORTED}"))
    root, *path = name[dots:].split(".")
    node: ast.expr = ast.Name(name[:dots] + root, ast.Load())
    for attribute in path:
        node = ast.Attribute(node, attribute, ast.Load())
    return node


def alias(node: ast.expr) -> ast.expr:
    """Gives the name by which a builtin or a function of the standard library is told, if it has several."""
    name = dotted(node)
    if name in ALIASES:
        told = ALIASES[name]
        return named(IMPORTED + told if "." in told else told)
    if isinstance(node, ast.Attribute) and node.attr in _ASSERTIONS:
        return ast.Attribute(node.value, _ASSERTIONS[node.attr], node.ctx)
    return node


def called(node: ast.Call) -> ast.expr:
    """Gives the form of a call whose parts are in their form already."""
    node = _plain_keywords(node)
    match node:
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            if not keywords:
                return _builtin(name, arguments, node)
            return _builtin_with_keywords(name, node)
        case ast.Call(func=ast.Attribute(attr=name)):
            return _method(name, node)
    return node


def _plain_keywords(node: ast.Call) -> ast.Call:
    """`f(**{"a": 1})` is `f(a=1)`, and a keyword that says the default says nothing."""
    told: list[ast.keyword] = []
    for key in node.keywords:
        match key:
            case ast.keyword(arg=None, value=ast.Dict(keys=names, values=values)) if all(map(_is_word, names)):
                words = [name.value for name in names if isinstance(name, ast.Constant)]
                told += [ast.keyword(str(word), value) for word, value in zip(words, values, strict=True)]
            case _:
                told.append(key)
    usual = _KEYWORD_DEFAULTS.get(dotted(node.func) or "")
    if usual:
        told = [
            key
            for key in told
            if not (
                key.arg in usual
                and isinstance(key.value, ast.Constant)
                and type(key.value.value) is type(usual[key.arg])
                and key.value.value == usual[key.arg]
            )
        ]
    return ast.Call(node.func, node.args, told)


def _is_word(name: ast.expr | None) -> bool:
    return isinstance(name, ast.Constant) and is_word(name.value)


def is_word(name: object) -> bool:
    """Says whether a text may stand as a name in the source; names that a class makes its own do not count."""
    own = isinstance(name, str) and name.startswith("__") and not name.endswith("__")
    return isinstance(name, str) and name.isidentifier() and not iskeyword(name) and not own


def _builtin(name: str, arguments: list[ast.expr], node: ast.Call) -> ast.expr:
    match name, arguments:
        case "list", []:
            return ast.List([], ast.Load())
        case "tuple", []:
            return ast.Tuple([], ast.Load())
        case "dict", []:
            return ast.Dict([], [])
        case "str" | "bytes" | "int" | "float", [] | [ast.Constant()]:
            return _literal(name, arguments, node)
        case "bool", [inner]:
            return truth(condition(inner))
        case "getattr", [holder, ast.Constant(value=attribute)] if is_word(attribute):
            return ast.Attribute(holder, str(attribute), ast.Load())
        case "isinstance", [value, ast.Call(func=ast.Name(id="type"), args=[ast.Constant(value=None)])]:
            return ast.Compare(value, [ast.Is()], [ast.Constant(None)])
        case "zip", [
            ast.Call(func=ast.Attribute(value=a, attr="keys"), args=[]),
            ast.Call(func=ast.Attribute(value=b, attr="values"), args=[]),
        ] if ast.dump(a) == ast.dump(b):
            return ast.Call(ast.Attribute(b, "items", ast.Load()), [], [])
        case "set" | "frozenset", [ast.List(elts=[]) | ast.Tuple(elts=[])]:
            return ast.Call(node.func, [], [])
        case "isinstance" | "issubclass", [value, ast.BinOp(op=ast.BitOr()) | ast.Tuple() as kinds]:
            return ast.Call(node.func, [value, _one_or_many(kinds)], [])
        case "map", [ast.Lambda(args=ast.arguments(args=[parameter], defaults=[]), body=body), items]:
            return _generator(body, parameter.arg, items, [])
        case "map", [ast.Name() | ast.Attribute() as function, items] if dotted(function):
            each = called(ast.Call(function, [ast.Name(EACH, ast.Load())], []))
            return _generator(each, EACH, items, [])
        case "filter", [ast.Lambda(args=ast.arguments(args=[parameter], defaults=[]), body=body), items]:
            return _generator(ast.Name(parameter.arg, ast.Load()), parameter.arg, items, [body])
        case "filter", [ast.Constant(value=None), items]:
            return _generator(ast.Name(EACH, ast.Load()), EACH, items, [ast.Name(EACH, ast.Load())])
    if name in _CONSUMERS and len(arguments) == 1:
        return _consumer(name, arguments[0], node)
    if name in _DEFAULTS and len(arguments) > _DEFAULTS[name][0]:
        place, default = _DEFAULTS[name]
        given = arguments[place]
        told = isinstance(given, ast.Constant) and type(given.value) is type(default) and given.value == default
        if told and (name != "range" or len(arguments) == 2) and len(arguments) == (2 if name != "print" else 1):
            return ast.Call(node.func, arguments[:place] + arguments[place + 1 :], [])
    return node


def _literal(name: str, arguments: list[ast.expr], node: ast.Call) -> ast.expr:
    wanted: type = _EMPTY[name]
    if not arguments:
        return ast.Constant(wanted())
    only = arguments[0]
    return only if isinstance(only, ast.Constant) and type(only.value) is wanted else node


def _one_or_many(kinds: ast.expr) -> ast.expr:
    """`A | B`, `(A, B)` and `(A,)`, and the order of what is asked for."""
    items = kinds.elts if isinstance(kinds, ast.Tuple) else _alternatives(kinds)
    unique = {ast.dump(item): item for item in items}
    return exceptions(ast.Tuple(list(unique.values()), ast.Load()))


def exceptions(node: ast.expr) -> ast.expr:
    """Gives the form of the classes that a handler names: each once, in order, a single one without its tuple."""
    if not isinstance(node, ast.Tuple):
        return node
    unique = {ast.dump(item): item for item in node.elts}
    items = [unique[key] for key in sorted(unique)]
    return items[0] if len(items) == 1 else ast.Tuple(items, ast.Load())


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return [node]


def _consumer(name: str, only: ast.expr, node: ast.Call) -> ast.expr:
    if isinstance(only, ast.ListComp):
        only = ast.GeneratorExp(only.elt, only.generators)
    if isinstance(only, ast.GeneratorExp) and name not in {"enumerate", "iter"}:
        only = iterable(only)
    match name, only:
        case "set", ast.GeneratorExp(elt=elt, generators=generators):
            return ast.SetComp(elt, generators)
        case "list", ast.GeneratorExp(elt=elt, generators=generators):
            return ast.ListComp(elt, generators)
        case "dict", ast.GeneratorExp(elt=ast.Tuple(elts=[key, value]), generators=generators):
            return ast.DictComp(key, value, generators)
        case "set", ast.List(elts=items) | ast.Tuple(elts=items) if items:
            return ast.Set(items)
        case "list", ast.List(elts=items) | ast.Tuple(elts=items):
            return ast.List(items, ast.Load())
        case "tuple", ast.List(elts=items) | ast.Tuple(elts=items):
            return ast.Tuple(items, ast.Load())
        case "dict", ast.List(elts=items) if all(isinstance(one, ast.Tuple) and len(one.elts) == 2 for one in items):
            pairs = [one.elts for one in items if isinstance(one, ast.Tuple)]
            return ast.Dict([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        case (
            "list" | "set" | "frozenset" | "tuple" | "sorted" | "any" | "all" | "sum" | "min" | "max",
            ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner], keywords=[]),
        ):
            return _consumer(name, inner, node)
        case "list", ast.Call(func=ast.Name(id="sorted")):
            return only
        case "set" | "sorted" | "list" | "iter", ast.Call(func=ast.Attribute(value=inner, attr="keys"), args=[]):
            return ast.Call(node.func, [inner], [])
    return ast.Call(node.func, [only], [])


def _generator(result: ast.expr, name: str, items: ast.expr, conditions: list[ast.expr]) -> ast.expr:
    target = ast.Name(name, ast.Store())
    return ast.GeneratorExp(result, [ast.comprehension(target, items, conditions, 0)])


def iterable(node: ast.GeneratorExp) -> ast.expr:
    """`(x for x in y)` gives what `y` gives."""
    match node.elt, node.generators:
        case ast.Name(id=a), [ast.comprehension(target=ast.Name(id=b), ifs=[], is_async=0) as only] if a == b:
            return only.iter
    return node


def comprehended(node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.expr:
    """`[x for x in y]`, `{x for x in y}` and `{k: v for k, v in y}` are `list(y)`, `set(y)` and `dict(y)`."""
    match node:
        case ast.ListComp(elt=ast.Name(id=a), generators=[ast.comprehension(ifs=[], is_async=0) as only]):
            if isinstance(only.target, ast.Name) and only.target.id == a:
                return _consumer("list", only.iter, _call("list", only.iter))
        case ast.SetComp(elt=ast.Name(id=a), generators=[ast.comprehension(ifs=[], is_async=0) as only]):
            if isinstance(only.target, ast.Name) and only.target.id == a:
                return _consumer("set", only.iter, _call("set", only.iter))
        case ast.DictComp(
            key=ast.Name(id=a),
            value=ast.Constant() | ast.Name() as value,
            generators=[ast.comprehension(target=ast.Name(id=b), ifs=[], is_async=0) as only],
        ) if a == b and not (isinstance(value, ast.Name) and value.id == a):
            given = [] if isinstance(value, ast.Constant) and value.value is None else [value]
            return ast.Call(named("dict.fromkeys"), [only.iter, *given], [])
        case ast.DictComp(
            key=ast.Name(id=a), value=ast.Name(id=b), generators=[ast.comprehension(ifs=[], is_async=0) as only]
        ):
            match only.target:
                case ast.Tuple(elts=[ast.Name(id=c), ast.Name(id=d)]) if (a, b) == (c, d):
                    return _consumer("dict", only.iter, _call("dict", only.iter))
    return node


def _builtin_with_keywords(name: str, node: ast.Call) -> ast.expr:
    if name == "dict" and not node.args and all(key.arg for key in node.keywords):
        keys: list[ast.expr | None] = [ast.Constant(key.arg) for key in node.keywords]
        return ast.Dict(keys, [key.value for key in node.keywords])
    if name == "open":
        mode = [key for key in node.keywords if key.arg == "mode"]
        if mode and len(node.args) == 1:
            rest = [key for key in node.keywords if key.arg != "mode"]
            return called(ast.Call(node.func, [node.args[0], mode[0].value], rest))
        match node.args:
            case [path, ast.Constant(value="r")]:
                return ast.Call(node.func, [path], node.keywords)
    return node


def _method(name: str, node: ast.Call) -> ast.expr:
    match name, node.args, node.keywords:
        case "encode" | "decode", [ast.Constant(value=str(codec))], [] if codec.lower() in {"utf-8", "utf8"}:
            return _encoded(ast.Call(node.func, [], []))
        case "encode", [], []:
            return _encoded(node)
        case "fromkeys", [keys, ast.Constant(value=None)], [] if dotted(node.func) == "dict.fromkeys":
            return ast.Call(node.func, [keys], [])
        case "hex", [], [] if isinstance(node.func, ast.Attribute):
            match node.func.value:
                case ast.Call(func=ast.Attribute(value=digest, attr="digest"), args=[], keywords=[]):
                    return ast.Call(ast.Attribute(digest, "hexdigest", ast.Load()), [], [])
        case "get", [key, ast.Constant(value=None)], []:
            return ast.Call(node.func, [key], [])
        case "copy", [], [] if isinstance(node.func, ast.Attribute):
            return ast.Subscript(node.func.value, ast.Slice(), ast.Load())
        case "split", [], []:
            return _split(node)
        case "join" | "update" | "extend", [ast.ListComp(elt=elt, generators=generators)], []:
            return ast.Call(node.func, [ast.GeneratorExp(elt, generators)], [])
        case "union" | "update" | "extend", [ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner])], []:
            return ast.Call(node.func, [inner], [])
    full = dotted(node.func)
    if full == "collections.deque" and len(node.args) == 1 and _is_empty(node.args[0]):
        return ast.Call(node.func, [], node.keywords)
    if full in {"operator.itemgetter", "operator.attrgetter"} and len(node.args) == 1:
        return _getter(full, node.args[0], node)
    if full == "typing.cast" and len(node.args) == 2:
        return node.args[1]
    if full == "functools.lru_cache" and _is_unbounded(node):
        return named(f"{IMPORTED}functools.cache")
    if full is not None and full.startswith("subprocess."):
        return ast.Call(node.func, node.args, _subprocess(node.keywords))
    return node


def _getter(full: str, asked: ast.expr, node: ast.Call) -> ast.expr:
    """`itemgetter(0)` is `lambda x: x[0]`, and `attrgetter("a")` is `lambda x: x.a`."""
    given = ast.Name(EACH, ast.Load())
    match full, asked:
        case "operator.itemgetter", ast.Constant():
            body: ast.expr = ast.Subscript(given, asked, ast.Load())
        case "operator.attrgetter", ast.Constant(value=name) if is_word(name):
            body = ast.Attribute(given, str(name), ast.Load())
        case _:
            return node
    only = ast.arguments([], [ast.arg(EACH)], None, [], [], None, [])
    return ast.Lambda(only, body)


def _is_empty(node: ast.expr) -> bool:
    return isinstance(node, (ast.List, ast.Tuple)) and not node.elts


def _encoded(node: ast.Call) -> ast.expr:
    """`"a".encode()` is `b"a"`."""
    match node.func:
        case ast.Attribute(value=ast.Constant(value=str(text)), attr="encode") if text.isascii():
            return ast.Constant(text.encode())
    return node


def _split(node: ast.Call) -> ast.expr:
    """`"a b".split()` is the list of its words."""
    match node.func:
        case ast.Attribute(value=ast.Constant(value=str(text))):
            return ast.List([ast.Constant(word) for word in text.split()], ast.Load())
    return node


def _is_unbounded(node: ast.Call) -> bool:
    match node.args, node.keywords:
        case [], [ast.keyword(arg="maxsize", value=ast.Constant(value=None))]:
            return True
        case [ast.Constant(value=None)], []:
            return True
    return False


def _subprocess(keywords: list[ast.keyword]) -> list[ast.keyword]:
    told = [ast.keyword("text", key.value) if key.arg == "universal_newlines" else key for key in keywords]
    pipes = [key for key in told if key.arg in {"stdout", "stderr"} and dotted(key.value) == "subprocess.PIPE"]
    if len(pipes) == 2:
        told = [key for key in told if key not in pipes] + [ast.keyword("capture_output", ast.Constant(True))]
    return told


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
