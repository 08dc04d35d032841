"""What vectors of the inputs and answers tell: suspect labels, and wrong answers that the model takes for right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from instar.engine.dataset.heard import folded

from .drafts import NEGATIVES_MAX, Draft
from .rows import Row
from .suspects import suspects

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Gives (texts, dim) unit rows, a row of zeros for a text that cannot be embedded."""

CONFUSABLE_MAX = 4
SAME_MIN = 0.95
"""Cosine from which two answers, or two inputs, are taken for the same and not held against each other."""
_DECIMALS = 5
"""Cosines are compared so finely: finer, the order of a sum decides."""
_CELLS_MAX = 1 << 22


class Vectors:
    """The vectors of the rows that are learned from or rehearsed. Nothing that judges is asked for, let alone mined.

    Args:
        drafts: rows; those of other splits than train and memory are passed over.
        embed: the model, or what it gave when the data set was made.
    """

    def __init__(self, drafts: Sequence[Draft], embed: Embed) -> None:
        drafts = [draft for draft in drafts if draft.split in ("train", "memory")]
        inputs, outputs = ([getattr(draft.first, name) for draft in drafts] for name in ("input", "output"))
        texts = list(dict.fromkeys([*inputs, *outputs]))
        self._place = {text: number for number, text in enumerate(texts)}
        self._all = embed(texts) if texts else np.zeros((0, 1), np.float32)
        self._take(drafts)

    def _take(self, drafts: list[Draft]) -> None:
        self.drafts = drafts
        self.answers = list(dict.fromkeys(draft.first.output for draft in drafts))
        self.inputs = self._all[[self._place[draft.first.input] for draft in drafts]]  # (drafts, dim)
        self.outputs = self._all[[self._place[answer] for answer in self.answers]]  # (answers, dim)

    def drop(self, ids: Collection[int]) -> None:
        """Goes on without some rows."""
        self._take([draft for draft in self.drafts if id(draft) not in ids])

    def suspects(self) -> set[int]:
        """Names, by ``id``, the rows to learn from whose answer their neighbourhood does not believe.

        What a test showed, and what both the agent and a reference said, is trusted.
        """
        usable = np.flatnonzero(np.linalg.norm(self.inputs, axis=1) > 0)
        drafts = [self.drafts[row] for row in usable]
        trusted = np.array([draft.split == "memory" or draft.first.verified_by == "test" for draft in drafts], np.bool_)
        found = suspects(self.inputs[usable], [draft.answer for draft in drafts], trusted)
        return {id(draft) for draft, suspect in zip(drafts, found, strict=True) if suspect}


def mined(vectors: Vectors, right: Mapping[str, frozenset[str]], recurring: Collection[str]) -> dict[int, Row]:
    """Makes the rows to learn from, each with its hardest wrong answers, by the ``id`` of their drafts.

    An answer is as near to an input as its own text is, or the nearest input that it is right for. What is known to be
    right for the input, or says nearly the same as what is right, is never among them.

    Args:
        vectors: of the rows.
        right: the answers that are known to be right for each input, as they are compared.
        recurring: the task types whose answers recur: their rows get the nearest inputs with another answer too.
    """
    column = {answer: number for number, answer in enumerate(vectors.answers)}
    answer_of = np.array([column[draft.first.output] for draft in vectors.drafts], np.intp)  # (drafts,)
    folds = np.array([folded(answer) for answer in vectors.answers], object)  # (answers,)
    teaching = [row for row, draft in enumerate(vectors.drafts) if draft.split == "train"]
    block = max(1, _CELLS_MAX // max(1, len(vectors.drafts) + len(folds)))
    found: dict[int, Row] = {}
    for start in range(0, len(teaching), block):
        rows = teaching[start : start + block]
        to_inputs = _cosines(vectors.inputs[rows], vectors.inputs)  # (block, drafts)
        to_answers = _cosines(vectors.inputs[rows], vectors.outputs)  # (block, answers)
        to_right = _cosines(vectors.outputs[answer_of[rows]], vectors.outputs)  # (block, answers)
        for number, row in enumerate(rows):
            draft = vectors.drafts[row]
            known = right[draft.first.key]
            wrong = ~np.isin(folds, list(known)) & (to_right[number] < SAME_MIN)  # (answers,)
            told = draft.known_wrong(known)
            reach = to_answers[number].copy()
            np.maximum.at(reach, answer_of, to_inputs[number])
            negatives = told + [
                vectors.answers[place]
                for place in _best(reach, wrong, NEGATIVES_MAX + len(told))
                if vectors.answers[place] not in told
            ]
            others = wrong[answer_of] & (to_inputs[number] < SAME_MIN)  # (drafts,)
            count = CONFUSABLE_MAX if draft.first.kind in recurring else 0
            confusable = [vectors.drafts[place].first.input for place in _best(to_inputs[number], others, count)]
            found[id(draft)] = draft.row(negatives, confusable)
    return found


def _cosines(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.round(rows.astype(np.float64) @ columns.T.astype(np.float64), _DECIMALS)


def _best(scores: NDArray[np.float64], allowed: NDArray[np.bool_], count: int) -> list[int]:
    """Gives the places of the highest scores above zero, best first; of equals the earlier one."""
    places = np.flatnonzero(allowed & (scores > 0))
    return [int(place) for place in places[np.argsort(-scores[places], kind="stable")][:count]]
