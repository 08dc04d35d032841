"""Four processes that append to one file: behind our lock, against SQLite's busy handler alone.

Each process appends for a fixed time, one event a durable commit. Counted are the events of each process and its
longest call: how fair, how smooth and how fast the queue of writers is.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from instar.store.log import EventLog

from .bare_table import bare_row, insert_bare, open_bare
from .goals import RESULTS, Measure, Row
from .sample_log import feedback, fresh_log

PROCESSES, WINDOW_S, ROUNDS = 4, 5.0, 3
BUSY_S = 60.0
"""How long SQLite's busy handler may wait: long enough that no append fails."""

Append = Callable[[int], object]


class Window(NamedTuple):
    """What one window of appending came to."""

    events_per_s: float
    fastest_to_slowest: float
    stall_ms: float


def main() -> list[Row]:
    """Runs the comparison; gives one row with three measures."""
    ways = {"instar, flock in front": _open_log, "bare sqlite3, busy handler": _open_table}
    found: dict[str, list[Window]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, opens in ways.items():
            with tempfile.TemporaryDirectory() as name:
                found[way].append(_window(opens, Path(name)))
    medians = {
        way: Window(*(statistics.median(values) for values in zip(*windows, strict=True)))
        for way, windows in found.items()
    }
    _show(found, medians)
    ours, theirs = medians.values()
    measures = (
        Measure(ours.fastest_to_slowest, 1.2, at_most=True, what="fastest ÷ slowest"),
        Measure(ours.stall_ms / theirs.stall_ms, 1 / 20, at_most=True, what="longest stall"),
        Measure(ours.events_per_s / theirs.events_per_s, 0.8, what="throughput"),
    )
    return [Row(f"{PROCESSES} processes appending", "SQLite's busy handler without our lock", measures)]


def _window(opens: Callable[[Path], Append], folder: Path) -> Window:
    context = multiprocessing.get_context("spawn")
    if opens is _open_log:
        fresh_log(folder).close()
    else:
        open_bare(folder / "bare.db").close()
    gate, counts = context.Barrier(PROCESSES), context.Queue()
    workers = [context.Process(target=_work, args=(opens, folder, gate, counts)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    found = [counts.get(timeout=WINDOW_S + 120) for _ in workers]
    for worker in workers:
        worker.join()
    numbers = [count for count, _ in found]
    return Window(
        events_per_s=sum(numbers) / WINDOW_S,
        fastest_to_slowest=max(numbers) / max(1, min(numbers)),
        stall_ms=max(stall for _, stall in found) * 1000,
    )


def _work(opens: Callable[[Path], Append], folder: Path, gate: Barrier, counts: Any) -> None:
    """Appends for the window; tells how many events were durable in it, and the longest call that began in it."""
    append = opens(folder)
    append(0)
    gate.wait()
    count, longest, now = 0, 0.0, time.perf_counter()
    end = now + WINDOW_S
    while now < end:
        append(count)
        began, now = now, time.perf_counter()
        longest = max(longest, now - began)
        count += now <= end
    counts.put((count, longest))


def _open_log(folder: Path) -> Append:
    log = EventLog(folder / "log.db")
    return lambda number: log.append(feedback(number))


def _open_table(folder: Path) -> Append:
    table, row = open_bare(folder / "bare.db", busy_s=BUSY_S), bare_row(None, 0)
    return lambda _number: insert_bare(table, [row])


def _show(found: dict[str, list[Window]], medians: dict[str, Window]) -> None:
    title = f"{PROCESSES} processes appending for {WINDOW_S:g} s, median of {ROUNDS}"
    table = Table(title=title, title_justify="left")
    for column in ("way", "events/s", "fastest ÷ slowest", "longest stall, ms"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, one in medians.items():
        table.add_row(way, f"{one.events_per_s:,.0f}", f"{one.fastest_to_slowest:,.2f}", f"{one.stall_ms:,.1f}")
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    content = {way: [one._asdict() for one in windows] for way, windows in found.items()}
    (RESULTS / "processes.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
