"""The agent's own state machine: what happens to one request, from its receipt to its answer."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from transitions import Machine


class RequestState(Enum):
    """Where one request stands."""

    RECEIVED = "received"
    PARSED = "parsed"
    GATHERED = "gathered"
    RANKED = "ranked"
    ANSWERED = "answered"
    SKIPPED = "skipped"


TRANSITIONS: list[dict[str, Any]] = [
    {"trigger": "parse", "source": RequestState.RECEIVED, "dest": RequestState.PARSED},
    {"trigger": "gather", "source": RequestState.PARSED, "dest": RequestState.GATHERED},
    {"trigger": "rank", "source": RequestState.GATHERED, "dest": RequestState.RANKED},
    {
        "trigger": "close",
        "source": RequestState.RANKED,
        "dest": RequestState.ANSWERED,
        "conditions": "answers",
    },
    {"trigger": "close", "source": RequestState.RANKED, "dest": RequestState.SKIPPED},
]


class RequestFlow:
    """One request's way through the machine.

    Attributes:
        state: The current `RequestState`.
        trigger: Fires a transition by name; raises `transitions.MachineError` out of order.
    """

    state: RequestState
    trigger: Callable[..., bool]

    def __init__(self, confident: Callable[[float], bool]) -> None:
        """Starts in RECEIVED.

        Args:
            confident: The rule that admits an answer, given its confidence in 0..1.
        """
        self._confident = confident
        Machine(
            self,
            states=RequestState,
            transitions=TRANSITIONS,
            initial=RequestState.RECEIVED,
            auto_transitions=False,
        )

    def answers(self, confidence: float) -> bool:
        """Guards RANKED → ANSWERED; where it refuses, the request is skipped."""
        return self._confident(confidence)
