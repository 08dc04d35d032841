"""The machine, declared once with ``transitions``, and compiled to the table that the fold reads.

``transitions`` (https://github.com/pytransitions/transitions) checks the declaration and draws it; a trigger costs it
about 6 µs, the table about 0.05 µs, so a replay of a million events folds with the table. A test drives both through
every state and event and compares.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, get_args

from transitions import Machine

from . import events as e
from .errors import IllegalTransition
from .policies import GUARDS, Guard
from .state import AgentState
from .words import State

BUSY = [state for state in State if state is not State.IDLE]
ELSEWHERE = [state for state in State if state is not State.REWARDING]

DECLARATION: list[dict[str, Any]] = [
    {"trigger": "CycleStarted", "source": State.IDLE, "dest": State.DIFFING, "conditions": "takes_signals"},
    {"trigger": "CycleStarted", "source": State.IDLE, "dest": State.FLAGGED, "conditions": "takes_self_train"},
    {"trigger": "CycleStarted", "source": State.IDLE, "dest": State.PLANNING, "conditions": "takes_mutation"},
    {"trigger": "DiffComputed", "source": State.DIFFING, "dest": State.EMBEDDING},
    {"trigger": "SignalEmbedded", "source": State.EMBEDDING, "dest": State.FLAGGED, "conditions": "trigger_holds"},
    {"trigger": "SignalEmbedded", "source": State.EMBEDDING, "dest": State.REWARDING, "conditions": "outcome_to_judge"},
    {"trigger": "SignalEmbedded", "source": State.EMBEDDING, "dest": State.IDLE},
    {"trigger": "RetrainFlagged", "source": State.FLAGGED, "dest": State.GENERATING},
    {
        "trigger": "DatasetGenerated",
        "source": State.GENERATING,
        "dest": State.TRAINING,
        "conditions": "enough_to_learn",
    },
    {"trigger": "DatasetGenerated", "source": State.GENERATING, "dest": State.REWARDING},
    {"trigger": "TrainingProgressed", "source": State.TRAINING, "dest": None},
    {"trigger": "CheckpointTrained", "source": State.TRAINING, "dest": State.REWARDING},
    {"trigger": "MemoryReembedded", "source": State.REWARDING, "dest": None},
    {"trigger": "MemoryReembedded", "source": ELSEWHERE, "dest": None, "conditions": "rows_to_embed"},
    {"trigger": "OutcomeRewarded", "source": State.REWARDING, "dest": State.PLANNING},
    {"trigger": "MutationAccepted", "source": State.PLANNING, "dest": None},
    {"trigger": "MutationRejected", "source": State.PLANNING, "dest": State.REWARDING},
    {"trigger": "MutationApplied", "source": State.PLANNING, "dest": State.REWARDING},
    {"trigger": "PlanChosen", "source": State.PLANNING, "dest": State.IDLE},
    {"trigger": "ProbationEnded", "source": State.IDLE, "dest": None},
    {"trigger": "EffectFailed", "source": BUSY, "dest": State.IDLE},
    {"trigger": "RollbackStarted", "source": "*", "dest": State.IDLE},
    {"trigger": "RollbackFinished", "source": State.IDLE, "dest": None},
    {"trigger": "WorkspaceInitialized", "source": State.IDLE, "dest": None},
    {"trigger": "ModelAdopted", "source": State.IDLE, "dest": None},
    *(
        {"trigger": name, "source": "*", "dest": None}
        for name in (
            "PolicyChanged",
            "SnapshotTaken",
            "ChangeObserved",
            "FeedbackReceived",
            "TaskQueued",
            "InputSkipped",
            "TreeCaptured",
            "PayloadErased",
            "BlobsCollected",
        )
    ),
]
"""Every transition: a ``dest`` of None is recorded without moving the machine; guards are tried in this order."""


class Step(NamedTuple):
    """One way out of a state: where to, if the guard holds (no guard always holds). ``None`` means: stay."""

    target: State | None
    guard: Guard | None


class _Subject:
    """The model that ``transitions`` moves: its methods are the guards, called with the same arguments."""

    state: State

    def __getattr__(self, name: str) -> Any:
        if name in GUARDS:
            return GUARDS[name]
        raise AttributeError(name)


def build_machine() -> tuple[Machine, Any]:
    """Builds the machine and a model in Idle that it moves.

    Call ``model.trigger(event_type, state, event, now_us)``; it raises ``transitions.MachineError`` for an event that
    is not accepted.
    """
    subject = _Subject()
    machine = Machine(
        model=subject,
        states=State,
        initial=State.IDLE,
        transitions=DECLARATION,
        auto_transitions=False,
        send_event=False,
        queued=False,
    )
    return machine, subject


@cache
def compile_table() -> dict[tuple[State, str], tuple[Step, ...]]:
    """Reads the machine's own transitions into a table by state and event type."""
    machine, _ = build_machine()
    table: dict[tuple[State, str], tuple[Step, ...]] = {}
    for trigger, event in machine.events.items():
        for source, ways in event.transitions.items():
            steps = tuple(
                Step(
                    State[way.dest] if way.dest is not None else None,
                    GUARDS[str(way.conditions[0].func)] if way.conditions else None,
                )
                for way in ways
            )
            table[State[source], trigger] = steps
    return table


TABLE = compile_table()


def _unmoved() -> frozenset[type]:
    """Finds the events that every state accepts, without a guard and without a move."""
    stays = (Step(None, None),)
    return frozenset(
        kind for kind in get_args(e.AnyEvent) if all(TABLE.get((state, kind.__name__)) == stays for state in State)
    )


UNMOVED = _unmoved()
"""Events that are recorded in every state, while a restore is in progress too, and never move the machine."""


def next_state(state: AgentState, event: e.AnyEvent, now_us: int) -> State | None:
    """Says where an event moves the machine; None when it is recorded without a move.

    Raises:
        IllegalTransition: the machine does not accept this event in its present state.
    """
    for target, guard in TABLE.get((state.machine, type(event).__name__), ()):
        if guard is None or guard(state, event, now_us):
            return target
    raise IllegalTransition(
        f"{type(event).__name__} is not accepted in state {state.machine} (since event {state.since}). "
        f"Read the log again and decide on what it says now."
    )
