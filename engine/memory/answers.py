"""Answers from memory: what the rows nearest to a question say is right, and how sure that is.

Every row whose right answer is known has a vote (see ``calibration``), and so has each answer's own text, as in the
training and where the temperature of the vote was fitted; that is recorded with the active checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from instar.engine.embedding.models import active_space
from instar.engine.runtime import Runtime
from instar.fsm.events import AnyEvent, FeedbackReceived
from instar.store.memory_row import Hit

from .calibration import TEMPERATURE, confidences
from .search import EVERYTHING, Filter, Found, check_asked, found, nearest

KINDS: Final = ("feedback", "failure")
"""The rows that stand for outcomes of the agent's work."""
VOTERS: Final = 64
"""Rows that are asked by default; a vote falls by half with each 0.035 of cosine, so farther ones hardly count."""


class _Voter(NamedTuple):
    row: Found
    question: str
    output: str


class Answer(Struct, frozen=True, kw_only=True):
    """The answer that most of the vote is for, and its share as a probability; None where no row has an answer.

    Attributes:
        output: the answer.
        confidence: how likely it is right, in 0..1.
        support: the rows that voted for it, the nearest first; their similarity is that of question to question.
        voters: how many rows had an answer.
        temperature: of the vote.
        fitted: whether that was fitted for this checkpoint; else it is the one that fits the base model.
    """

    output: str | None
    confidence: float
    support: list[Found]
    voters: int
    temperature: float
    fitted: bool


def answer(runtime: Runtime, text: str, k: int = VOTERS, wanted: Filter = EVERYTHING) -> Answer:
    """Answers a question by the vote of the ``k`` rows nearest to it.

    Raises:
        ConfigError: the text is empty or cannot be embedded, or ``k`` is out of its range.
    """
    check_asked(text, k)
    state = runtime.state
    space = active_space(state)
    if wanted.kinds is None:
        wanted = replace(wanted, kinds=list(KINDS))
    voters = _voters(runtime, nearest(runtime, text, k, wanted))
    # A row's own vector is of a whole outcome; how sure an answer is was fitted on questions alone.
    outputs = list(dict.fromkeys(voter.output for voter in voters))
    vectors, _ = runtime.models.embed_each(space, [text, *(voter.question for voter in voters), *outputs])
    cosines = vectors[1:] @ vectors[0]  # (voters + outputs,)
    gave = np.array([*(outputs.index(voter.output) for voter in voters), *range(len(outputs))], dtype=np.int64)
    fitted = state.calibrations.get(space)
    best, sure = confidences(cosines[None], gave[None], TEMPERATURE if fitted is None else fitted)
    order = np.argsort(-cosines[: len(voters)], kind="stable").tolist()
    return Answer(
        output=outputs[best[0]] if voters else None,
        confidence=round(float(sure[0]), 6),
        support=[
            replace(voters[place].row, similarity=round(float(cosines[place]), 6))
            for place in order
            if gave[place] == best[0]
        ],
        voters=len(voters),
        temperature=TEMPERATURE if fitted is None else fitted,
        fitted=fitted is not None,
    )


def _voters(runtime: Runtime, hits: Sequence[Hit]) -> list[_Voter]:
    """Gives the rows that know a right answer, with it and with what was asked."""
    voters = []
    for hit in hits:
        event = runtime.reader.get(hit.row.signal).event
        output = right_answer(event)
        if isinstance(event, FeedbackReceived) and output is not None:
            voters.append(_Voter(found(hit), event.input, output))
    return voters


def right_answer(event: AnyEvent) -> str | None:
    """Gives the answer that an outcome shows to be right: its reference, or the output of what passed."""
    if not isinstance(event, FeedbackReceived):
        return None
    if event.reference:
        return event.reference
    return event.output if event.outcome == "pass" and event.output else None
