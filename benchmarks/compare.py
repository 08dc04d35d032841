"""Runs two or more ways of doing the same work in turns, and compares their medians."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"

Work = Callable[[], int | None]
"""Does the work once; may return how many items it did, else it counts as one."""


def compare(name: str, ways: Mapping[str, Work], *, rounds: int = 5, unit: str = "items/s") -> dict[str, float]:
    """Times each way once a round, in turns; gives the median rate of each.

    The machine's noise then falls on all ways alike. Trust the ratios, not the rates.
    """
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            started = time.perf_counter()
            count = work() or 1
            rates[way].append(count / (time.perf_counter() - started))
    medians = {way: statistics.median(values) for way, values in rates.items()}
    _print(name, medians, unit)
    _write(name, rates, medians, unit)
    return medians


def compare_seconds(name: str, ways: Mapping[str, Callable[[], float]], *, rounds: int = 5) -> dict[str, float]:
    """Runs each way once a round, in turns; gives the median of the seconds that each says it took.

    For work that needs preparing each time: each way times what counts, and no more.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            seconds[way].append(work())
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    base = list(medians.values())[-1]
    table = Table(title=name, title_justify="left")
    table.add_column("way")
    table.add_column("median ms", justify="right")
    table.add_column("time against the last", justify="right")
    for way, median in medians.items():
        table.add_row(way, f"{median * 1000:,.2f}", f"{median / base:.3f} ×")
    Console().print(table)
    content = {
        "benchmark": name,
        "unit": "s",
        "python": platform.python_version(),
        "seconds": seconds,
        "medians": medians,
        "ratios": {way: median / base for way, median in medians.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    _path(name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return medians


def _path(name: str) -> Path:
    return RESULTS / f"{name.replace(' ', '_').replace(',', '')}.json"


def _print(name: str, medians: dict[str, float], unit: str) -> None:
    table = Table(title=name, title_justify="left")
    table.add_column("way")
    table.add_column(f"median {unit}", justify="right")
    table.add_column("against the last", justify="right")
    base = list(medians.values())[-1]
    for way, median in medians.items():
        table.add_row(way, f"{median:,.1f}", f"{median / base:.2f} ×")
    Console().print(table)


def _write(name: str, rates: dict[str, list[float]], medians: dict[str, float], unit: str) -> None:
    base = list(medians.values())[-1]
    content: dict[str, Any] = {
        "benchmark": name,
        "unit": unit,
        "python": platform.python_version(),
        "rates": rates,
        "medians": medians,
        "ratios": {way: median / base for way, median in medians.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    _path(name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
