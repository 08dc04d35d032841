"""Ways to run a sentence-transformers model over a batch of token numbers: torch, OpenVINO, ONNX Runtime.

Each is a function from tokens and mask, (texts, tokens) int64, to vectors, (texts, dim) float32. Which of them may be
used is decided where they are compared with the library's own ``encode``.
"""

from __future__ import annotations

import importlib
import io
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .sentence_model import quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Backend = str
"""What runs a model: one of ``PACKAGES``, or an embedder of another package by its name."""
Tokens = NDArray[np.int64]
Rows = NDArray[np.float32]
Run = Callable[[Tokens, Tokens], Rows]
"""From a batch of one padded length, tokens and mask, to vectors."""
RunTexts = Callable[[Sequence[Sequence[int]]], Rows]
"""From the tokens of each text to vectors; texts of one length stand together."""

PACKAGES: dict[str, str] = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
"""The package whose version a vector depends on."""


def torch_run(model: SentenceTransformer) -> Run:
    """Runs the whole model: transformer, pooling, normalization, in whatever precision it is in."""
    import torch

    def run(tokens: Tokens, mask: Tokens) -> Rows:
        with torch.inference_mode():
            features = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
            rows: Rows = model(features)["sentence_embedding"].float().numpy()
            return rows

    return run


def openvino_run(model: SentenceTransformer, *, small: bool) -> Run:
    """Runs the model by OpenVINO, in bfloat16 or float32.

    Raises:
        ImportError: it is not installed.
    """
    import torch

    openvino = importlib.import_module("openvino")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(_whole(model), example_input=_example())
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if small else "f32", "NUM_STREAMS": 1}
    core = openvino.Core()
    compiled: dict[int, Any] = {}
    local = threading.local()

    def run(tokens: Tokens, mask: Tokens) -> Rows:
        threads = torch.get_num_threads()  # one number for all ways, so that it is recorded as it was
        if threads not in compiled:
            compiled[threads] = core.compile_model(graph, "CPU", hints | {"INFERENCE_NUM_THREADS": threads})
        requests = local.__dict__.setdefault("requests", {})
        if threads not in requests:
            requests[threads] = compiled[threads].create_infer_request()
        return np.array(requests[threads].infer({0: tokens, 1: mask})[0], dtype=np.float32)

    return run


def onnx_run(model: SentenceTransformer) -> Run:
    """Runs the model by ONNX Runtime, in float32.

    Raises:
        ImportError: it, or what exports the model to it, is not installed.
    """
    import torch

    runtime = importlib.import_module("onnxruntime")
    content = io.BytesIO()
    names = ["input_ids", "attention_mask"]
    shape = {0: "texts", 1: "tokens"}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _whole(model),
            tuple(_example().values()),
            content,  # type: ignore[arg-type]  # a stream serves as a file does
            input_names=names,
            output_names=["rows"],
            dynamic_axes=dict.fromkeys(names, shape) | {"rows": {0: "texts"}},
            dynamo=False,
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(content.getvalue(), options, providers=["CPUExecutionProvider"])

    def run(tokens: Tokens, mask: Tokens) -> Rows:
        return np.asarray(session.run(["rows"], dict(zip(names, (tokens, mask), strict=True)))[0], dtype=np.float32)

    return run


def _whole(model: SentenceTransformer) -> Any:
    """Wraps a model so that it takes and gives tensors, as what converts it wants."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]

    return Whole().eval()


def _example() -> dict[str, Any]:
    import torch

    tokens = torch.ones((2, 8), dtype=torch.int64)
    return {"input_ids": tokens, "attention_mask": tokens}
