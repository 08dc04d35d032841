"""Another policy, as a user names it: ``drift.threshold=0.6``, keys as in ``[policy]`` of ``instar.toml``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from instar.engine.settings import Settings, check_bounds, listed
from instar.fsm.errors import ConfigError
from instar.fsm.policy import Policy


class Overrides:
    """The keys of a policy that are set otherwise.

    Args:
        given: by dotted name; a list as a list, or as text with commas.

    Raises:
        ConfigError: a key is not known, or a value cannot stand there.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not given:
            raise ConfigError(f"give what should be otherwise, KEY=VALUE. {_known()}")
        self.given = dict(given)
        self.on(Policy())

    def on(self, policy: Policy) -> Policy:
        """Gives a policy with these keys set."""
        content = msgspec.to_builtins(policy)
        for key, value in self.given.items():
            _put(content, key, value)
        try:
            other = msgspec.convert(content, Policy, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"this policy cannot be: {error}. {_known()}") from error
        check_bounds(Settings(policy=other))
        return other

    def values(self, policy: Policy) -> dict[str, Any]:
        """Gives what a policy has under these keys."""
        flat = dict(_flat(msgspec.to_builtins(policy)))
        return {key: flat[key] for key in self.given}


def parse(arguments: Iterable[str]) -> dict[str, str]:
    """Reads ``KEY=VALUE`` pairs, one or several in each argument, separated by blanks.

    Raises:
        ConfigError: one is no pair, or a key is given twice.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        for pair in _split(argument):
            key, sign, value = pair.partition("=")
            if not sign or not key:
                raise ConfigError(f"{pair!r} is no KEY=VALUE. {_known()}")
            if key in found:
                raise ConfigError(f"{key} is given twice")
            found[key] = value
    return found


def _split(argument: str) -> list[str]:
    """Splits an argument at its blanks; a JSON list has blanks and quotes of its own."""
    if argument.partition("=")[2].startswith("["):
        return [argument]
    try:
        return shlex.split(argument)
    except ValueError as error:
        raise ConfigError(f"{argument!r} cannot be read: {error}") from error


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    known = dict(_flat(content))
    if key not in known:
        raise ConfigError(f"the policy has no {key!r}. {_known()}")
    *tables, name = key.split(".")
    for table in tables:
        content = content[table]
    if isinstance(known[key], list | tuple) and isinstance(value, str):
        value = listed(value)
    content[name] = value


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _known() -> str:
    return f"Known keys: {', '.join(name for name, _ in _flat(msgspec.to_builtins(Policy())))}."
