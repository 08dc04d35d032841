"""Bytes that are no text, as a ``GIT binary patch`` holds them (``diff.c`` and ``apply.c`` of git)."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b85encode
from collections.abc import Iterator

BINARY_BYTES_MAX = 10 << 20
"""Of each side: a patch of more is not written; no capture takes a larger file unless it is told to."""
NO_BLOB = "0" * 40
"""Git's name for the content of what is not there."""

_LINE_BYTES = 52
_LINE_DIGITS = _LINE_BYTES // 4 * 5


def blob_name(content: bytes | None) -> str:
    """Names content as git does; None for a file that is not there.

    >>> blob_name(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    if content is None:
        return NO_BLOB
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


def binary_patch(old: bytes, new: bytes) -> Iterator[bytes]:
    """Yields the lines of a patch that leads from one content to another, and of the one that leads back."""
    yield b"GIT binary patch"
    yield from _literal(new)
    yield from _literal(old)


def _literal(content: bytes) -> Iterator[bytes]:
    """Each line tells by its first letter how many bytes it holds: A to Z for 1 to 26, a to z for 27 to 52."""
    yield b"literal %d" % len(content)
    packed = zlib.compress(content)
    digits = b85encode(packed, pad=True)
    for line, start in enumerate(range(0, len(packed), _LINE_BYTES)):
        size = min(_LINE_BYTES, len(packed) - start)
        letter = (ord("A") if size <= 26 else ord("a") - 26) + size - 1
        yield bytes([letter]) + digits[line * _LINE_DIGITS : (line + 1) * _LINE_DIGITS]
    yield b""
