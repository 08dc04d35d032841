"""How often a worker of an engine is started anew."""

from __future__ import annotations

import time
from typing import Final

REVIVED_MAX: Final = 5
"""A worker that was started anew so often in a row, each time recorded nothing …"""
REVIVED_FOR_S: Final = 60.0
"""… and ran no longer than this is given up. An effect that takes it down is tried less often."""

LOOKED_AFTER_S: Final = 30.0
"""So often at most what is recorded looks whether a worker that ended is to be started anew."""


class Revived:
    """Counts how often in a row a worker was started anew, recorded nothing, and ended soon."""

    def __init__(self) -> None:
        self._head = -1
        self._count = 0
        self._at = 0.0

    def once_more(self, head: int) -> bool:
        """Says whether to start one once more, at this head of the log."""
        now = time.monotonic()
        if head != self._head or now - self._at > REVIVED_FOR_S:
            self._count = 0
        self._head, self._at = head, now
        self._count += 1
        return self._count <= REVIVED_MAX
