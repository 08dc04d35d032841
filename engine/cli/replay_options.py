"""Which options of ``instar replay`` go together: decided in this one place, so that none is passed over."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from instar.fsm.errors import ConfigError


class Mode(StrEnum):
    """What a replay is asked to do, by the option that asks for it."""

    VERIFY = "--verify"
    """Compare rows with the fold; the default. At level effects it runs them again too."""
    FOLD = "--no-verify"
    REEXECUTE = "--reexecute"
    WHAT_IF = "--what-if"
    DIFF = "--diff"


ALLOWED: dict[Mode, tuple[str, ...]] = {
    Mode.VERIFY: ("--level", "--from", "--to", "--anchor", "--jobs"),
    Mode.FOLD: ("--to", "--anchor"),
    Mode.REEXECUTE: ("--from", "--to", "--anchor"),
    Mode.WHAT_IF: ("--to", "--anchor"),
    Mode.DIFF: ("--anchor",),
}
"""What may be given with each mode; all else is refused."""

WHY: dict[Mode, str] = {
    Mode.VERIFY: "compares rows with the fold",
    Mode.FOLD: "folds from the first event, alone, and compares nothing",
    Mode.REEXECUTE: "runs effects again and compares no row (`--level effects` does both)",
    Mode.WHAT_IF: "decides from the first event on and compares no row",
    Mode.DIFF: "compares the states at its own two references",
}


def mode_of(given: Collection[str]) -> Mode:
    """Reads what is asked for, and makes sure that every option has a say in it.

    Args:
        given: the options that were given, by name; without those that go with everything.

    Raises:
        ConfigError: two things are asked for at once, or an option would change nothing.
    """
    asked = [mode for mode in Mode if mode in given]
    if len(asked) > 1:
        raise ConfigError(f"{_listed(asked)} ask for different things: give one of them. Each runs alone.")
    mode = asked[0] if asked else Mode.VERIFY
    idle = sorted(set(given) - {mode, *ALLOWED[mode]})
    if idle:
        raise ConfigError(
            f"{mode} {WHY[mode]}, so {_listed(idle)} would change nothing: leave {_listed(idle)} out. "
            f"With {mode} {'go' if len(ALLOWED[mode]) > 1 else 'goes'} {_listed(ALLOWED[mode])}."
        )
    return mode


def _listed(names: Collection[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
