"""Picks what two versions of a file are compared by: their syntax, their tokens, their words."""

from __future__ import annotations

import logging
import posixpath
from typing import Final

from . import notebooks, prose, python, tokens
from .result import Drift, How

PYTHON_SUFFIXES: Final = (".py", ".pyi", ".pyw")
PYTHON_CHARS_MAX: Final = 4 * 1024 * 1024
"""Characters above which Python is compared by its tokens: its syntax would take minutes."""
_log = logging.getLogger("instar.drift")


def compare(path: str, before: str, after: str) -> Drift:
    """Says how far a file drifted from its last version.

    Args:
        path: its name, whose suffix says what it holds; a part of a Python file will do as well as a whole one.
        before: the last version.
        after: the new version.
    """
    suffix = posixpath.splitext(path.replace("\\", "/"))[1].lower()
    if before == after:
        how: How = "syntax" if suffix in PYTHON_SUFFIXES else "tokens" if suffix in tokens.SUFFIXES else "text"
        return Drift(drift=0.0, similarity=1.0, changed=False, how=how, because=("no difference",))
    if suffix == notebooks.SUFFIX:
        old, new = notebooks.cells(before), notebooks.cells(after)
        if old is not None and new is not None:
            # Where the code is the same, what people read is all that can differ.
            return compare("cells.py", old[0], new[0]) if old[0] != new[0] else prose.compare(old[1], new[1])
    if suffix in PYTHON_SUFFIXES:
        if max(len(before), len(after)) > PYTHON_CHARS_MAX:
            return tokens.compare(before, after, suffix, f"over {PYTHON_CHARS_MAX} characters: compared by tokens")
        try:
            return python.compare(before, after)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            _log.info("%s compared by tokens, since it does not parse: %s", path, error)
            reason = f"does not parse ({getattr(error, 'msg', None) or type(error).__name__}): compared by tokens"
            return tokens.compare(before, after, suffix, reason)
    if suffix in tokens.SUFFIXES:
        return tokens.compare(before, after, suffix, f"compared by tokens: no syntax of {suffix} is read")
    return prose.compare(before, after)
