"""How one type of outcome is made again and judged."""

from __future__ import annotations

from abc import ABC, abstractmethod

from instar.fsm.events import AnyEvent, Span
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.store.ports import Blobs

from .comparison import Explained, Mismatch
from .scratch import ScratchBench


class Subject(ABC):
    """One type of outcome; the code that makes it is the effect's own."""

    leave_out: frozenset[str] = frozenset({"environment"})
    """Fields that are facts of the run and not of its result."""

    @abstractmethod
    def again(self, bench: ScratchBench, record: Recorded, state: AgentState) -> AnyEvent | None:
        """Makes the outcome again.

        Args:
            bench: what to work with.
            record: the recorded outcome; only what it was asked for and how may be read of it.
            state: the state before it.

        Raises:
            ConfigError: it cannot be made with what is here.
        """

    @abstractmethod
    def rests_on(self, record: Recorded, state: AgentState) -> list[Span]:
        """Names the events that the outcome was computed from."""

    def explain(self, _blobs: Blobs, _recorded: AnyEvent, _again: AnyEvent, _found: list[Mismatch]) -> Explained:
        """Looks into the blobs that differ."""
        return Explained()

    def rounds(self, _field: str) -> bool:
        """Says whether another processor or library can change a field by rounding."""
        return False

    def excuse(self, _recorded: AnyEvent, _again: AnyEvent) -> str | None:
        """Names what makes the outcome impossible to repeat with the present code, if anything does."""
        return None
