from __future__ import annotations

import re

from instar.engine.training.docstrings import docstrings
from instar.engine.training.everyday import EACH, general_texts, sentences
from instar.engine.training.general import PAIRS, likenesses, rank_correlation

SMALL = {"that", "their", "some", "after", "where", "among", "from", "home", "into", "made", "over", "with"}


def words(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]{4,}", text.lower())} - SMALL


def test_what_is_held_shares_no_word_with_what_is_measured() -> None:
    measured = words([text for one, other, _ in likenesses() for text in (one, other)])
    assert words(list(sentences())) & measured == set()


def test_general_texts_are_distinct_and_half_of_them_are_sentences() -> None:
    texts = general_texts()
    assert len(set(texts)) == len(texts) == 2 * EACH
    assert texts[0::2] == list(sentences())
    assert set(texts[1::2]) <= set(docstrings())
    assert texts == general_texts()


def test_known_likenesses_are_of_all_degrees() -> None:
    known = {likeness for _, _, likeness in likenesses()}
    assert len(likenesses()) == PAIRS
    assert min(known) == 0.0
    assert max(known) == 1.0
    assert len(known) == 9


def test_rank_correlation_is_spearmans() -> None:
    import numpy as np

    rising = np.array([1.0, 2.0, 2.0, 5.0])
    assert rank_correlation(rising, rising**3) == 1.0
    assert rank_correlation(rising, -rising) == -1.0
    assert rank_correlation(rising, np.ones(4)) == 0.0
