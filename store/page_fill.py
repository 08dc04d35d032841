"""The order of insertion in which blobs leave the fewest bytes of SQLite's pages empty.

Rows of a table lie in the order in which they came, and a page takes the next row if that still fits; else the rest of
it stays empty for good. So they are given in the order of best-fit decreasing bin packing (Johnson et al. 1974): it
begins a page only with a row that fits into none before, which is just when SQLite does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from .ports import Row

_MANY = 8
"""Fewer are not worth an order."""
_PAGE = 4096
_ROOM = _PAGE - 8
_LOCAL_MAX, _LOCAL_MIN = _PAGE - 35, (_PAGE - 12) * 32 // 255 - 23
"""What a row keeps of itself on its page; the rest is on pages of its own (SQLite's file format, section 1.6)."""
_BESIDE = 64 + 3 + 7
"""The digest, the size, and the header that tells their types."""
_POINTERS, _OVERFLOW = 3 + 3 + 2, 4
_USABLE = 80
"""With less room left, no row fits."""
_BITS = 32
_NUMBER = (1 << _BITS) - 1


def filling(rows: Sequence[Row]) -> Sequence[Row]:
    """Orders rows of ``(digest, size, content)``."""
    if len(rows) < _MANY:
        return rows
    pages: list[list[Row]] = []
    left: list[int] = []
    """The room on a page that is not full, above its number: whole numbers are compared quicker than pairs."""
    for wanted in sorted([_width(len(row[2])) << _BITS | number for number, row in enumerate(rows)], reverse=True):
        at = bisect_left(left, wanted & ~_NUMBER)
        if at < len(left):
            found = left.pop(at)
            pages[found & _NUMBER].append(rows[wanted & _NUMBER])
        else:
            found = _ROOM << _BITS | len(pages)
            pages.append([rows[wanted & _NUMBER]])
        found -= wanted & ~_NUMBER
        if found >= _USABLE << _BITS:
            insort(left, found)
    return [row for page in pages for row in page]


def _width(size: int) -> int:
    """Gives the bytes that a row takes of its page, a few too many at worst."""
    payload = size + _BESIDE
    if payload <= _LOCAL_MAX:
        return payload + _POINTERS
    local = _LOCAL_MIN + (payload - _LOCAL_MIN) % (_PAGE - 4)
    return (local if local <= _LOCAL_MAX else _LOCAL_MIN) + _POINTERS + _OVERFLOW
