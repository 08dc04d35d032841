"""What an effect is worked out on: a live workspace, or the scratch folder of an audit.

The effects that compute from recorded facts alone ask for this and no more. They read the log, take blobs and put
blobs; whether the outcome is recorded, and whether what was put is kept, is the caller's affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from instar.store.ports import Blobs
from instar.store.reader import LogReader

if TYPE_CHECKING:
    from instar.store.memory import VectorMemory

    from .dataset.past import PastShelf
    from .embedding.models import ModelShelf


class Reports(Protocol):
    """Is told how far an effect is."""

    def report(self, effect: str, step: int = 0, steps: int = 0, note: str = "") -> None:
        """Takes the number of the step that is done, out of how many."""


class Bench(Protocol):
    """Log, blobs, memory and models of one workspace; memory and models load when they are first used."""

    @property
    def reader(self) -> LogReader:
        """Reads the log."""

    @property
    def blobs(self) -> Blobs:
        """Content-addressed bytes."""

    @property
    def progress(self) -> Reports:
        """Is told how far an effect is."""

    @property
    def memory(self) -> VectorMemory:
        """The vector memory."""

    @property
    def past(self) -> PastShelf:
        """What of the log can change a data set, as it was read last."""

    @property
    def models(self) -> ModelShelf:
        """Checkpoints as folders, and the model of a space."""
