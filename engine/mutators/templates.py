"""The mutator ``templates``: the latest changes taken back, then fixes like those that the log holds.

A change that broke something is the likeliest thing to be mended, so the latest edits are undone first, one by one,
then a function, then the file. Then come patterns (see ``learnt``) of every small edit, the most frequent first,
wherever the code now looks as it did before one. Fix templates were written by hand in PAR (Kim et al. 2013); these are
learnt.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Final

from .learnt import HOLE, Pair, Pattern, abstracted, functions_by_name, matched, pairs
from .operators import read_all, tie
from .port import PastEdit, Proposal, RepairRequest
from .scopes import bound_names
from .source import Edit, Source, enclosed, parsed
from .suspicion import Suspicion

UNDONE_MAX: Final = 8
"""How many of the latest changes are taken back."""


class Templates:
    """Proposes to take the latest changes back, and edits like earlier ones."""

    name: Final = "templates"

    def propose(self, request: RepairRequest) -> Iterator[Proposal]:
        """Yields each version once: what was before, then what earlier edits would make of the code."""
        sources = read_all(request)
        yield from undone(request, sources)
        yield from _like_before(request, sources)


# ---- taking back ---------------------------------------------------------------------------------------------------


def undone(request: RepairRequest, sources: dict[str, Source]) -> Iterator[Proposal]:
    """Yields what takes the latest changes of the files back: an edit, a function, a file."""
    latest = [edit for edit in request.edits if edit.path in request.files][:UNDONE_MAX]
    for past in latest:
        source = sources.get(past.path)
        old = Source.read(past.before)
        for edit in _reversals(source, old, past) if source and old else ():
            content = source.edited(edit) if source else None
            if content is not None:
                yield Proposal(past.path, content, f"{past.path}:{edit.line}: {edit.description}")
        if request.files[past.path] == past.after and (source.fresh if source else parsed)(past.before):
            yield Proposal(past.path, past.before, f"{past.path}: event {past.seq} is taken back")


def _reversals(source: Source, old: Source, past: PastEdit) -> Iterator[Edit]:
    then = parsed(past.after)
    if then is None:
        return
    before, after, now = (functions_by_name(tree) for tree in (old.tree, then, source.tree))
    for name, function in after.items():
        same = name in now and ast.dump(now[name]) == ast.dump(function)
        if not same or name not in before or ast.dump(before[name]) == ast.dump(function):
            continue
        for pair in pairs(now[name], before[name]):
            yield from _replaced(source, pair, old, f"event {past.seq} is taken back here")
        text = old.text(before[name])
        if before[name].col_offset == now[name].col_offset:
            told = f"{name} is as before event {past.seq}"
            yield Edit(*source.span(now[name]), text.encode(), now[name].lineno, 1.0, told)
    for statement, earlier in _module_edits(source.tree, old.tree, then):
        for pair in pairs(statement, earlier):
            yield from _replaced(source, pair, old, f"event {past.seq} is taken back here")


def _module_edits(now: ast.Module, old: ast.Module, then: ast.Module) -> list[tuple[ast.AST, ast.AST]]:
    """Pairs statements of a module that a change made other, where all else stands as it did."""
    if not len(now.body) == len(old.body) == len(then.body):
        return []
    return [
        (here, before)
        for here, before, after in zip(now.body, old.body, then.body, strict=True)
        if ast.dump(here) == ast.dump(after) != ast.dump(before)
        and not isinstance(here, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _replaced(source: Source, pair: Pair, old: Source, told: str) -> Iterator[Edit]:
    """Writes the earlier text of a pair in place of the present one, where each is one node."""
    if len(pair.before) == len(pair.after) == 1:
        here, earlier = pair.before[0], pair.after[0]
        text = old.text(earlier)
        if isinstance(earlier, ast.expr):
            for written in dict.fromkeys((text, f"({text})")):
                yield Edit(*source.span(here), written.encode(), here.lineno, 1.0, told)  # type: ignore[attr-defined]
        elif "\n" not in text:
            yield Edit(*source.span(here), text.encode(), here.lineno, 1.0, told)  # type: ignore[attr-defined]
    elif all(isinstance(node, ast.stmt) for node in (*pair.before, *pair.after)):
        edit = _written(source, pair.before, pair.after, told, 1.0)
        if edit:
            yield edit


# ---- earlier edits as patterns -------------------------------------------------------------------------------------


def learn(edits: tuple[PastEdit, ...]) -> list[tuple[Pattern, int]]:
    """Learns patterns of the edits of a log, with how often each was seen, the most frequent first, then the latest."""
    known: dict[str, Pattern] = {}
    count = Counter[str]()
    for past in edits:
        before, after = parsed(past.before), parsed(past.after)
        for pair in pairs(before, after) if before and after else ():
            pattern = abstracted(pair)
            if _is_hole(pattern.before) or (pattern.key in known and _is_hole(pattern.after)):
                continue
            known.setdefault(pattern.key, pattern)
            count[pattern.key] += 1
    return sorted(((known[key], number) for key, number in count.items()), key=lambda item: -item[1])


def _like_before(request: RepairRequest, sources: dict[str, Source]) -> Iterator[Proposal]:
    suspicion = Suspicion(request, sources)
    ranked = [
        (-suspicion.of(path, edit.line) * edit.weight, tie(request.seed, path, edit), path, edit)
        for pattern, count in learn(request.edits)
        for path, source in sources.items()
        for edit in applied(source, pattern, count)
    ]
    for _, _, path, edit in sorted(ranked, key=lambda item: item[:3]):
        content = sources[path].edited(edit)
        if content is not None:
            yield Proposal(path, content, f"{path}:{edit.line}: {edit.description}")


def applied(source: Source, pattern: Pattern, count: int = 1) -> Iterator[Edit]:
    """Yields the edits that a pattern makes of a source, one for each place that it fits.

    A pattern whose result names what the file does not bind is left out.
    """
    names = {node.id for top in pattern.after for node in ast.walk(top) if isinstance(node, ast.Name)}
    if any(not name.startswith(HOLE) for name in names - bound_names(source)):
        return
    weight = 1.0 - 0.5 / (count + 1)
    told = f"as {count} earlier edit{'s' if count > 1 else ''}: {pattern.told}"
    for here in _places(source, pattern):
        bound: dict[str, ast.AST] = {}
        if not all(matched(left, right, bound) for left, right in zip(pattern.before, here, strict=True)):
            continue
        after = tuple(_filled(node, bound) for node in pattern.after)
        if pattern.statements:
            edit = _written(source, here, after, told, weight)
            if edit:
                yield edit
        elif isinstance(after[0], ast.expr):
            text = _text(source, pattern.after[0], bound, after[0])
            yield Edit(*source.span(here[0]), text.encode(), here[0].lineno, weight, told)  # type: ignore[attr-defined]


def _places(source: Source, pattern: Pattern) -> Iterator[tuple[ast.AST, ...]]:
    size = len(pattern.before)
    for node in source.nodes():
        if not pattern.statements:
            if isinstance(node, ast.expr):
                yield (node,)
        elif isinstance(node, ast.stmt):
            block = source.block(node)
            at = block.index(node) if node in block else 0
            if len(block) >= at + size:
                yield tuple(block[at : at + size])


def _filled(node: ast.AST, bound: dict[str, ast.AST]) -> ast.AST:
    class Fill(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.AST:
            return bound.get(name.id, name)

    return Fill().visit(ast.parse(ast.unparse(node)).body[0] if isinstance(node, ast.stmt) else _expression(node))  # type: ignore[no-any-return]


def _expression(node: ast.AST) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


def _text(source: Source, template: ast.AST, bound: dict[str, ast.AST], whole: ast.expr) -> str:
    """Writes an expression with the holes' own text; in brackets of its own where it would read otherwise."""
    text = ast.unparse(template)
    for name, node in bound.items():
        text = text.replace(name, enclosed(source.text(node), node))
    try:
        same = ast.dump(_parsed_expression(text)) == ast.dump(whole)
    except SyntaxError:
        same = False
    text = text if same else ast.unparse(whole)
    return text if isinstance(whole, ast.Name | ast.Constant | ast.Call | ast.Attribute | ast.Compare) else f"({text})"


def _parsed_expression(text: str) -> ast.expr:
    return ast.parse(f"({text})", mode="eval").body


def _written(
    source: Source, here: tuple[ast.AST, ...], after: tuple[ast.AST, ...], told: str, weight: float
) -> Edit | None:
    """Writes statements in place of others, printed anew except those that stay as they are."""
    first, last = here[0], here[-1]
    assert isinstance(first, ast.stmt)
    assert isinstance(last, ast.stmt)
    low, high, indent = source.whole_lines(first), source.whole_lines(last), source.indent(first)
    if low is None or high is None or indent is None:
        return None
    kept = {ast.dump(node): node for node in here}
    lines: list[str] = []
    for node in after:
        same = kept.get(ast.dump(node))
        if same is not None:
            lines.append(indent + source.text(same))
        else:
            lines += [indent + line for line in ast.unparse(node).split("\n")]
    if not lines and len(source.block(first)) == len(here):
        lines.append(f"{indent}pass")
    text = "".join(line + source.newline for line in lines)
    return Edit(low[0], high[1], text.encode(), first.lineno, weight, told)


def _is_hole(side: tuple[ast.AST, ...]) -> bool:
    """Says whether a side is nothing but a hole, which would fit everything."""
    (one, *more) = side
    return not more and isinstance(one, ast.Name) and one.id.startswith(HOLE)
