"""What must be reached against peers, and the table that says whether it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


class Measure(NamedTuple):
    """One measured ratio and its goal: at least, or at most."""

    ratio: float
    goal: float
    at_most: bool = False
    what: str = ""
    """What is compared, where a row has more than one measure."""

    @property
    def reached(self) -> bool:
        """Says whether the ratio is on the right side of its goal."""
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


class Row(NamedTuple):
    """One row of the table; without a measure it was skipped, for the reason in ``note``."""

    work: str
    against: str
    measures: tuple[Measure, ...] = ()
    note: str = ""


def absent(*packages: str) -> str:
    """Names the packages that are not installed, as the reason to skip a row; empty if all are there."""
    missing = [package for package in packages if find_spec(package) is None]
    return f"skipped: {', '.join(missing)} is not installed (pip install 'instar[bench]')" if missing else ""


def summarize(rows: Sequence[Row]) -> None:
    """Prints the table of all rows and writes it to ``results/goals.json``."""
    table = Table(title="What must be reached", title_justify="left")
    for column in ("work", "against"):
        table.add_column(column)
    for column in ("ratio", "goal", "reached"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        if row.measures:
            table.add_row(row.work, row.against, *(_lines(row.measures, cell) for cell in (_ratio, _goal, _reached)))
        else:
            table.add_row(row.work, row.against, "–", "–", escape(row.note))
    console = Console()
    if not console.is_terminal:
        console.width = 130
    console.print(table)
    content = [row._asdict() | {"measures": [_asdict(measure) for measure in row.measures]} for row in rows]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "goals.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _asdict(measure: Measure) -> dict[str, object]:
    return {**measure._asdict(), "reached": measure.reached}


def _lines(measures: Sequence[Measure], cell: Callable[[Measure], str]) -> str:
    return "\n".join(map(cell, measures))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _ratio(measure: Measure) -> str:
    return f"{measure.what} {_number(measure.ratio)}".strip()


def _goal(measure: Measure) -> str:
    return f"{'≤' if measure.at_most else '≥'} {measure.goal:g}"


def _reached(measure: Measure) -> str:
    return "[green]PASS[/]" if measure.reached else "[red]short[/]"
