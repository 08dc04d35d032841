"""The bytes of two versions: read as text where they are, compared as bytes where not."""

from __future__ import annotations

import codecs
import io
import tokenize

from instar.engine.differences.byte_likeness import likeness

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
    alike = likeness(before, after)
    told = f"binary: {len(before)} bytes before, {len(after)} after"
    return Drift(drift=round(1.0 - alike, 6), similarity=alike, changed=True, how="binary", because=(told,))
