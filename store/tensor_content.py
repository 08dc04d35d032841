"""The bytes of a tensor of a checkpoint: stored themselves, or made of another tensor and small products."""

from __future__ import annotations

import numpy as np

from instar.fsm.errors import BlobCorrupt
from instar.fsm.words import digest_of

from .low_rank import with_product
from .manifest import TensorEntry
from .ports import Blobs


def tensor_bytes(blobs: Blobs, tensor: TensorEntry) -> bytes:
    """Gives the bytes of a tensor, stored or made.

    Raises:
        BlobMissing: a part of it is not in the store.
        BlobCorrupt: a part of it is damaged, or what is made of the parts does not hash to its name.
    """
    if tensor.base is None:
        return blobs.get(tensor.blob)
    if tensor.dtype != "F32" or len(tensor.shape) != 2:
        raise BlobCorrupt(f"tensor {tensor.name} of type {tensor.dtype} and shape {tensor.shape} takes no product")
    try:
        made = np.frombuffer(blobs.get(tensor.base), dtype="<f4").reshape(tensor.shape)
        for product in tensor.products:
            narrow = np.frombuffer(blobs.get(product.narrow), dtype="<f4").reshape(product.rank, tensor.shape[1])
            wide = np.frombuffer(blobs.get(product.wide), dtype="<f4").reshape(tensor.shape[0], product.rank)
            made = with_product(made, narrow, wide, product.scale)
    except ValueError as error:
        raise BlobCorrupt(f"the parts of tensor {tensor.name} do not fit: {error}") from error
    content = made.astype("<f4").tobytes()
    if digest_of(content) != tensor.blob:
        raise BlobCorrupt(f"what is made of the parts of tensor {tensor.name} does not hash to {tensor.blob}")
    return content


def holds_nan(dtype: str, content: bytes) -> bool:
    """Says whether a number of a tensor's bytes is none; of the types that weights have, others hold none.

    Args:
        dtype: as safetensors names it; of ``BF16`` the exponent's bits are all set and some of the fraction's.
        content: little-endian.
    """
    match dtype:
        case "F16" | "F32" | "F64":
            return bool(np.isnan(np.frombuffer(content, dtype=f"<f{int(dtype[1:]) // 8}")).any())
        case "BF16":
            return bool(((np.frombuffer(content, dtype="<u2") & 0x7FFF) > 0x7F80).any())
        case _:
            return False
