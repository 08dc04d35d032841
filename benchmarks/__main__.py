"""``make bench``: every side-by-side run, or those that are named; ``log`` names all runs of the event log."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from . import append, processes, replaying, start, threads, tree
from .goals import Row, summarize

LOG: dict[str, Callable[[int], list[Row]]] = {
    "append": lambda _events: append.main(),
    "threads": lambda _events: threads.main(),
    "processes": lambda _events: processes.main(),
    "replaying": replaying.main,
}
"""The runs of the event log: each gives rows of the table of goals."""

OTHERS: dict[str, Callable[[], None]] = {"start": start.main, "tree": tree.main}


def main() -> int:
    """Runs the named benchmarks, all of them by default, then prints the table of goals of the log's runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"log, {', '.join([*LOG, *OTHERS])}; default all")
    parser.add_argument("--events", type=int, default=replaying.EVENTS, help="length of the log that is replayed")
    asked = parser.parse_args()
    names = [name for given in asked.names or ["log", *OTHERS] for name in (LOG if given == "log" else [given])]
    unknown = [name for name in names if name not in LOG and name not in OTHERS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are log, {', '.join([*LOG, *OTHERS])}")
    rows: list[Row] = []
    for name in dict.fromkeys(names):
        if name in LOG:
            rows += LOG[name](asked.events)
        else:
            OTHERS[name]()
    if rows:
        summarize(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
