"""Which points a collection keeps."""

from __future__ import annotations

import pytest

from instar.fsm.retention import SAFETY, Point, Retention, cutoff_us, kept_points
from instar.fsm.words import Seq

POINTS = [
    Point(Seq(3), "before-refactor"),
    Point(Seq(5), f"{SAFETY}5"),
    Point(Seq(8), None),
    Point(Seq(11), f"{SAFETY}11"),
    Point(Seq(14), None),
    Point(Seq(20), "late"),
]


@pytest.mark.parametrize(
    ("retention", "kept_from", "kept"),
    [
        (Retention(), 100, (1, 3, 5, 8, 11, 14, 20)),
        (Retention(safety_max=1), 100, (1, 3, 8, 11, 14, 20)),
        (Retention(promotions_max=1), 100, (1, 3, 5, 11, 14, 20)),
        (Retention(safety_max=0, promotions_max=0), 100, (1, 3, 20)),
        (Retention(), 12, (1, 3, 5, 8, 11)),
        (Retention(), 1, ()),
        # The latest two promotions are counted over the whole log: both lie among what is kept anyway.
        (Retention(promotions_max=2, safety_max=2), 8, (1, 3, 5)),
    ],
)
def test_kept_points_are_named_safe_and_promoted(retention: Retention, kept_from: int, kept: tuple[int, ...]) -> None:
    assert kept_points(retention, Seq(kept_from), POINTS) == kept


def test_name_given_again_stands_for_its_last_point() -> None:
    assert kept_points(Retention(), Seq(50), [Point(Seq(4), "good"), Point(Seq(9), "good")]) == (1, 9)


@pytest.mark.parametrize(("days", "cutoff"), [(0, 10**15), (1, 10**15 - 86_400_000_000), (-3, 10**15)])
def test_cutoff_is_never_in_the_future(days: float, cutoff: int) -> None:
    assert cutoff_us(Retention(days=days), 10**15) == cutoff
