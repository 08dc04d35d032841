"""Names that only stand for another name or a value used once: told by what they stand for.

`x = f(a); return x` is `return f(a)`, and a local that copies a parameter is the parameter: what extracting or inlining
a variable leaves, and what a minifier does to save a letter.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from typing import Final

from instar.engine.differences.bindings import reads_names

Function = ast.FunctionDef | ast.AsyncFunctionDef
_OWN_SCOPE: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_ACTS: Final = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
_WAITS: Final = (ast.Await, ast.Yield, ast.YieldFrom)
_READS: Final = (ast.Attribute, ast.Subscript)
"""What gives another value once something acted, and may raise."""
_ONLY_ASK: Final = frozenset(
    {"abs", "bool", "float", "getattr", "hasattr", "id", "int", "isinstance", "issubclass", "len", "max", "min", "repr"}
    | {"range", "round", "str", "super", "tuple", "type"}
)
"""Builtins that change nothing."""
INLINED: Final = "inlined"
"""Marks an assignment whose value may stand in place of its name: ``once``, where the name is read once in all of the
function, ``last``, where a statement that leaves reads it once, ``never`` where nothing reads it."""


def inlined(body: list[ast.stmt]) -> list[ast.stmt]:
    """Puts values in place of names that are bound and used once, the one right after the other.

    The body is only a part of its function: ``mark_uses`` has marked the assignments of which that can be said.
    """
    told: list[ast.stmt] = []
    for statement in body:
        while told and (mark := getattr(told[-1], INLINED, None)) is not None:
            before = told[-1]
            assert isinstance(before, ast.Assign)
            name = before.targets[0]
            assert isinstance(name, ast.Name)
            if mark == "last" and not (_leaves(statement) and _reads(statement, name.id) == 1):
                break
            if not _put(statement, name.id, before.value):
                break
            told.pop()
        told.append(statement)
    return [one for statement in told for one in _unread(statement)]


def _unread(statement: ast.stmt) -> list[ast.stmt]:
    """Leaves of an assignment that nobody reads what its value does."""
    if not isinstance(statement, ast.Assign) or getattr(statement, INLINED, None) != "never":
        return [statement]
    acts = any(isinstance(one, _ACTS) for one in ast.walk(statement.value))
    return [ast.Expr(statement.value)] if acts else []


def _leaves(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.Return, ast.Raise))


def _reads(statement: ast.stmt, name: str) -> int:
    return sum(isinstance(one, ast.Name) and one.id == name for one in ast.walk(statement))


def mark_uses(function: Function) -> None:
    """Marks the assignments of a function whose value can stand in place of their name (see ``INLINED``)."""
    if any(reads_names(node) for node in ast.walk(function)):
        return
    stores, loads, outside = _counted(function)
    assigned: list[tuple[str, ast.Assign]] = []
    waiting: list[ast.AST] = list(function.body)
    caught: set[int] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Try, ast.TryStar)):
            caught.update(id(one) for part in node.body for one in ast.walk(part) if isinstance(one, ast.Assign))
        if isinstance(node, _OWN_SCOPE):
            # What an inner function reads may be read at any time, and what it binds is another variable.
            outside.update(one.id for one in ast.walk(node) if isinstance(one, ast.Name))
            continue
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]):
                assigned.append((name, node))
        waiting += ast.iter_child_nodes(node)
    for name, assignment in assigned:
        if name in outside:
            setattr(assignment, INLINED, None)
        elif not loads[name]:
            # In a `try` that nobody reads the value does not say that nobody waits for its error.
            asks = id(assignment) in caught and not isinstance(assignment.value, (ast.Name, ast.Constant))
            setattr(assignment, INLINED, None if asks else "never")
        else:
            setattr(assignment, INLINED, "once" if stores[name] == loads[name] == 1 else "last")


def _put(statement: ast.stmt, name: str, value: ast.expr) -> bool:
    """Replaces the one use of a name at the head of a statement, if nothing that acts is overtaken by it."""
    acts = any(isinstance(one, _ACTS) for one in ast.walk(value))
    waits = any(isinstance(one, _WAITS) for one in ast.walk(value))
    if waits and isinstance(statement, ast.AugAssign) and not isinstance(statement.target, ast.Name):
        return False  # `a.n += await f()` reads `a.n` before it waits
    for field in _heads(statement):
        root = getattr(statement, field)
        if not isinstance(root, ast.expr):
            continue
        if isinstance(root, ast.Name) and root.id == name:
            setattr(statement, field, value)
            return True
        found, clear = _replace(root, name, value)
        if found:
            return True
        if acts and not clear:
            return False
    return False


def _heads(statement: ast.stmt) -> tuple[str, ...]:
    """Fields of a statement that are evaluated once and first."""
    match statement:
        case ast.If():
            return ("test",)
        case ast.For() | ast.AsyncFor():
            return ("iter",)
        case ast.Return() | ast.Expr() | ast.Assign() | ast.AugAssign():
            return ("value",)
        case ast.Raise():
            return ("exc",)
        case ast.Assert():
            return ("test",)
    return ()


def _replace(root: ast.expr, name: str, value: ast.expr) -> tuple[bool, bool]:
    """Replaces a name below an expression.

    Returns:
        Whether it was found, and whether nothing that acts stands before where the search ended.
    """
    acts = any(isinstance(one, _ACTS) for one in ast.walk(value))
    reads = any(isinstance(one, _READS) for one in ast.walk(value))
    clear = True
    waiting: list[ast.AST] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*_OWN_SCOPE, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            clear = False
            continue
        for field, held in ast.iter_fields(node):
            items = held if isinstance(held, list) else [held]
            for place, item in enumerate(items):
                if not (isinstance(item, ast.Name) and item.id == name):
                    continue
                if acts and not _is_first(root, item, _acts):
                    return False, False
                if reads and not _is_first(root, item, _alters):
                    return False, False
                if (acts or reads) and _is_conditional(root, item):
                    return False, False
                if isinstance(held, list):
                    held[place] = value
                else:
                    setattr(node, field, value)
                return True, clear
        waiting += [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.AST)][::-1]
    return False, clear


def _is_first(root: ast.expr, wanted: ast.Name, counts: Callable[[ast.AST], bool]) -> bool:
    """Says whether nothing that counts is evaluated before a name."""
    order = list(_evaluated(root))
    before = order[: next(place for place, one in enumerate(order) if one is wanted)]
    return not any(map(counts, before))


def _acts(node: ast.AST) -> bool:
    return isinstance(node, _ACTS)


def _alters(node: ast.AST) -> bool:
    """Says whether something may give an attribute or an item another value."""
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in _ONLY_ASK:
            return False
    return isinstance(node, _ACTS)


def _is_conditional(root: ast.expr, wanted: ast.Name) -> bool:
    """Says whether a name is read only if something else holds: then its value would not always be asked for."""
    for node in ast.walk(root):
        match node:
            case ast.BoolOp(values=[_, *rest]) | ast.Compare(comparators=[_, *rest]):
                pass
            case ast.IfExp(body=body, orelse=orelse):
                rest = [body, orelse]
            case _:
                continue
        if any(one is wanted for part in rest for one in ast.walk(part)):
            return True
    return False


def _evaluated(node: ast.AST) -> list[ast.AST]:
    """Nodes below one, in the order in which they are evaluated: children before what is made of them."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        found += _evaluated(child)
    return [*found, node]


def merge_copies(function: Function) -> None:
    """Removes `a = b` at the top of a function where both names are one value from there on.

    That is so where neither is bound again, or where ``b`` is used nowhere else.
    """
    stores, loads, outside = _counted(function)
    renamed: dict[str, str] = {}
    kept: list[ast.stmt] = []
    seen: set[str] = set()
    for statement in function.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=copy)], value=ast.Name(id=source)) if (
                source != copy
                and source not in renamed
                and copy not in seen
                and not {copy, source} & outside
                and stores[source] == 1
                and (stores[copy] == 1 or loads[source] == 1)
                and not _hides(function, copy, source)
            ):
                renamed[copy] = source
            case _:
                kept.append(statement)
                seen.update(one.id for one in ast.walk(statement) if isinstance(one, ast.Name))
    if not renamed:
        return
    function.body = kept
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            while node.id in renamed:
                node.id = renamed[node.id]


def _counted(function: Function) -> tuple[Counter[str], Counter[str], set[str]]:
    """Counts where names are bound and read in a function and all within it, and names that live outside.

    A parameter of an inner function is another variable than a name of this one.
    """
    stores: Counter[str] = Counter()
    loads: Counter[str] = Counter()
    outside: set[str] = set()
    waiting: list[tuple[ast.AST, frozenset[str]]] = [(function, frozenset())]
    while waiting:
        node, hidden = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and node is not function:
            inner = hidden | {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
            around: list[ast.AST | None] = [*node.args.defaults, *node.args.kw_defaults]
            if not isinstance(node, ast.Lambda):
                around += node.decorator_list
            waiting += ((one, hidden) for one in around if one is not None)
            waiting += ((one, inner) for one in (node.body if isinstance(node.body, list) else [node.body]))
        else:
            waiting += ((one, hidden) for one in ast.iter_child_nodes(node))
        match node:
            case ast.Name(id=name, ctx=ast.Load()) if name not in hidden:
                loads[name] += 1
            case ast.Name(id=name) | ast.arg(arg=name) if name not in hidden:
                stores[name] += 1
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                outside.update(names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if node is not function:
                stores[node.name] += 1
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                stores[name] += 1
            case ast.alias():
                stores[node.asname or node.name.partition(".")[0]] += 1
    return stores, loads, outside


def _hides(function: Function, copy: str, source: str) -> bool:
    """Says whether an inner function reads a copy where its own parameter has the name of what was copied."""
    return any(
        isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        and node is not function
        and any(isinstance(one, ast.arg) and one.arg == source for one in ast.walk(node.args))
        and _reads_any(node, copy)
        for node in ast.walk(function)
    )


def _reads_any(node: ast.AST, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node))
