"""A real sentence model that is small enough to be loaded, trained and promoted hundreds of times in a test."""

from __future__ import annotations

import os
import string
import sys
from pathlib import Path

from .warm import run_warm


def tiny_model(folder: Path, seed: int = 1, width: int = 32, layers: int = 1) -> Path:
    """Writes a BERT by default of one layer and 32 wide, over single characters, as sentence-transformers saves one.

    Its weights are random, but real: another seed is another embedding space, and a training moves them.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

    bare = folder.with_name(f"{folder.name}-bare")
    bare.mkdir(parents=True)
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (bare / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(str(bare / "vocab.txt"), model_max_length=64).save_pretrained(bare)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(bare)
    finally:
        torch.random.set_rng_state(state)
    transformer = Transformer(str(bare), max_seq_length=64)
    parts = [transformer, Pooling(transformer.get_embedding_dimension()), Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder))
    return folder


def tiny_model_made_apart(folder: Path, width: int = 32) -> Path:
    """The same in a process that has the libraries loaded, for a test that has no need of them itself."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    order = [str(folder), str(width)]
    module = "tests.engine.tiny_model"
    done = run_warm(order, cwd=folder.parent, stdin=b"", environ=os.environ, model=True, module=module)
    assert done.returncode == 0, done.stderr.decode()
    return folder


if __name__ == "__main__":
    tiny_model(Path(sys.argv[1]), width=int(sys.argv[2]))
