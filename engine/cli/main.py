"""The command ``instar``: its entry, which imports next to nothing, so that Ctrl-C finds it ready from the start."""

from __future__ import annotations

import io
import os
import sys

from instar.engine.children import wait_for_own

from . import INTERRUPTED


def _open_streams() -> None:
    """Opens what the caller closed (``>&-``) on the null device: what is said there is said to nobody."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 — it stays open
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal of another encoding lacks is escaped, as in messages
        sys.stdout.reconfigure(errors="backslashreplace")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; no error reaches the user as a traceback.

    The verbs are imported here: interrupted meanwhile, when there is nothing to say yet, it says nothing.
    """
    _open_streams()
    wait_for_own()
    try:
        from .app import invoke
    except KeyboardInterrupt:
        return INTERRUPTED
    return invoke(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
