"""The bench of an audit: it reads the workspace's log and blobs, and writes to a scratch folder alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instar.engine.workspace import Workspace
from instar.fsm.events import Environment
from instar.store.blobs import BlobStore
from instar.store.reader import LogReader
from instar.store.scratch_blobs import ScratchBlobs

if TYPE_CHECKING:
    from instar.engine.dataset.past import PastShelf
    from instar.engine.embedding.models import ModelShelf
    from instar.engine.embedding.runs import Backend
    from instar.store.memory import VectorMemory

_FOLDERS_MAX = 3

Progress = Callable[[str, int, int, str], object]
"""Called with the effect, the step that is done, out of how many, and a note."""


class ScratchBench:
    """Gives an effect all that it works with, and keeps nothing of what it puts.

    Args:
        reader: the log.
        folder: an empty folder, for models and the index of memory.
        progress: is told how far an effect is.
    """

    def __init__(self, reader: LogReader, folder: Path, progress: Progress | None = None) -> None:
        self.reader = reader
        self.blobs = ScratchBlobs(BlobStore(reader.path.with_name("blobs"), reader))
        self.progress = _Told(progress)
        self.folder = folder
        Workspace(folder).home.mkdir(exist_ok=True)
        self._models: ModelShelf | None = None
        self._set: tuple[str, int, Backend] = ("auto", 0, "torch")

    @cached_property
    def memory(self) -> VectorMemory:
        """Memory, built anew from the log."""
        from instar.store.memory import VectorMemory

        return VectorMemory(self.folder / "memory")

    @cached_property
    def past(self) -> PastShelf:
        """What of the log can change a data set, as it was read last."""
        from instar.engine.dataset.past import PastShelf

        return PastShelf()

    @property
    def models(self) -> ModelShelf:
        """The models, set as ``set_up`` says."""
        from instar.engine.embedding.models import ModelShelf
        from instar.engine.embedding.runs import PACKAGES
        from instar.engine.extensions import BUILTIN
        from instar.engine.settings import EmbeddingSettings, PluginSettings, Settings, TrainingSettings

        if self._models is None:
            known: dict[str, Literal["float32", "bfloat16"]] = {"float32": "float32", "bfloat16": "bfloat16"}
            builtin: dict[str, Literal["onnx", "openvino"]] = {"onnx": "onnx", "openvino": "openvino"}
            precision, threads, backend = self._set
            settings = Settings(
                training=TrainingSettings(threads=threads),
                embedding=EmbeddingSettings(backend=builtin.get(backend, "torch")),
                plugins=PluginSettings(embedder=BUILTIN if backend in PACKAGES else backend),
            )
            self._models = ModelShelf(
                Workspace(self.folder), self.blobs, settings, precision=known.get(precision, "auto")
            )
        return self._models

    def tidy(self) -> None:
        """Forgets what was put, and removes the folders of all but the newest checkpoints: each is a whole model."""
        self.blobs.forget()
        if self._models is None:
            return
        folders = [path for path in Workspace(self.folder).checkpoints.glob("*") if path.is_dir()]
        for path in sorted(folders, key=lambda path: path.stat().st_mtime_ns)[:-_FOLDERS_MAX]:
            shutil.rmtree(path, ignore_errors=True)

    def set_up(self, environment: Environment | None) -> None:
        """Has the next effect multiply in the precision, by the library and with the threads that were recorded."""
        if environment is not None and not environment.precision:
            return  # it takes no model: the one that is loaded stays
        wanted: tuple[str, int, Backend] = ("auto", 0, "torch")
        if environment is not None:
            wanted = (environment.precision, environment.threads, _backend(environment))
        if wanted != self._set:
            self._set, self._models = wanted, None


def _backend(environment: Environment) -> Backend:
    """Reads which library ran the model out of the libraries that were recorded."""
    from instar.engine.embedding.runs import PACKAGES
    from instar.engine.extensions import EMBEDDERS, among_libraries

    if foreign := among_libraries(EMBEDDERS, environment.libraries):
        return foreign
    others = (name for name, package in PACKAGES.items() if name != "torch" and package in environment.libraries)
    return next(others, "torch")


class _Told:
    """Hands reports on, with a word on which event is run again."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.note = ""

    def report(self, effect: str, step: int = 0, steps: int = 0, note: str = "") -> None:
        """Takes how far an effect is."""
        if self._progress:
            self._progress(effect, step, steps, f"{self.note}  {note}".strip())
