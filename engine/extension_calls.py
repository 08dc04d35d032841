"""Asks what others wrote: whatever it raises, and whatever it gives that is no answer, is told as its failure.

An extension runs in the process of whoever asks it, a worker or an auditor. It may raise anything, also what is no
``Exception`` (``asyncio.CancelledError``), and an error whose own text is no UTF-8 or cannot be had. It may also never
answer: no question has a time limit, since nothing ends a thread of another's code, but who waits is told for whom.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

from instar.fsm.errors import ConfigError, EffectFailedError, EffectSuspended, ExtensionFailed
from instar.store.long_waits import told_after

from .shell_executor import Terminated

ERROR_CHARS_MAX: Final = 2000
NAME_CHARS_MAX: Final = 200
LONG_S: Final = 60.0
"""An extension that has not answered after so many seconds is told of, once a question."""
_BUILTIN: Final = "builtin"

T = TypeVar("T")


def asked(who: str, call: Callable[[], T], *, long_s: float | None = None) -> T:
    """Calls an extension; a warning says so where its answer takes long.

    Args:
        who: what it is and how it is called, such as "the planner acme".
        call: the question.
        long_s: after how many seconds; ``LONG_S`` by default.

    Raises:
        ExtensionFailed: it raised something, or would have ended the process.
        EffectFailedError: it said so itself.
        EffectSuspended: it was told to end.
    """
    after_s = LONG_S if long_s is None else long_s
    try:
        with told_after(after_s, lambda: _silent(who, after_s)):
            return call()
    except (EffectFailedError, EffectSuspended, KeyboardInterrupt, Terminated):
        raise
    except SystemExit as error:
        raise ExtensionFailed(
            f"{who} called sys.exit({error.code!r:.80}): have it raise an error that says why, or do without it."
        ) from error
    except BaseException as error:
        raise ExtensionFailed(f"{who} failed: {error_text(error)}") from error


def _silent(who: str, long_s: float) -> str:
    return (
        f"{who} was asked {long_s:g} s ago, and has not answered: it works on something large, or hangs, which nothing "
        f"ends by itself. Where it hangs, end this process ({os.getpid()}): nothing is lost, what is owed stays owed"
    )


def error_text(error: BaseException) -> str:
    """Gives the class and the text of any error, as what UTF-8 can hold, and no longer than it helps."""
    try:
        text = str(error)
    except Exception as another:  # even its text is code of others
        text = f"(its text cannot be had: {type(another).__name__})"
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return recordable(told if len(told) <= ERROR_CHARS_MAX else f"{told[:ERROR_CHARS_MAX]}…")


def recordable(text: str) -> str:
    r"""Gives a text as what UTF-8 can hold: half a character in it is written as its escape.

    >>> recordable("caf\u00e9 \udc80")
    'café \\udc80'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def name_of(group: str, given: str, extension: object) -> str:
    """Gives the name by which the log is going to know an extension.

    Args:
        group: the group of entry points.
        given: how the settings call it.
        extension: what was made.

    Raises:
        ConfigError: it is none that the log could tell from others.
    """
    try:
        name = asked(f"the name of {given}", lambda: getattr(extension, "name", None))
    except EffectFailedError as error:
        raise ConfigError(f"{group}: {error}") from error
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= NAME_CHARS_MAX:
        raise ConfigError(
            f"{group}: {given} calls itself {name!a:.100}: a name is 1 to {NAME_CHARS_MAX} printable characters"
        )
    if name == _BUILTIN:
        raise ConfigError(
            f"{group}: {given} calls itself {_BUILTIN!r}, and the log could not tell it from what is built in: give "
            "it a name of its own"
        )
    return name
