"""The names of the edges between events, and how closely each ties what it joins.

A cycle's events hold many things at once: a CycleStarted its signals, a DiffComputed and a SignalEmbedded an item for
each, an OutcomeRewarded a verdict and the scores of others. Most that rests on such an event rests on its *frame*, what
holds for all of it, and on the one member that it names by an edge of its own: a retrain that one failure triggered did
not come about through the passes that were embedded beside it. So edges belong to the frame or to the members of the
later event, and lead to the frame or to all of the earlier one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal, NamedTuple


class Kind(IntEnum):
    """How an event rests on another; the larger, the closer."""

    BACKGROUND = 1
    """It was there: the policy in force, the version that a change replaced. Shown, and not followed any further."""
    OCCASION = 2
    """It came about through it, and holds nothing of its content."""
    CONTENT = 3
    """It is made of it: take the content away, and this would be another."""


class Tie(NamedTuple):
    """What an edge of some name means.

    ``to`` says what of the earlier event it needs: the frame, all of it, or the same as was meant of the later one.
    ``member`` says that it belongs to a member of the later event and not to its frame.
    """

    kind: Kind
    to: Literal["frame", "all", "same"] = "frame"
    member: bool = False


FRAMED: Final = frozenset({"CycleStarted", "DiffComputed", "SignalEmbedded", "OutcomeRewarded"})
"""The types that hold many things at once. Of every other event the frame is all of it."""

NAMES: Final[dict[str, Tie]] = {
    "dataset": Tie(Kind.CONTENT),
    "judged on": Tie(Kind.OCCASION),
    "brought by": Tie(Kind.CONTENT),
    "asked by": Tie(Kind.OCCASION),
    "trigger": Tie(Kind.OCCASION),
    "flagged on": Tie(Kind.OCCASION),
    "drift against": Tie(Kind.OCCASION, member=True),
    "shift from": Tie(Kind.OCCASION, member=True),
    "judges": Tie(Kind.CONTENT),
    "follows": Tie(Kind.OCCASION),
    "embeds": Tie(Kind.CONTENT, to="same"),
    "in cycle": Tie(Kind.OCCASION, to="same"),
    "takes up": Tie(Kind.OCCASION, member=True),
    "compares": Tie(Kind.CONTENT, member=True),
    "against": Tie(Kind.CONTENT, member=True),
    "row": Tie(Kind.CONTENT, member=True),
    "rows": Tie(Kind.CONTENT, to="all"),
    "row teaches": Tie(Kind.CONTENT),
    "row corrects": Tie(Kind.CONTENT),
    "row judges": Tie(Kind.OCCASION),
    "row failed in": Tie(Kind.OCCASION),
    "scores": Tie(Kind.OCCASION, member=True),
    "plans on": Tie(Kind.CONTENT, to="all"),
    "while answering": Tie(Kind.OCCASION, to="all"),
    "carries out": Tie(Kind.CONTENT),
    "tries": Tie(Kind.CONTENT),
    "watches": Tie(Kind.CONTENT),
    "rewards since": Tie(Kind.OCCASION, to="all"),
    "after probation": Tie(Kind.OCCASION),
    "finishes": Tie(Kind.CONTENT),
    "back to": Tie(Kind.OCCASION, to="all"),
    "takes back": Tie(Kind.OCCASION, to="all"),
    "written by": Tie(Kind.CONTENT),
    "brings back": Tie(Kind.CONTENT),
    "outcome of": Tie(Kind.CONTENT),
    "erases": Tie(Kind.OCCASION, to="all"),
    "answers": Tie(Kind.OCCASION, to="all"),
    "weights": Tie(Kind.CONTENT),
    "base": Tie(Kind.OCCASION),
    "space": Tie(Kind.CONTENT),
    "holds checkpoint": Tie(Kind.OCCASION),
    "active since": Tie(Kind.OCCASION),
    "under policy": Tie(Kind.BACKGROUND),
    "version before": Tie(Kind.BACKGROUND),
    "after re-embedding": Tie(Kind.BACKGROUND),
    "standing": Tie(Kind.BACKGROUND),
    "tree since": Tie(Kind.BACKGROUND),
    "difference in": Tie(Kind.BACKGROUND),
    "learned last": Tie(Kind.BACKGROUND),
    "decided at": Tie(Kind.BACKGROUND),
}
"""Every edge's name, in the order in which a tree shows them. ``docs/audit.md`` says what each means."""
