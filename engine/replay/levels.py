"""How deep a replay looks; each level includes those before it."""

from __future__ import annotations

from enum import StrEnum

from instar.fsm.errors import ConfigError


class Level(StrEnum):
    """What a replay compares."""

    CHAIN = "chain"
    """Each row's place, time, hashes and link to the row before it."""
    DECODE = "decode"
    """Each payload has the shape of its type and version."""
    TRANSITIONS = "transitions"
    """The machine accepts each event; the states before and after it, and its cycle."""
    DIGESTS = "digests"
    """The digest of the whole state at every 64th event."""
    DECISIONS = "decisions"
    """Each decision taken again from the recorded facts, compared byte for byte."""
    EFFECTS = "effects"
    """The deterministic effects run again from their recorded inputs, in a scratch folder."""

    @property
    def rank(self) -> int:
        """Its place in the order."""
        return list(Level).index(self)

    def includes(self, other: Level) -> bool:
        """Says whether this level compares what the other one does."""
        return self.rank >= other.rank


def level_of(name: str) -> Level:
    """Reads a level.

    Raises:
        ConfigError: there is none of that name.
    """
    try:
        return Level(name)
    except ValueError:
        raise ConfigError(f"there is no level {name!r}; there are {', '.join(Level)}") from None
