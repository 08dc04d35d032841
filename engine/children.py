"""Lets a process of ours know how the programs end that it starts."""

from __future__ import annotations

import signal
from contextlib import suppress


def wait_for_own() -> None:
    """Lets a process of ours know how its children end, though whoever started it ignores SIGCHLD: it inherits that."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        with suppress(ValueError):  # not the main thread: it is another program's process, and its own to say
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
