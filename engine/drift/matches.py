"""`match` over values and classes, told as the `if` … `elif` that asks the same."""

from __future__ import annotations

import ast

from .conditions import any_of, compared, condition


def choice_of(node: ast.Match) -> list[ast.stmt] | None:
    """Gives the conditions that a `match` stands for; None where it takes its subject apart or names parts of it."""
    if not isinstance(node.subject, ast.Name):
        return None  # what is asked for again and again has to be the same each time
    told: list[ast.stmt] = []
    for case in reversed(node.cases):
        tests = _tests(node.subject, case.pattern)
        if tests is None:
            return None
        if case.guard is not None:
            tests = [*tests, condition(case.guard)]
        told = [ast.If(any_of(ast.And(), tests), case.body, told)] if tests else case.body
    return told


def _tests(subject: ast.Name, pattern: ast.pattern) -> list[ast.expr] | None:
    """Conditions that all hold where a pattern fits: none for `_`; None for a pattern that has no such form."""
    match pattern:
        case ast.MatchAs(pattern=None, name=None):
            return []
        case ast.MatchValue(value=value):
            return [compared(ast.Compare(subject, [ast.Eq()], [value]))]
        case ast.MatchSingleton(value=value):
            return [ast.Compare(subject, [ast.Is()], [ast.Constant(value)])]
        case ast.MatchClass(cls=kind, patterns=[], kwd_patterns=[]):
            return [ast.Call(ast.Name("isinstance", ast.Load()), [subject, kind], [])]
        case ast.MatchOr(patterns=patterns):
            several = [_tests(subject, one) for one in patterns]
            single = [tests[0] for tests in several if tests is not None and len(tests) == 1]
            return [any_of(ast.Or(), single)] if len(single) == len(several) else None
    return None
