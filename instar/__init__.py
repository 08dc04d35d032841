"""Instar: an event-sourced state machine engine for agents that change themselves.

>>> import instar
>>> instar.held_out("json"), instar.held_out("json", share=1.0)
(True, True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instar.engine.facade import Engine
    from instar.engine.face.learning import Checkpoint
    from instar.engine.settings import Settings
    from instar.engine.status import Status
    from instar.fsm import events
    from instar.fsm.errors import InstarError
    from instar.fsm.policy import Policy
    from instar.fsm.words import State, held_out

__all__ = ["Checkpoint", "Engine", "InstarError", "Policy", "Settings", "State", "Status", "events", "held_out"]

_HOMES = {
    "Checkpoint": "instar.engine.face.learning",
    "Engine": "instar.engine.facade",
    "Settings": "instar.engine.settings",
    "Status": "instar.engine.status",
    "InstarError": "instar.fsm.errors",
    "Policy": "instar.fsm.policy",
    "State": "instar.fsm.words",
    "events": "instar.fsm.events",
    "held_out": "instar.fsm.words",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that ``import instar`` costs next to nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'instar' has no attribute {name!r}")
    from importlib import import_module

    value = import_module(home) if home.endswith(f".{name}") else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
