"""Exceptions of a signal's handler, at each place where CPython lets one run."""

from __future__ import annotations

import dis
import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

_CHECKED = ("CALL", "RESUME", "JUMP_BACKWARD")
"""After these instructions CPython lets a signal's handler run."""


def interrupted_at(
    nth: int, files: set[str], work: Callable[[], object], error: type[BaseException] = KeyboardInterrupt
) -> bool:
    """Raises an exception at the nth place of some files at which a handler may run; says if there is one.

    Nothing is collected meanwhile: the interruption would fall into how an object of an earlier test ends.
    """
    count = 0

    def trace(begun: FrameType, event: str, _: object) -> Any:
        if begun.f_code.co_filename not in files:
            return None
        begun.f_trace_opcodes = True
        last = ""

        def inside(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count, last
            if event == "opcode":
                before, last = last, dis.opname[frame.f_code.co_code[frame.f_lasti]]
                if before.startswith(_CHECKED):
                    count += 1
                    if count == nth:
                        raise error
            return inside

        return inside

    collects = gc.isenabled()
    gc.disable()
    sys.settrace(trace)
    try:
        work()
    except error:
        return True
    finally:
        sys.settrace(None)
        if collects:
            gc.enable()
    return count >= nth
