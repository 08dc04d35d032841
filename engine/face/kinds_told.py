"""Which kinds of arguments a method says that it takes: another one is refused before anything is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import chain
from numbers import Integral, Real
from typing import Any, Final

from instar.fsm.errors import InputRefused

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "None": (type(None),),
    "str": (str,),
    "int": (int, Integral),
    "float": (float, Real),
    "Path": (os.PathLike,),
    "datetime": (datetime,),
    "Iterable": (Iterable,),
    "Sequence": (Iterable,),
    "Collection": (Iterable,),
    "tuple": (tuple,),
    "Mapping": (Mapping,),
}
"""By name; of what is read once, such as names to filter by, any iterable does."""

_ELSEWHERE: Final = frozenset({"text", "k", "rows"})
"""Looked at, with more words, where they are used: others than ``Engine`` give them too."""


class KindsTold:
    """The kinds of the arguments of one method, by its annotations; those of other types are not looked at.

    Args:
        name: the method's, as an error tells it.
        method: it, whose annotations are texts.
    """

    def __init__(self, name: str, method: Callable[..., Any]) -> None:
        self._name = name
        self._names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
        self._told: dict[str, tuple[tuple[type, ...], str]] = {}
        for argument, annotation in method.__annotations__.items():
            parts = [part.partition("[")[0] for part in annotation.split(" | ")]
            if argument in _arguments(method) - _ELSEWHERE and all(part in _KINDS for part in parts):
                self._told[argument] = tuple(chain.from_iterable(_KINDS[part] for part in parts)), annotation

    def check(self, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Makes sure that each argument is of a kind that is told.

        Raises:
            InputRefused: one is not.
        """
        for argument, value in chain(zip(self._names, given, strict=False), named.items()):
            told = self._told.get(argument)
            if told is not None and not isinstance(value, told[0]):
                raise InputRefused(
                    f"{self._name}: {argument} is of the type {type(value).__name__}, and has to be {told[1]}. "
                    "Nothing was done."
                )


def _arguments(method: Callable[..., Any]) -> set[str]:
    """Names the arguments that are not gathered by a ``**``, whose annotation is that of each of them."""
    code = method.__code__
    return set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
