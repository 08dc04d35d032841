"""How a payload of an older version gets the shape of the next one: when it is read; nothing is rewritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def _environment_unknown(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 of what effects computed says where it was computed; of an older outcome that is not known."""
    content.setdefault("environment", None)
    return content


UPCASTERS: dict[tuple[str, int], Upcaster] = {
    (kind, 1): _environment_unknown
    for kind in ("DiffComputed", "SignalEmbedded", "DatasetGenerated", "CheckpointTrained", "MemoryReembedded")
}
"""From ``(type, version)`` to a function that gives the payload in the shape of ``version + 1``."""
