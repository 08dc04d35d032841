"""Paths as the store writes them: relative, POSIX, valid UTF-8, and reversible to the bytes that the disk holds.

A name on disk is any bytes but ``/`` and NUL. The bytes that are no UTF-8, and ``%`` itself, are written as ``%XX``
(upper-case hexadecimal). Each name has exactly one spelling; any other spelling is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from instar.fsm.errors import InputRefused

DEPTH_MAX = 128
"""Folders and file name together; what lies deeper is not captured."""
NAME_BYTES_MAX = 255

_ESCAPED = re.compile("[%\udc80-\udcff]")
_ESCAPE = re.compile(rb"%([0-9A-F]{2})")


def encode_path(path: bytes) -> str:
    """Spells the bytes of a path as text.

    >>> encode_path(b"caf\\xc3\\xa9/50%/\\xff")
    'café/50%25/%FF'
    """
    text = path.decode("utf-8", "surrogateescape")
    if text.isascii() and "%" not in text:
        return text
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", text)


def decode_path(path: str) -> bytes:
    """Gives back the bytes that ``encode_path`` spelled.

    Raises:
        InputRefused: ``encode_path`` would never have written this spelling.
    """
    if path.isascii() and "%" not in path:
        return path.encode()
    try:
        raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), path.encode("utf-8"))
    except UnicodeEncodeError:
        raw = b"%"
    if encode_path(raw) != path:
        raise InputRefused(f"{path!r} is not spelled as a stored path is; spell it with encode_path.")
    return raw


@lru_cache(maxsize=1 << 15)
def check_name(name: str) -> None:
    """Refuses what cannot be the name of one file or folder.

    Raises:
        InputRefused: empty, ``.``, ``..``, with a slash or a NUL, too long, or spelled otherwise than ``encode_path``.
    """
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise InputRefused(f"{name!r} cannot be the name of a file; nothing was written.")
    plain = name.isascii() and "%" not in name
    if len(name if plain else decode_path(name)) > NAME_BYTES_MAX:
        raise InputRefused(f"the name {name[:40]!r}… is longer than {NAME_BYTES_MAX} bytes; nothing was written.")


def check_path(path: str) -> None:
    """Refuses what cannot be a captured path: one that climbs out, is absolute, or lies in ``.git`` or ``.instar``.

    Raises:
        InputRefused: says which part is wrong.
    """
    names = path.split("/")
    if len(names) > DEPTH_MAX:
        raise InputRefused(f"the path {path[:40]!r}… is deeper than {DEPTH_MAX} folders; nothing was written.")
    for name in names:
        check_name(name)
    if ".git" in names or names[0] == ".instar":
        raise InputRefused(f"{path!r} lies in a folder that is never captured and never restored; leave it out.")


def parent_of(path: str) -> str:
    """Names the folder that holds ``path``; the root is the empty string."""
    return path.rpartition("/")[0]


def ancestors(path: str) -> Iterator[str]:
    """Yields the folders above ``path``, the nearest first, the root left out.

    >>> list(ancestors("a/b/c.py"))
    ['a/b', 'a']
    """
    while path := parent_of(path):
        yield path
