"""Python source as bytes with a syntax tree over them: an edit touches the tokens that it changes and no others.

Nothing is printed from the tree but what is new: comments, layout and quotes of the rest stay as they are.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from msgspec import Struct

from instar.fsm.words import Digest, digest_of

Function = ast.FunctionDef | ast.AsyncFunctionDef
SIMPLE: Final = (
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Expr,
    ast.Return,
    ast.Raise,
    ast.Delete,
    ast.Break,
    ast.Continue,
)
"""Statements that can go, or stand elsewhere."""
BYTES_MAX: Final = 256 * 1024
"""Source above this is left alone: each proposal is parsed, and all edits are ranked before the first is proposed."""
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_CODING: Final = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BOM: Final = b"\xef\xbb\xbf"


class Edit(Struct, frozen=True):
    """Bytes ``start:end`` of a source that become ``text``.

    ``weight`` says, in 0..1, how often an edit of this kind is the right one; ``line`` is where it stands.
    """

    start: int
    end: int
    text: bytes
    line: int
    weight: float
    description: str


def parsed(content: bytes) -> ast.Module | None:
    """Parses and compiles source; None where that cannot be done."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # An invalid escape in somebody's source is not our caller's warning.
            tree = ast.parse(content)
            compile(content, "<proposal>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree


class Source:
    """A file that parses.

    Attributes:
        content: its bytes.
        tree: its syntax tree.
    """

    def __init__(self, content: bytes, tree: ast.Module) -> None:
        self.content, self.tree = content, tree
        self.lines: list[bytes] = _LINE.findall(content.removeprefix(_BOM))
        self._starts = [len(_BOM) if content.startswith(_BOM) else 0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line))
        self._parents: dict[ast.AST, ast.AST] = {}
        self._functions: dict[ast.AST, Function] = {}
        self._nodes: list[ast.AST] = []
        self._read(tree)

    @classmethod
    def read(cls, content: bytes) -> Source | None:
        """Reads source; None where it does not parse, is too large, or is in another encoding than UTF-8."""
        if len(content) > BYTES_MAX or not _is_utf8(content):
            return None
        tree = parsed(content)
        return cls(content, tree) if tree else None

    def _read(self, tree: ast.Module) -> None:
        # Before Python 3.12 what stands in an f-string has no true position, so it is left alone.
        waiting: list[tuple[ast.AST, Function | None]] = [(tree, None)]
        while waiting:
            node, function = waiting.pop()
            self._nodes.append(node)
            if function is not None:
                self._functions[node] = function
            if isinstance(node, ast.JoinedStr):
                continue
            inside = node if isinstance(node, Function) else function
            children = list(ast.iter_child_nodes(node))
            self._parents.update(dict.fromkeys(children, node))
            waiting += ((child, inside) for child in reversed(children))

    # ---- the tree --------------------------------------------------------------------------------------------------

    def nodes(self) -> Iterator[ast.AST]:
        """Yields every node, in the order of the source; none of those in an f-string."""
        return iter(self._nodes)

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Gives the node that holds another."""
        return self._parents.get(node)

    def function(self, node: ast.AST) -> Function | None:
        """Gives the innermost function around a node."""
        return self._functions.get(node)

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """Every function, methods too."""
        return tuple(node for node in self._nodes if isinstance(node, Function))

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """Gives the innermost statement that holds a node, or is it."""
        at: ast.AST | None = node
        while at is not None and not isinstance(at, ast.stmt):
            at = self.parent(at)
        return at

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """Gives the statements among which one stands."""
        parent = self.parent(statement)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(parent, field, None)
            if isinstance(block, list) and statement in block:
                return block
        return [statement]

    # ---- the bytes -------------------------------------------------------------------------------------------------

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Gives where a node begins and ends, in bytes; decorators do not count."""
        assert isinstance(node, ast.expr | ast.stmt | ast.excepthandler | ast.arg | ast.keyword | ast.alias)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.AST) -> str:
        """Gives a node's own text."""
        low, high = self.span(node)
        return self.content[low:high].decode()

    def token(self, low: int, high: int, spelling: str) -> tuple[int, int] | None:
        """Finds an operator between two nodes, where only brackets, blanks and comments stand beside it.

        Args:
            low: where the first node ends.
            high: where the second begins.
            spelling: such as ``<=`` or ``not in``.
        """
        gap = re.sub(rb"#[^\r\n]*", lambda found: b" " * len(found[0]), self.content[low:high])
        words = [re.escape(word.encode()) for word in spelling.split()]
        found = re.search(rb"(?:\s|\\)+".join(words), gap)
        return (low + found.start(), low + found.end()) if found else None

    def indent(self, statement: ast.stmt) -> str | None:
        """Gives what stands before a statement that begins its line; None if something else stands there too."""
        before = self.lines[statement.lineno - 1][: statement.col_offset]
        return before.decode() if not before.strip() else None

    def whole_lines(self, statement: ast.stmt) -> tuple[int, int] | None:
        """Gives the lines of a statement in bytes, decorators and a comment at its end too.

        None where other statements stand on them.
        """
        first = min([statement.lineno, *(item.lineno for item in getattr(statement, "decorator_list", ()))])
        assert statement.end_lineno is not None
        assert statement.end_col_offset is not None
        after = self.lines[statement.end_lineno - 1][statement.end_col_offset :].strip()
        before = self.lines[first - 1][: statement.col_offset]
        if before.strip() or (after and not after.startswith(b"#")):
            return None
        return self._starts[first - 1], self._starts[statement.end_lineno]

    @cached_property
    def newline(self) -> str:
        """What ends the lines of this file."""
        return "\r\n" if self.lines and self.lines[0].endswith(b"\r\n") else "\n"

    def edited(self, edit: Edit) -> bytes | None:
        """Makes an edit; None where the result is not ``fresh``."""
        content = self.content[: edit.start] + edit.text + self.content[edit.end :]
        return content if self.fresh(content) else None

    def fresh(self, content: bytes) -> bool:
        """Says whether a version compiles and is another program than this one and all that were asked of before."""
        tree = parsed(content)
        told = digest_of(ast.dump(tree).encode()) if tree else None
        if told is None or told in self._made:
            return False
        self._made.add(told)
        return True

    @cached_property
    def _made(self) -> set[Digest]:
        return {digest_of(ast.dump(self.tree).encode())}


def _is_utf8(content: bytes) -> bool:
    for line in content.split(b"\n", 2)[:2]:
        found = _CODING.match(line)
        if found and found[1].lower().replace(b"_", b"-") not in (b"utf-8", b"utf8", b"ascii", b"us-ascii"):
            return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def enclosed(text: str, node: ast.AST) -> str:
    """Puts an expression's text into brackets unless it can stand anywhere without."""
    if isinstance(node, ast.Name | ast.Constant | ast.Attribute | ast.Subscript | ast.Call) and "\n" not in text:
        return text
    return f"({text})"
