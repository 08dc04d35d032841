"""Names as git writes them in patches and lists: plain where they can be, else quoted as in C."""

from __future__ import annotations

from typing import Final

from instar.store.paths import decode_path

_LETTERS: Final = {'"': '"', "\\": "\\", "\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r"}


def quoted(name: bytes) -> str:
    r"""Writes a name so that git reads the same bytes.

    Quotes, backslashes and what cannot be printed (controls, bytes that are no UTF-8) are escaped; letters of any
    script stand as they are, as with git's ``core.quotePath=false``. A folder whose name ends with a space is quoted
    too, though git does not: of ``diff --git a/x /y b/x /y`` alone it cannot tell the name.

    >>> quoted("café 50%.py".encode())
    'café 50%.py'
    >>> print(quoted(b"tab\t\xff.py"))
    "tab\t\377.py"
    """
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and not any(part in text for part in ('"', "\\", " /")):
        return text
    return f'"{"".join(map(_escaped, text))}"'


def shown(path: str) -> str:
    """Writes a path that is spelled as trees spell it.

    Raises:
        InputRefused: no tree spells a path so.
    """
    return quoted(decode_path(path))


def _escaped(letter: str) -> str:
    if letter in _LETTERS:
        return f"\\{_LETTERS[letter]}"
    if letter.isprintable():
        return letter
    return "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", "surrogateescape"))
