"""How a model is run without its libraries, as one process found it and kept it for the next. Disposable.

To load sentence-transformers costs seconds of processor time, most of a short command's. A plain BERT runs without it
(``packed_bert.py``), by the weights and the tokenizer in its folder; the library is needed to tell that they give what
its own ``encode`` gives. That is asked once a checkpoint and set of versions; what ``encode`` gave is kept, and every
process compares itself with that.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.store.durable import write_durably

logger = logging.getLogger("instar.engine")

_CHECKSUM_BYTES = 32


class BertShape(Struct, frozen=True):
    """What a plain BERT is beside its weights."""

    layers: int
    heads: int
    width: int
    epsilon: float


class KeptWay(Struct, frozen=True):
    """What the next process has to know.

    Attributes:
        found_with: what the finding depends on beside the checkpoint: versions, and what was asked for.
        shape: of the model.
        tokens_max: its window, in tokens.
        small: whether it runs in bfloat16.
        dim: length of a vector.
        encoded: what the library's ``encode`` gave for the texts that ways are compared on: unit rows, (texts, dim),
            little-endian float32.
    """

    found_with: str
    shape: BertShape
    tokens_max: int
    small: bool
    dim: int
    encoded: bytes

    def rows(self) -> NDArray[np.float32]:
        """Gives ``encoded`` as an array."""
        return np.frombuffer(self.encoded, "<f4").reshape(-1, self.dim)


_decoder = msgspec.msgpack.Decoder(KeptWay)


def read_kept(path: Path, found_with: str) -> KeptWay | None:
    """Reads what was kept; None if nothing was, or in other circumstances, or the file is damaged."""
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        content = path.read_bytes()
        body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if sha256(body).digest() == checksum:
            kept = _decoder.decode(body)
            if kept.found_with == found_with:
                return kept
    return None


def write_kept(path: Path, kept: KeptWay) -> None:
    """Writes it, whole or not at all; where that cannot be, the next process asks the library again."""
    body = msgspec.msgpack.encode(kept)
    try:
        path.parent.mkdir(exist_ok=True)
        write_durably(path, body + sha256(body).digest())
    except OSError as error:
        logger.info("%s cannot be written, so the next process loads the libraries again: %s", path, error)
