"""Exceptions of a signal's handler, at each place where CPython lets one run."""

from __future__ import annotations

import dis
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType, FrameType, FunctionType
from typing import Any

_CHECKED = ("CALL", "RESUME", "JUMP_BACKWARD")
"""After these instructions CPython lets a signal's handler run."""

Begun = Callable[[FrameType, int], None]
"""Told of each instruction before it runs: its frame, and where in the code it stands."""


def interrupted_at(
    nth: int, files: set[str], work: Callable[[], object], error: type[BaseException] = KeyboardInterrupt
) -> bool:
    """Raises an exception at the nth place of some files at which a handler may run; says if there is one.

    Nothing is collected meanwhile: the interruption would fall into how an object of an earlier test ends.
    """
    count = 0
    before: dict[int, str] = {}
    """By frame: the instruction that ran last."""

    def begun(frame: FrameType, place: int) -> None:
        nonlocal count
        last = before.get(id(frame), "") if place else ""
        before[id(frame)] = dis.opname[frame.f_code.co_code[place]]
        if last.startswith(_CHECKED):
            count += 1
            if count == nth:
                raise error

    collects = gc.isenabled()
    gc.disable()
    try:
        with _traced(files, begun) if sys.version_info < (3, 12) else _monitored(files, begun):
            work()
    except error:
        return True
    finally:
        if collects:
            gc.enable()
    return count >= nth


@contextmanager
def _traced(files: set[str], begun: Begun) -> Iterator[None]:
    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True

        def inside(frame: FrameType, event: str, _: object) -> Any:
            if event == "opcode":
                begun(frame, frame.f_lasti)
            return inside

        return inside

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@contextmanager
def _monitored(files: set[str], begun: Begun) -> Iterator[None]:
    """Does the same from Python 3.12 on, where a trace misses instructions of what runs for the first time."""
    if sys.version_info < (3, 12):
        raise AssertionError("there a trace sees all")
    watch, tool = sys.monitoring, sys.monitoring.DEBUGGER_ID
    codes = [code for file in files for code in _codes_of(file)]
    watch.use_tool_id(tool, "interruptions")
    watch.register_callback(tool, watch.events.INSTRUCTION, lambda _, place: begun(sys._getframe(1), place))
    for code in codes:
        watch.set_local_events(tool, code, watch.events.INSTRUCTION)
    try:
        yield
    finally:
        for code in codes:
            watch.set_local_events(tool, code, 0)
        watch.register_callback(tool, watch.events.INSTRUCTION, None)
        watch.free_tool_id(tool)


@cache
def _codes_of(file: str) -> list[CodeType]:
    """Gives the code of all functions of a file that are there, and of those within them."""
    functions = (one for one in gc.get_objects() if type(one) is FunctionType)
    waiting = [one.__code__ for one in functions if one.__code__.co_filename == file]
    found: list[CodeType] = []
    while waiting:
        code = waiting.pop()
        found.append(code)
        waiting += (one for one in code.co_consts if isinstance(one, CodeType))
    return list(dict.fromkeys(found))
