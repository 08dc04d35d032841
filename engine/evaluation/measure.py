"""One measurement: a checkpoint on a file of rows."""

from __future__ import annotations

from pathlib import Path

from instar.fsm.errors import InputRefused

from .answering import Answering, answer, draw
from .rows import Compared, Labelled, read_rows
from .similarity import Similarity, compare
from .subject import Subject


def measure(
    subject: Subject,
    on: Path,
    *,
    each: int = 5,
    memory: Path | None = None,
    seed: int = 0,
    threshold: float = 0.70,
) -> Answering | Similarity:
    """Measures a checkpoint on rows of a file: answers for labelled requests, Spearman's correlation for scored pairs.

    Args:
        subject: the checkpoint.
        on: the rows.
        each: how many examples of an answer memory holds; 0 takes all.
        memory: rows to draw the examples from; else they are drawn from ``on``.
        seed: of the draw.
        threshold: an answer of less confidence is unsure.

    Raises:
        InputRefused: a file cannot be used.
    """
    rows = read_rows(on)
    compared = [row for row in rows if isinstance(row, Compared)]
    if compared:
        if memory is not None:
            raise InputRefused(f"{on} holds scored pairs, which need no examples: leave --memory out.")
        return compare(subject.embed, compared)
    labelled = [row for row in rows if isinstance(row, Labelled)]
    if memory is None:
        examples, asked = draw(labelled, each, seed)
    else:
        known = [row for row in read_rows(memory) if isinstance(row, Labelled)]
        if not known:
            raise InputRefused(f"{memory} holds no rows with an intent.")
        examples, _ = draw(known, each, seed, ask=False)
        asked = labelled
    return answer(subject.embed, examples, asked, subject.temperature, threshold)
