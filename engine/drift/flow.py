"""The control flow of a body in one form: guards, `else` after `return`, exchanged branches, loops that build a list.

The rules are those of ruff's RET, SIM and PERF and of common refactorings: each gives code that runs the same steps.
"""

from __future__ import annotations

import ast
from typing import Final, Literal

from instar.engine.differences.syntax import DEFINITIONS

from .conditions import any_of, is_negative, negated, truth
from .inline import inlined
from .loops import gathered
from .returning import returning
from .statements import taken_apart

Tail = Literal["function", "value", "loop", "none"]
DEPTH_MAX: Final = 60
"""Blocks within blocks above which the form is left as it stands: the walk is recursive, as the parser's is."""


def flow(body: list[ast.stmt], tail: Tail, in_class: bool = False, depth: int = 0) -> list[ast.stmt]:
    """Gives a body in its form.

    Args:
        body: statements whose expressions are in their form already.
        tail: what ends when the body ends: a function, one that returns a value elsewhere, one turn of a loop, or
            neither.
        in_class: whether it is the body of a class.
        depth: how many blocks it stands in.
    """
    if depth > DEPTH_MAX:
        return body
    told: list[ast.stmt] = []
    waiting = body[::-1]
    while waiting:
        statement = waiting.pop()
        apart = taken_apart(statement, in_class)
        if apart != [statement]:
            waiting += apart[::-1]
            continue
        told.append(statement)
        if _leaves(statement):
            break
    if tail == "value" and depth == 0 and not (told and _leaves(told[-1])):
        told.append(ast.Return(None))
    last = len(told) - 1
    for place, statement in enumerate(told):
        _blocks(statement, tail if place == last else "none", in_class, depth)
    told = _unnested(_alternatives(gathered(told)))
    told = returning(_alternatives(told))
    told = _guards(told, tail, depth)
    told = [one for statement in told for one in _branches(statement)]
    return inlined(_ended(told, tail))


def function_tail(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Tail:
    """Says what the end of a function is: where it returns values, falling off its end is one more `return`."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return) and not (node.value is None or _is_none(node.value)):
            return "value"
        if isinstance(node, ast.stmt) and not isinstance(node, (*DEFINITIONS, ast.Expr, ast.Assign)):
            waiting += ast.iter_child_nodes(node)
        elif isinstance(node, (ast.ExceptHandler, ast.match_case)):
            waiting += node.body
    return "function"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _blocks(statement: ast.stmt, tail: Tail, in_class: bool, depth: int) -> None:
    """Puts the blocks of a statement into their form."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            statement.body = flow(statement.body, function_tail(statement), False, 0)
        case ast.ClassDef():
            statement.body = flow(statement.body, "none", True, depth + 1)
        case ast.For() | ast.AsyncFor() | ast.While():
            statement.body = flow(statement.body, "loop", in_class, depth + 1)
            statement.orelse = flow(statement.orelse, "none", in_class, depth + 1)
        case ast.If():
            statement.body = flow(statement.body, tail, in_class, depth + 1)
            statement.orelse = flow(statement.orelse, tail, in_class, depth + 1)
        case ast.With() | ast.AsyncWith():
            statement.body = flow(statement.body, "none", in_class, depth + 1)
        case ast.Try() | ast.TryStar():
            statement.body = flow(statement.body, "none", in_class, depth + 1)
            statement.orelse = flow(statement.orelse, "none", in_class, depth + 1)
            statement.finalbody = flow(statement.finalbody, "none", in_class, depth + 1)
            for handler in statement.handlers:
                handler.body = flow(handler.body, "none", in_class, depth + 1)
        case ast.Match():
            for case in statement.cases:
                case.body = flow(case.body, tail, in_class, depth + 1)


def _leaves(statement: ast.stmt) -> bool:
    """Says whether what follows a statement in its block is never reached.

    What follows a `with` that returns may be: some swallow the error of their block.
    """
    match statement:
        case ast.Return() | ast.Raise() | ast.Continue() | ast.Break():
            return True
        case ast.If(body=[*_, last], orelse=[*_, other]):
            return _leaves(last) and _leaves(other)
        case ast.Try(body=[*_, last], handlers=handlers, orelse=orelse, finalbody=[]):
            ends = [orelse[-1] if orelse else last, *(one.body[-1] for one in handlers if one.body)]
            return len(ends) == len(handlers) + 1 and all(map(_leaves, ends))
    return False


def _alternatives(body: list[ast.stmt]) -> list[ast.stmt]:
    """Joins conditions with the same branch: `if a: x`, `elif b: x`, or one after the other where it leaves."""
    told: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.If):
            statement = _with_same_branch(statement)
            before = told[-1] if told else None
            if isinstance(before, ast.If) and not before.orelse and _same_exit(before, statement):
                told.pop()
                test = any_of(ast.Or(), [before.test, statement.test])
                statement = ast.If(test, statement.body, statement.orelse)
        told.append(statement)
    return told


def _same_exit(left: ast.If, right: ast.If) -> bool:
    """Says whether two branches do the same and leave."""
    return (
        bool(left.body) and _leaves(left.body[-1]) and list(map(ast.dump, left.body)) == list(map(ast.dump, right.body))
    )


def _with_same_branch(statement: ast.If) -> ast.If:
    while len(statement.orelse) == 1 and isinstance(inner := statement.orelse[0], ast.If):
        if list(map(ast.dump, inner.body)) != list(map(ast.dump, statement.body)):
            break
        statement = ast.If(any_of(ast.Or(), [statement.test, inner.test]), statement.body, inner.orelse)
    return statement


def _unnested(body: list[ast.stmt]) -> list[ast.stmt]:
    """Takes what follows a branch that leaves out of its `else`."""
    told: list[ast.stmt] = []
    waiting = body[::-1]
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.If) and statement.orelse and statement.body and _leaves(statement.body[-1]):
            waiting += statement.orelse[::-1]
            statement = ast.If(statement.test, statement.body, [])
        elif isinstance(statement, ast.Try) and statement.orelse and _is_guard(statement):
            waiting += statement.orelse[::-1]
            statement = ast.Try(statement.body, statement.handlers, [], [])
        told.append(statement)
    return told


def _is_guard(statement: ast.Try) -> bool:
    """Says whether what follows a `try` is reached only where nothing was caught."""
    return not statement.finalbody and all(one.body and _leaves(one.body[-1]) for one in statement.handlers)


def _guards(body: list[ast.stmt], tail: Tail, depth: int) -> list[ast.stmt]:
    """Tells guards by their positive condition, and a guard that only ends the body by the branch that it guards."""
    for place in range(len(body) - 1, -1, -1):
        statement = body[place]
        if not isinstance(statement, ast.If) or statement.orelse or not statement.body:
            continue
        rest = body[place + 1 :]
        bare = len(statement.body) == 1 and _ends_tail(statement.body[0], tail)
        if bare and rest:
            return flow([*body[:place], ast.If(negated(statement.test), rest, [])], tail, False, depth + 1)
        if rest and _leaves(statement.body[-1]) and _leaves(rest[-1]) and is_negative(statement.test):
            turned = ast.If(negated(statement.test), rest, [])
            body = [*body[:place], turned, *statement.body]
    return body


def _ends_tail(statement: ast.stmt, tail: Tail) -> bool:
    match statement:
        case ast.Return(value=None):
            return tail == "function"
        case ast.Continue():
            return tail == "loop"
    return False


def _ended(body: list[ast.stmt], tail: Tail) -> list[ast.stmt]:
    """Leaves out a `return` or `continue` at the end, where the body ends anyway."""
    while body and _ends_tail(body[-1], tail):
        body = body[:-1]
    return body


def _branches(statement: ast.stmt) -> list[ast.stmt]:
    """Tells an `if` by its positive condition, one within another as one, and a choice of truths as their condition."""
    if not isinstance(statement, ast.If):
        return [statement]
    test, body, orelse = statement.test, statement.body, statement.orelse
    if not body and orelse:
        test, body, orelse = negated(test), orelse, []
    if orelse and is_negative(test):
        test, body, orelse = negated(test), orelse, body
    if not orelse and len(body) == 1 and isinstance(body[0], ast.If) and not body[0].orelse:
        test, body = any_of(ast.And(), [test, body[0].test]), body[0].body
    match body, orelse:
        case [ast.Assign(targets=[a], value=ast.Constant(value=bool(yes)))], [
            ast.Assign(targets=[b], value=ast.Constant(value=bool(no)))
        ] if yes is not no and ast.dump(a) == ast.dump(b):
            return [ast.Assign([a], truth(test) if yes else negated(test))]
        case [ast.Assign(targets=[a], value=ast.Subscript(value=mapping, slice=key))], [
            ast.Assign(targets=[b], value=ast.Constant() | ast.Name() as default)
        ] if ast.dump(a) == ast.dump(b) and _asks(test, key, mapping):
            return [ast.Assign([a], _got(mapping, key, default))]
    return [ast.If(test, body, orelse)]


def _asks(test: ast.expr, key: ast.expr, mapping: ast.expr) -> bool:
    match test:
        case ast.Compare(left=left, ops=[ast.In()], comparators=[right]):
            return ast.dump(left) == ast.dump(key) and ast.dump(right) == ast.dump(mapping)
    return False


def _got(mapping: ast.expr, key: ast.expr, default: ast.expr) -> ast.expr:
    nothing = isinstance(default, ast.Constant) and default.value is None
    return ast.Call(ast.Attribute(mapping, "get", ast.Load()), [key] if nothing else [key, default], [])
