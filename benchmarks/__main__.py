"""``make bench``: every side-by-side run, or those that are named."""

from __future__ import annotations

import sys

from . import log, start, tree

ALL = {"log": log.main, "start": start.main, "tree": tree.main}


def main() -> int:
    """Runs the named benchmarks; all of them by default."""
    names = sys.argv[1:] or list(ALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    for name in names:
        ALL[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
