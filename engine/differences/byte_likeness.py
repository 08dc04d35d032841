"""How alike two runs of bytes are that nothing is known of."""

from __future__ import annotations

SAME = 1.0
ALIKE_MAX = 0.999999
"""What differs at all is never told as the same."""


def likeness(before: bytes, after: bytes) -> float:
    """Gives the share, of both sides together, that lies in the common ends: 1 for equal bytes, else less."""
    if before == after:
        return SAME
    shared = _common(before, after)
    shared += _common(before[shared:][::-1], after[shared:][::-1])
    return round(min(2 * shared / (len(before) + len(after)), ALIKE_MAX), 6)


def _common(left: bytes, right: bytes) -> int:
    """Counts the equal bytes at the start, by halving: comparing slices is far faster than comparing bytes."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
