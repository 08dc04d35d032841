"""The bytes of two versions: read as text where they are, compared as bytes where not."""

from __future__ import annotations

import codecs
import io
import tokenize

from .compare import PYTHON_SUFFIXES
from .result import Drift


def text_of(content: bytes, name: str) -> str | None:
    """Reads a version as text; None for what is none.

    Args:
        content: the bytes.
        name: of the file; Python may name its encoding in its first lines (PEP 263).
    """
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if not name.endswith(PYTHON_SUFFIXES):
            return None
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return codecs.decode(content, encoding)
    except (SyntaxError, LookupError, UnicodeDecodeError):
        return None


def compare_bytes(before: bytes, after: bytes) -> Drift:
    """Says how far bytes drifted: 1 − the share, of both sides together, that lies in the common ends."""
    if before == after:
        return Drift(drift=0.0, similarity=1.0, changed=False, how="binary", because=("no difference",))
    shared = _common(before, after)
    shared += _common(before[shared:][::-1], after[shared:][::-1])
    alike = min(2 * shared / max(1, len(before) + len(after)), 0.999999)
    told = f"binary: {len(before)} bytes before, {len(after)} after"
    return Drift(drift=round(1.0 - alike, 6), similarity=round(alike, 6), changed=True, how="binary", because=(told,))


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
