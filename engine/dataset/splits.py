"""Which rows are learned from and which judge: by whole groups, and never a near-duplicate on both sides.

A row's group is the one it was told. Else it depends on how its task type answers. Where every question has an answer
of its own, the answer is the group: what is tested is whether answers are found that were never learned. Where few
answers recur, as the intents of a classifier do, holding an answer out would test what no training can teach; there a
cluster of near-duplicate inputs is the group, and each answer is learned and tested.

The split is a function of the group's name (``fsm.words.split_of``): the sealed test keeps its rows as the log grows.
What was told first claims its side: a later near-duplicate that belongs to another is left out. Where answers recur,
and the agent says how sure it is, examples that it was taught are all learned and what it was asked judges: they are
what it answers from, and an example that was held out lies apart from those that were learned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from instar.engine.dataset.heard import folded
from instar.engine.dataset.lessons import Lesson
from instar.fsm.policy import RetrainPolicy
from instar.fsm.words import digest_of, split_of

from .near_duplicates import Pair
from .rows import Grouping, Split

RECURRENCE_MIN = 3.0
"""Distinct inputs an answer, on average, from which the answers of a task type count as recurring."""
BOTH = "input in both splits"


class Questions(NamedTuple):
    """The distinct inputs in the order in which they became known, and which of them are near-duplicates."""

    place: dict[str, int]
    near: dict[int, list[Pair]]
    """For the place of a text its near-duplicates before it, earliest first."""


class Placed(NamedTuple):
    """A lesson in its group and split."""

    lesson: Lesson
    group: str
    split: Split


def questions(lessons: Sequence[Lesson], pairs: Iterable[Pair]) -> Questions:
    """Looks inputs up by their keys."""
    place: dict[str, int] = {}
    for lesson in lessons:
        place.setdefault(lesson.key, len(place))
    near: defaultdict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        near[pair.second].append(pair)
    return Questions(place, near)


def grouping(lessons: Iterable[Lesson], chosen: Mapping[str, Grouping]) -> dict[str, Grouping]:
    """Chooses for each task type by what its rows are grouped.

    Args:
        lessons: all of them.
        chosen: what held when a checkpoint was last trained: it stays, or rows that were learned from would be tested.
    """
    inputs: defaultdict[str, set[str]] = defaultdict(set)
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for lesson in lessons:
        if lesson.group is None:
            inputs[lesson.kind].add(lesson.key)
            answers[lesson.kind].add(folded(lesson.output))
    found: dict[str, Grouping] = {
        kind: "input" if len(inputs[kind]) >= RECURRENCE_MIN * len(answers[kind]) else "answer" for kind in inputs
    }
    return dict(sorted((found | dict(chosen)).items()))


def placed(
    lessons: Sequence[Lesson],
    asked: Questions,
    by: Mapping[str, Grouping],
    policy: RetrainPolicy,
    left_out: Counter[str],
) -> list[Placed]:
    """Gives every lesson its group and split; leaves out what would stand on both sides.

    Args:
        lessons: in the order in which they became known.
        asked: their inputs.
        by: what each task type is grouped by.
        policy: the shares held out.
        left_out: is told how many failures are lost.
    """
    clusters = _clusters(asked)
    learned = _taught(lessons, clusters, asked)
    claimed: dict[int, Split] = {}
    found = []
    for lesson in lessons:
        place = asked.place[lesson.key]
        by_input = lesson.group is None and by.get(lesson.kind) == "input"
        group = lesson.group or (clusters[place] if by_input else lesson.output)
        side = split_of(group, policy.heldout_share, policy.validation_share)
        if by_input and group in learned:
            side = "train"
        sides = {claimed[other] for other in (place, *(pair.first for pair in asked.near[place])) if other in claimed}
        if sides - {side}:
            left_out[BOTH] += lesson.failed
            continue
        claimed[place] = side
        found.append(Placed(lesson, group, side if side != "train" or lesson.failed else "memory"))
    return found


def _taught(lessons: Sequence[Lesson], clusters: Sequence[str], asked: Questions) -> set[str]:
    """Gives the clusters that began with a taught example; none where the agent never says how sure it is.

    Without a confidence nothing tells an example from a question that was answered well, and failures alone would
    judge: they flatter any change, since they regress to the mean.
    """
    if all(lesson.failed or lesson.taught for lesson in lessons):
        return set()
    first: dict[str, Lesson] = {}
    for lesson in lessons:
        first.setdefault(clusters[asked.place[lesson.key]], lesson)
    return {cluster for cluster, lesson in first.items() if lesson.taught}


def _clusters(asked: Questions) -> list[str]:
    """Names the cluster of each input: that of its first near-duplicate, or one of its own."""
    names: list[str] = []
    for key, place in asked.place.items():
        near = asked.near[place]
        names.append(names[near[0].first] if near else f"input:{digest_of(key.encode())[:16]}")
    return names
