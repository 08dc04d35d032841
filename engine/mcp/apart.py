"""The process in which one call runs that takes long, needs the model or has to be ended.

It reads the call from standard input, and writes the envelope to standard output. When standard input closes before
that, whoever asked is gone or gave up: it ends as by Ctrl-C, and what is owed stays in the log.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
from io import BufferedWriter, RawIOBase
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class Order(Struct, forbid_unknown_fields=True, kw_only=True):
    """One call, as it goes to the process."""

    root: str
    name: str
    arguments: dict[str, Any]
    may_change: bool


def main() -> int:
    """Runs the call; 0 if an envelope was written, 130 if it was ended."""
    asker, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)  # what this starts reads no call …
    os.dup2(2, 1)  # … and what else is printed here is no envelope
    try:
        return _run(asker, answers)
    except KeyboardInterrupt:
        return 130


def _run(asker: RawIOBase, answers: BufferedWriter) -> int:
    from .bounds import as_text
    from .calling import call, read_call

    order = msgspec.json.decode(asker.readline(), type=Order)
    answered = threading.Event()
    threading.Thread(target=_end_with, args=(asker, answered), daemon=True).start()
    tool = read_call(order.name, order.arguments, may_change=order.may_change)
    whole = call(tool, Path(os.fsdecode(order.root)), may_change=order.may_change)
    answered.set()  # whoever asked closes the input when it has the answer
    answers.write(as_text(whole).encode("utf-8", "backslashreplace"))
    answers.close()
    return 0


def _end_with(asker: RawIOBase, answered: threading.Event) -> None:
    while asker.read(1):
        pass
    if not answered.is_set():
        _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(main())
