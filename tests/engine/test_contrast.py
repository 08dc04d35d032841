"""What is learnt together, and what never counts against each other."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from instar.engine.ports import Pair
from instar.engine.training.contrast import Batch, Course, Group, plan
from instar.engine.training.recipe import Recipe

_pairs = st.lists(st.builds(Pair, st.sampled_from([f"q{n}" for n in range(30)]), st.sampled_from("abcdef")), min_size=1)


def groups(course: Course, recipe: Recipe, seed: int = 0) -> list[list[Group]]:
    return [[batch for batch in epoch if isinstance(batch, Group)] for epoch in plan(course, recipe, seed)]


@given(_pairs, st.integers(1, 20), st.integers(0, 2**31 - 1))
@settings(max_examples=60, deadline=None)
def test_each_text_of_an_answer_has_another_one_beside_it(rows: list[Pair], size: int, seed: int) -> None:
    course = Course.of(rows)
    made = groups(course, Recipe(epochs=2, batch=size), seed)
    assert made == groups(course, Recipe(epochs=2, batch=size), seed)
    for epoch in made:
        learnt = {text for group in epoch for text in group.texts}
        assert learnt == {row.input for row in rows} | {row.output for row in rows}
        for group in epoch:
            assert 0 < len(set(group.texts)) == len(group.texts) <= size + 1
            assert all(len(together) > 0 for together in group.together)


def _answers(rows: list[Pair], text: str) -> set[str]:
    return {pair.output for pair in rows if text in (pair.input, pair.output)}


@given(_pairs)
@settings(max_examples=60, deadline=None)
def test_what_shares_an_answer_is_together_and_nothing_else(rows: list[Pair]) -> None:
    course = Course.of(rows)
    for group in groups(course, Recipe(epochs=1, batch=8))[0]:
        for row, text in enumerate(group.texts):
            for column, other in enumerate(group.texts):
                shared = _answers(rows, text) & _answers(rows, other)
                assert (column in group.together[row]) == (row != column and bool(shared))


def test_old_pairs_are_rehearsed_up_to_their_share_others_in_each_epoch() -> None:
    rows = [Pair(f"new{n}", f"a{n}") for n in range(4)]
    old = [Pair(f"old{n}", f"b{n}") for n in range(100)]
    epochs = groups(Course.of(rows, old), Recipe(epochs=5, rehearsal=2.0))
    rehearsed = [{text for group in epoch for text in group.texts if text.startswith("old")} for epoch in epochs]
    assert {len(texts) for texts in rehearsed} == {8}
    assert len(set().union(*rehearsed)) > 20
    none = groups(Course.of(rows, old), Recipe(epochs=1, rehearsal=0.0))[0]
    assert not [text for group in none for text in group.texts if text.startswith(("old", "b"))]


def test_pair_is_drawn_to_another_input_of_its_answer_which_masks_the_rest() -> None:
    rows = [Pair("q0", "a"), Pair("q1", "a"), Pair("q2", "b")]
    ((batch,),) = plan(Course.of(rows), Recipe(loss="pairs", epochs=1, positives="example"), 0)
    assert isinstance(batch, Batch)
    drawn = {text: batch.documents[batch.positives[n]] for n, text in enumerate(batch.inputs)}
    assert drawn == {"q0": "q1", "q1": "q0", "q2": "b"}
    for n, text in enumerate(batch.inputs):
        against = {
            document
            for m, document in enumerate(batch.documents)
            if m != batch.positives[n] and (n, m) not in batch.masked
        }
        assert against == ({"b"} if text in ("q0", "q1") else {"q0", "q1"})


def test_confusable_inputs_stand_in_the_batch() -> None:
    rows = [Pair("q0", "a", confusable=("near1", "near2"))]
    ((batch,),) = plan(Course.of(rows), Recipe(loss="pairs", epochs=1, confusable=1), 0)
    assert isinstance(batch, Batch)
    assert batch.documents == ["a", "near1"]
