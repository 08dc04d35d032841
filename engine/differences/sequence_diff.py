"""What two sequences (lines, tokens, labels of a syntax tree) have in common, fast on any size.

Common ends are stripped first. A small rest goes through difflib (Ratcliff & Obershelp 1988); a large one is cut at the
items that are unique on both sides, in their longest common order (patience diff, Bram Cohen), or at unique runs of a
few items, until the pieces are small. A large piece without such an anchor counts as replaced. Plain difflib takes
seconds on 100,000 lines.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

SMALL = 4_000
"""Items of both sides together up to which difflib is asked."""
PAIRS_MAX = 40_000
"""Pairs of equal items up to which difflib is asked: its time grows with them."""

WIDTHS = (1, 2, 4, 8, 16)
"""Lengths of the runs that are tried as anchors, where shorter ones stand on either side more than once."""


class Match(NamedTuple):
    """``size`` items that are equal from ``a`` on the left and from ``b`` on the right."""

    a: int
    b: int
    size: int


class Change(NamedTuple):
    """Items ``a_low:a_high`` of the left that became ``b_low:b_high`` of the right."""

    a_low: int
    a_high: int
    b_low: int
    b_high: int


def matches(left: Sequence[str], right: Sequence[str]) -> list[Match]:
    """Finds the common runs, in order, none adjacent to the next on both sides."""
    found: list[Match] = []
    waiting = [(0, len(left), 0, len(right))]
    while waiting:
        a_low, a_high, b_low, b_high = waiting.pop()
        a, b = a_low, b_low
        while a < a_high and b < b_high and left[a] == right[b]:
            a, b = a + 1, b + 1
        if a > a_low:
            found.append(Match(a_low, b_low, a - a_low))
        tail = 0
        while a_high - tail > a and b_high - tail > b and left[a_high - tail - 1] == right[b_high - tail - 1]:
            tail += 1
        a_high, b_high = a_high - tail, b_high - tail
        if tail:
            found.append(Match(a_high, b_high, tail))
        if a < a_high and b < b_high:
            inner, gaps = _middle(left, right, (a, a_high, b, b_high))
            found.extend(inner)
            waiting.extend(gaps)
    return _joined(sorted(found))


def changes(left: Sequence[str], right: Sequence[str]) -> list[Change]:
    """Finds what lies between the common runs, in order."""
    found = []
    a = b = 0
    for match in [*matches(left, right), Match(len(left), len(right), 0)]:
        if match.a > a or match.b > b:
            found.append(Change(a, match.a, b, match.b))
        a, b = match.a + match.size, match.b + match.size
    return found


def edits(left: Sequence[str], right: Sequence[str]) -> int:
    """Counts the items removed from the left and added on the right: 0 exactly for equal sequences."""
    return sum(change.a_high - change.a_low + change.b_high - change.b_low for change in changes(left, right))


def similarity(left: Sequence[str], right: Sequence[str]) -> float:
    """Gives 1 − the share of items, of both sides together, that changed; 1 for two empty sequences."""
    total = len(left) + len(right)
    return 1.0 - edits(left, right) / total if total else 1.0


def hunks(found: Sequence[Change], a_size: int, b_size: int, context: int = 3) -> Iterator[tuple[Change, list[Change]]]:
    """Groups changes that lie within reach of one another, each group with the span that its hunk covers."""
    group: list[Change] = []
    for change in found:
        if group and change.a_low - group[-1].a_high > 2 * context:
            yield _span(group, a_size, b_size, context), group
            group = []
        group.append(change)
    if group:
        yield _span(group, a_size, b_size, context), group


def _span(group: list[Change], a_size: int, b_size: int, context: int) -> Change:
    first, last = group[0], group[-1]
    before = min(context, first.a_low, first.b_low)
    after = min(context, a_size - last.a_high, b_size - last.b_high)
    return Change(first.a_low - before, last.a_high + after, first.b_low - before, last.b_high + after)


Piece = tuple[int, int, int, int]


def _middle(left: Sequence[str], right: Sequence[str], piece: Piece) -> tuple[list[Match], list[Piece]]:
    """Compares a piece whose ends differ: matches at once, or anchors and the gaps between them."""
    a_low, a_high, b_low, b_high = piece
    a_items, b_items = left[a_low:a_high], right[b_low:b_high]
    a_count, b_count = Counter(a_items), Counter(b_items)
    pairs = sum(count * b_count[item] for item, count in a_count.items() if item in b_count)
    if not pairs:
        return [], []
    if len(a_items) + len(b_items) <= SMALL and pairs <= PAIRS_MAX:
        blocks = SequenceMatcher(None, a_items, b_items, autojunk=False).get_matching_blocks()
        return [Match(a_low + block.a, b_low + block.b, block.size) for block in blocks if block.size], []
    anchors = next((found for width in WIDTHS if (found := _anchors(a_items, b_items, width))), [])
    gaps: list[Piece] = []
    a, b = a_low, b_low
    for a_index, b_index in [*anchors, (a_high - a_low, b_high - b_low)] if anchors else []:
        gaps.append((a, a_low + a_index, b, b_low + b_index))
        a, b = a_low + a_index + 1, b_low + b_index + 1
    return [Match(a_low + a_index, b_low + b_index, 1) for a_index, b_index in anchors], gaps


def _anchors(left: Sequence[str], right: Sequence[str], width: int) -> list[tuple[int, int]]:
    """Finds where runs of ``width`` items start that stand once on either side, in their longest common order."""
    a_runs, b_runs = _runs(left, width), _runs(right, width)
    a_count, b_count = Counter(a_runs), Counter(b_runs)
    place = {run: index for index, run in enumerate(b_runs) if b_count[run] == 1}
    return _longest_rising(
        [(index, place[run]) for index, run in enumerate(a_runs) if a_count[run] == 1 and run in place]
    )


def _runs(items: Sequence[str], width: int) -> Sequence[str | tuple[str, ...]]:
    return items if width == 1 else [tuple(items[at : at + width]) for at in range(len(items) - width + 1)]


def _longest_rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Finds the longest run of pairs that rises on the right too, by patience sorting."""
    tops: list[int] = []
    top_pairs: list[int] = []
    below: list[int] = []
    for index, (_, b) in enumerate(pairs):
        pile = bisect_left(tops, b)
        below.append(top_pairs[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(b)
            top_pairs.append(index)
        else:
            tops[pile], top_pairs[pile] = b, index
    chain = []
    index = top_pairs[-1] if top_pairs else -1
    while index >= 0:
        chain.append(pairs[index])
        index = below[index]
    return chain[::-1]


def _joined(found: list[Match]) -> list[Match]:
    joined: list[Match] = []
    for match in found:
        if joined and joined[-1].a + joined[-1].size == match.a and joined[-1].b + joined[-1].size == match.b:
            joined[-1] = Match(joined[-1].a, joined[-1].b, joined[-1].size + match.size)
        else:
            joined.append(match)
    return joined
