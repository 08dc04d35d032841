"""The words for positions and identities that every room shares."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Literal, NewType

Seq = NewType("Seq", int)
"""Position of an event in the log: 1, 2, 3, … without gaps. 0 is the position before the first event."""

Digest = NewType("Digest", str)
"""Lower-case hexadecimal sha256 of some bytes: the name of a blob, a tree, a checkpoint or a state."""

ORIGIN = Seq(0)


class State(StrEnum):
    """The eight states of the machine, in the order in which a full cycle passes them."""

    IDLE = "Idle"
    DIFFING = "Diffing"
    EMBEDDING = "Embedding"
    FLAGGED = "Flagged"
    GENERATING = "Generating"
    TRAINING = "Training"
    REWARDING = "Rewarding"
    PLANNING = "Planning"

    __hash__ = str.__hash__
    """As fast as the text's own: an enumeration's is a function in Python, and the fold looks states up often."""


def digest_of(content: bytes) -> Digest:
    """Names bytes by their sha256."""
    return Digest(sha256(content).hexdigest())


def held_out(group: str, share: float = 0.2) -> bool:
    """Says whether a whole group (a module, a user, a topic) is kept out of training.

    The split depends on the group's name alone, so that every program which asks gets the same answer, today
    and after the data has grown.

    Args:
        group: the name that must not be cut in two by the split.
        share: the expected share of groups held out, in 0..1.
    """
    return _position(group) < share


def split_of(group: str, heldout_share: float, validation_share: float) -> Literal["train", "validation", "heldout"]:
    """Says what a whole group is for: to learn from, to choose and calibrate by, or to judge by.

    Args:
        group: the name that must not be cut in two by the split.
        heldout_share: the share of groups in the sealed test, as ``held_out`` says.
        validation_share: the share of all groups that validate; taken from what is not held out.
    """
    if held_out(group, heldout_share):
        return "heldout"
    # By a position of its own, so that another held-out share moves no group between learning and validation.
    validates = _position(f"validation:{group}") * (1 - heldout_share) < validation_share
    return "validation" if validates else "train"


def _position(name: str) -> float:
    """Gives a name its place in 0..1, evenly spread."""
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big") / 2**64
