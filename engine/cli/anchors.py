"""The anchors that a command is given to hold the log to, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchor, Anchored
    from instar.store.reader import LogReader


def given_anchors(given: Sequence[str]) -> list[Anchor]:
    """Reads anchors, each given as its line or as a file of them.

    Raises:
        ConfigError: a line is none, or a file cannot be read.
    """
    from instar.engine.bundles.anchor import FORMAT, parse_anchors
    from instar.fsm.errors import ConfigError

    found: list[Anchor] = []
    for text in given:
        if text.startswith(FORMAT):
            found += parse_anchors(text)
            continue
        try:
            found += parse_anchors(Path(text).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"the anchor {text} cannot be read: {error}") from error
    return found


def held(reader: LogReader, anchors: Sequence[Anchor]) -> list[Anchored]:
    """Checks the log against anchors; reads nothing where there is none.

    Raises:
        AnchorForeign, LogCorrupt, ConfigError: as ``check_anchors``.
    """
    from instar.engine.bundles.anchor import check_anchors

    return check_anchors(reader, anchors) if anchors else []


def anchor_lines(found: Sequence[Anchored]) -> list[str]:
    """Tells of each anchor that the log holds, as one line."""
    return [
        f"  anchored      event {one.anchor.seq}, {one.since} events since; signature {one.signature}" for one in found
    ]
