"""General texts to hold a model to: the first paragraphs of the docstrings of Python's own modules.

They are on every machine that runs Instar and are about nothing that an agent learns. Another release of Python has
others, so a training records those that it took.
"""

from __future__ import annotations

import ast
import sysconfig
from functools import cache
from pathlib import Path

CHARS_MIN, CHARS_MAX = 20, 100
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def docstrings() -> tuple[str, ...]:
    """Gives the distinct paragraphs of the standard library's single-file modules, sorted."""
    found: set[str] = set()
    for path in Path(sysconfig.get_path("stdlib")).glob("*.py"):
        try:
            module = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(module):
            if isinstance(node, _WITH_DOCSTRING):
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                if CHARS_MIN <= len(text) <= CHARS_MAX:
                    found.add(text)
    return tuple(sorted(found))
