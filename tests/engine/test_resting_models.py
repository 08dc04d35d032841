"""A worker lets go of a model that nobody asks for, and loads it again for who does."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from instar.engine import initialize as beginning
from instar.engine.embedding.models import active_space
from instar.engine.runtime import Runtime
from instar.engine.settings import EmbeddingSettings, Settings
from instar.engine.worker import Worker
from tests.engine.tiny_model import tiny_model

pytestmark = pytest.mark.model
REST_S = 0.2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("resting") / "tiny")


def _runtime(root: Path, model: Path, rest_s: float) -> Runtime:
    root.mkdir()
    settings = Settings(model=str(model), embedding=EmbeddingSettings(rest_s=rest_s, cache_mb=0))
    beginning.initialize(root, settings=settings)
    return Runtime(root, actor="test", settings=settings)


def test_worker_lets_go_of_an_idle_model_and_loads_it_again(tmp_path: Path, model: Path) -> None:
    runtime = _runtime(tmp_path / "agent", model, REST_S)
    worker = Worker(runtime)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    try:
        space = active_space(runtime.state)
        first, _ = runtime.models.embed_each(space, ["what is asked"])
        loaded = weakref.ref(runtime.models.embedder(space))
        deadline = time.monotonic() + 30
        while loaded() is not None and time.monotonic() < deadline:
            time.sleep(REST_S / 4)
            gc.collect()
        assert loaded() is None
        again, _ = runtime.models.embed_each(space, ["what is asked"])
        np.testing.assert_array_equal(first, again)
    finally:
        worker.stop()
        thread.join(30)
        runtime.close()
    assert not thread.is_alive()


@pytest.mark.parametrize("rest_s", [0.0, 3600.0], ids=["never", "asked for lately"])
def test_model_that_need_not_rest_stays(tmp_path: Path, model: Path, rest_s: float) -> None:
    runtime = _runtime(tmp_path / "agent", model, rest_s)
    try:
        embedder = runtime.models.embedder(active_space(runtime.state))
        runtime.models.rest()
        assert runtime.models.embedder(active_space(runtime.state)) is embedder
    finally:
        runtime.close()


def test_who_embeds_meanwhile_goes_on(tmp_path: Path, model: Path) -> None:
    runtime = _runtime(tmp_path / "agent", model, 1e-9)
    try:
        space = active_space(runtime.state)
        embedder = runtime.models.embedder(space)
        before = embedder.embed(["what is asked"])
        runtime.models.rest()
        assert runtime.models.embedder(space) is not embedder
        np.testing.assert_array_equal(embedder.embed(["what is asked"]), before)
    finally:
        runtime.close()
