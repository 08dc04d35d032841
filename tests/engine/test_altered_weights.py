"""Weights in use whose bytes were altered: found before they make a vector, and named by the doctor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from instar.engine.doctor import examine
from instar.engine.embedding.models import ModelShelf
from instar.engine.initialize import initialize
from instar.engine.runtime import Runtime
from tests.engine.agents import agent_folder
from tests.engine.tiny_model import tiny_model

TEXTS = ["how do I open a file?", "what is the time in Lagos"]


def test_flipped_byte_makes_no_vector(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = agent_folder(tmp_path / "agent")
    (root / "instar.toml").write_text(f'model = "{tiny_model(tmp_path / "model")}"\n')
    initialize(root)
    runtime = Runtime(root, actor="test")
    space = runtime.state.checkpoint
    assert space is not None
    sound, _ = runtime.models.embed_each(space, TEXTS)
    weights = runtime.workspace.checkpoints / space / "model.safetensors"
    whole = weights.read_bytes()
    flipped = bytearray(whole)
    for place in range(len(whole) // 2 + 3, len(whole), 64):  # the exponents of many numbers
        flipped[place] ^= 0x40
    weights.write_bytes(flipped)
    told = [
        finding for finding in examine(runtime.workspace) if finding.level == "bad" and finding.subject == "checkpoint"
    ]
    assert [str(weights.parent) in one.text for one in told] == [True]
    shelf = ModelShelf(runtime.workspace, runtime.blobs, runtime.settings)
    vectors, _ = shelf.embed_each(space, TEXTS)
    np.testing.assert_array_equal(vectors, sound)
    assert weights.read_bytes() == whole
    assert "was altered" in caplog.text
    runtime.close()
