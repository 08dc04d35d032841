"""``make bench``: every side-by-side run, or those that are named, alone or by group (``log``, ``trees`` …).

A run gives rows of the table of goals, which is printed at the end. Each is imported when it is run, so that one which
lacks a package does not keep the others from running.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from .goals import Row, summarize

GROUPS: dict[str, tuple[str, ...]] = {
    "log": ("append", "threads", "processes", "replaying"),
    "trees": ("tree_capture", "tree_restore", "tree_space", "tree_peers"),
    "learning": ("embedding", "searching", "drift", "retraining"),
    "start": ("start",),
}
EVENTS = 1_000_000


def main() -> int:
    """Runs the named benchmarks, all of them by default, then prints the table of goals."""
    every = [name for names in GROUPS.values() for name in names]
    known = ", ".join([*GROUPS, *(name for name in every if name not in GROUPS)])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{known}; default all")
    parser.add_argument("--events", type=int, default=EVENTS, help="length of the log that is replayed")
    asked = parser.parse_args()
    names = [name for given in asked.names or GROUPS for name in GROUPS.get(given, (given,))]
    unknown = [name for name in names if name not in every]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {known}")
    rows: list[Row] = []
    for name in dict.fromkeys(names):
        run = import_module(f"benchmarks.{name}").main
        rows += (run(asked.events) if name == "replaying" else run()) or []
    if rows:
        summarize(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
