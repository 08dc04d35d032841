"""The command ``instar``: its entry, which imports next to nothing, so that Ctrl-C finds it ready from the start."""

from __future__ import annotations

import sys

from . import INTERRUPTED


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; no error reaches the user as a traceback.

    The verbs are imported here: interrupted meanwhile, when there is nothing to say yet, it says nothing.
    """
    try:
        from .app import invoke
    except KeyboardInterrupt:
        return INTERRUPTED
    return invoke(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
