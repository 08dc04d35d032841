"""Foreign text made fit for a terminal: what would move the cursor, colour, hide or reorder is shown as an escape.

What an agent wrote (names of files, feedback, reasons) is not trusted. A line feed in it would forge a row of a list,
ESC and the C1 controls command the terminal, a bidirectional override shows other text than there is, and a lone
surrogate cannot be written at all.
"""

from __future__ import annotations

import logging
import unicodedata
from typing import Any, Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, formats (bidirectional ones, zero-width ones, tags), surrogates, line and paragraph separators."""
_KEPT: Final = frozenset("\t\u200c\u200d")
"""A tab forges nothing; the two joiners are spelling in some scripts, and hold emoji together."""


def visible(text: str) -> str:
    r"""Gives a text as one line that does nothing to a terminal but be read.

    >>> print(visible("a\nb \x1b[31m \u202e é"))
    a\nb \x1b[31m \u202e é
    """
    if text.isprintable():
        return text
    return "".join(_escaped(char) if _hides(char) else char for char in text)


class VisibleFormatter(logging.Formatter):
    """Writes a message of ours as one line; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Writes the message."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """Writes the traceback."""
        return "\n".join(map(visible, super().formatException(ei).split("\n")))


def _hides(char: str) -> bool:
    return char not in _KEPT and unicodedata.category(char) in _HIDDEN


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
