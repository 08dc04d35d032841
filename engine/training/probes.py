"""Configured abilities that a training must leave as they are: pairs in a file of one's own.

One JSON object a line: ``{"input": …, "output": …}``, with ``"ability": …`` where the file holds several. An input must
find its output among all outputs of its ability, before a training and after it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from instar.engine.ports import Pair
from instar.fsm.errors import ConfigError

_NAMED_BY_US = {"own", "remembered", "general", "ranked"}


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    input: str
    output: str
    ability: str = "probes"


_DECODER = msgspec.json.Decoder(_Line)


def probe_file(root: Path, name: str) -> bytes | None:
    """Reads the file of probes of a workspace, if one is configured.

    Args:
        root: of the workspace.
        name: of the file, relative to it; empty for none.

    Raises:
        ConfigError: it cannot be read, holds no pair, or a line of it is none.
    """
    if not name:
        return None
    try:
        content = (root / name).read_bytes()
    except OSError as error:
        raise ConfigError(f"training.probes names {name}, which cannot be read: {error}") from error
    if not parse_probes(content, name):
        raise ConfigError(f"training.probes names {name}, which holds no pair: it would guard nothing")
    return content


def parse_probes(content: bytes, name: str) -> dict[str, list[Pair]]:
    """Reads the pairs of each ability.

    Args:
        content: of the file.
        name: of the file, for errors.

    Raises:
        ConfigError: a line is no such object, or names an ability that Instar measures itself.
    """
    found: dict[str, list[Pair]] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f'line {number} of {name} is no {{"input": …, "output": …, "ability": …}}: {error}'
            ) from error
        if row.ability in _NAMED_BY_US or not row.ability:
            raise ConfigError(
                f"line {number} of {name}: an ability cannot be called {row.ability!r}, choose another name"
            )
        found.setdefault(row.ability, []).append(Pair(row.input, row.output))
    return found
