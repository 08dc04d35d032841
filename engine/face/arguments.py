"""What an agent hands over, made plain for all of ``Engine`` in one place; what no log can hold is refused there."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from instar.engine.settings import Settings
from instar.fsm.errors import ConfigError, InputRefused, InstarError

from .kinds_told import KindsTold

SHOWN_MAX = 200
"""So many characters of an argument an error repeats."""

C = TypeVar("C")


def plain(value: Any) -> Any:
    """Gives a text as a plain ``str``, also within lists and mappings: ``StrEnum`` and ``numpy.str_`` are recorded so.

    A number of numpy becomes one of Python, too: a database takes its bytes for a text.

    Raises:
        RecursionError: it is nested too deep, or holds itself.
    """
    match value:
        case str():
            return value if type(value) is str else str.__str__(value)
        case dict():
            return {plain(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() if type(value) in {list, tuple}:
            return type(value)(plain(inner) for inner in value)
        case None | int() | float():
            return value
        case Integral():
            return int(value)
        case Real():
            return float(value)
        case _:
            return value


def _all_plain(given: Iterable[Any]) -> tuple[Any, ...]:
    """Makes arguments plain; of a list, the texts alone: rows may be many, and are checked where they are read."""
    return tuple(
        type(each)(plain(inner) if isinstance(inner, str) else inner for inner in each)
        if type(each) in {list, tuple}
        else plain(each)
        for each in given
    )


def takes_plain(part: type[C]) -> type[C]:
    """Has every public method of a part of ``Engine`` take its arguments plain, and refuse what it cannot take."""
    for name, method in list(vars(part).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(part, name, _taking_plain(name, method))
    return part


def _taking_plain(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    told = KindsTold(name, method)

    @wraps(method)
    def taking(self: Any, *given: Any, **named: Any) -> Any:
        try:
            given, named = _all_plain(given), dict(zip(named, _all_plain(named.values()), strict=True))
        except RecursionError:
            raise InputRefused(
                f"{name}: what was given is nested too deep, or holds itself. Nothing was done; give it flat."
            ) from None
        told.check(given, named)
        try:
            return method(self, *given, **named)
        except UnicodeEncodeError as error:
            raise InputRefused(
                f"{name}: {shown(error.object)} holds {error.object[error.start]!a}, half a character, which no UTF-8 "
                'can hold. Nothing was recorded. Decode bytes with errors="replace", and give that.'
            ) from error
        except InstarError as error:
            error.args = tuple(_cut(each, [*given, *named.values()]) for each in error.args)
            raise
        except ValueError as error:
            if "null byte" not in str(error) and "null character" not in str(error):
                raise
            raise InputRefused(f"{name}: a path holds a NUL, which no path can. Leave it out.") from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise InputRefused(f"{name}: a path is longer than this disk can hold. Give a shorter one.") from error
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise InstarError(
                    f"{name}: this process has as many files open as it may ({error}). What was recorded stays "
                    "recorded. Close some, or allow more (`ulimit -n`)."
                ) from error
            raise

    return taking


def shown(text: str) -> str:
    """Gives a text as an error repeats it: quoted, in one line, and not more of it than tells which it is."""
    left = len(text) - SHOWN_MAX
    return ascii(text) if left <= 0 else f"{text[:SHOWN_MAX]!a}… [{left} characters left out]"


def _cut(message: Any, given: list[Any]) -> Any:
    """Gives a message with each long or broken argument that it repeats as ``shown`` has it."""
    if not isinstance(message, str):
        return message
    for each in given:
        inner = (
            [*each, *each.values()] if isinstance(each, Mapping) else each if isinstance(each, list | tuple) else [each]
        )
        for text in inner:
            if isinstance(text, str) and (len(text) > SHOWN_MAX or "\n" in text):
                message = message.replace(repr(text), shown(text)).replace(text, shown(text))
    return message


def agent_root(root: str | Path) -> Path:
    """Gives the whole path of an agent's folder.

    Raises:
        ConfigError: it is no path, or relative where the folder that this process stands in was deleted.
    """
    try:
        return Path(root).resolve()
    except FileNotFoundError as error:
        raise ConfigError(
            f"the folder {root} cannot be found: the one that this process stands in was deleted. "
            "Go to one that is there, or give the whole path."
        ) from error
    except ValueError as error:
        raise ConfigError("the agent's folder has a NUL in its path, which no path can: leave it out") from error
    except TypeError as error:
        raise ConfigError(f"the agent's folder is no path: {error}. Give a str or a Path.") from error


def require_settings(settings: object) -> None:
    """Makes sure that settings are some, or none are given.

    Raises:
        ConfigError: they are something else.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise ConfigError(
            f"the settings are of the type {type(settings).__name__}: give instar.Settings, or leave them to "
            "instar.toml and the environment"
        )
