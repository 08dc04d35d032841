"""How the bytes of a blob lie in the database: as they were written, pressed harder, or against another blob.

A blob is written as a plain zstd frame, quickly. A compaction writes it again in one of two forms, told by the first
byte (a frame never begins with it): ``1`` and a frame that took longer; or ``2``, the sha256 of another blob, and a
frame that refers to that blob's bytes (zstd's ``--patch-from``: RFC 8878 with the base as a raw prefix). The base may
be such a form itself; the way to a blob that stands alone has at most ``DEPTH_MAX`` steps. Files stay plain frames.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import zstandard

from instar.fsm.words import Digest

DEPTH_MAX = 48
"""How many other blobs may have to be read to read one."""
LEVEL = 15
"""Of what stands alone: 19 takes three times as long for 1 % less."""
_DELTA_LEVEL = 6
_ALONE, _AGAINST = b"\x01", b"\x02"
_HEAD = 1 + 32
_WINDOW_MAX = 1 << 27
_MANY = 4
_SHORT = 16
"""A shorter frame may hold nothing at all, which the call for many takes for a frame that does not say how much."""


class _OfThread(threading.local):
    """Making a decompressor takes longer than unpacking a small file; one may not be shared between threads."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX)


_mine = _OfThread()


def press(content: bytes) -> bytes:
    """Gives the form that stands alone, pressed hard."""
    return _ALONE + zstandard.ZstdCompressor(level=LEVEL).compress(content)


def press_against(content: bytes, base: Digest, base_content: bytes) -> bytes:
    """Gives the form that refers to another blob."""
    return _AGAINST + bytes.fromhex(base) + _compressor(content, base_content).compress(content)


def _compressor(content: bytes, base: bytes) -> zstandard.ZstdCompressor:
    window = max(10, (len(content) + len(base)).bit_length())
    chosen = zstandard.ZstdCompressionParameters.from_level(
        _DELTA_LEVEL, source_size=len(content), dict_size=len(base), window_log=min(window, 27)
    )
    return zstandard.ZstdCompressor(dict_data=_prefix(base), compression_params=chosen)


def _prefix(content: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def is_pressed(stored: bytes) -> bool:
    """Says whether a compaction wrote this form."""
    return stored[:1] in {_ALONE, _AGAINST}


def base_of(stored: bytes) -> Digest | None:
    """Names the blob that a stored form refers to; None where it stands alone. The first 33 bytes are enough."""
    return Digest(stored[1:_HEAD].hex()) if stored[:1] == _AGAINST else None


def unpack(stored: bytes, base: bytes) -> bytes:
    """Gives the content of a stored form.

    Args:
        stored: the form.
        base: the content of the blob that it refers to, if it does.

    Raises:
        zstandard.ZstdError: it is no such form, or the base is another one than it was written against.
    """
    if stored[:1] == _AGAINST:
        return _decompressed(stored[_HEAD:], base)
    return _decompressed(stored[1:] if stored[:1] == _ALONE else stored, None)


def unpack_plain(stored: Sequence[bytes]) -> list[bytes]:
    """Gives the contents of several forms as they are first written, leaving the interpreter once for all of them.

    Raises:
        zstandard.ZstdError: one of them is no such form.
    """
    if len(stored) < _MANY or min(map(len, stored)) < _SHORT:
        return [_decompressed(form, None) for form in stored]
    made = _mine.decompressor.multi_decompress_to_buffer(list(stored), threads=1)
    return [made[number].tobytes() for number in range(len(made))]


def _decompressed(frame: bytes, base: bytes | None) -> bytes:
    if base is None:
        return _mine.decompressor.decompress(frame)
    return zstandard.ZstdDecompressor(dict_data=_prefix(base), max_window_size=_WINDOW_MAX).decompress(frame)
