"""Instar: an event-sourced state machine engine for agents that change themselves.

>>> import instar
>>> instar.held_out("json"), instar.held_out("json", share=1.0)
(True, True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchor
    from instar.engine.bundles.bundle import Exported
    from instar.engine.differences.state_diff import StateDiff
    from instar.engine.facade import Engine
    from instar.engine.face.learning import Checkpoint
    from instar.engine.keeping.housekeeping import Kept, Swept
    from instar.engine.memory.answers import Answer
    from instar.engine.memory.search import Found
    from instar.engine.provenance.taint import Taint
    from instar.engine.provenance.why import Why
    from instar.engine.replay import Replayed
    from instar.engine.restoring.restore_path import Copied
    from instar.engine.restoring.rollback import RollbackPlan, RolledBack
    from instar.engine.settings import Settings
    from instar.engine.shell_executor import Captured
    from instar.engine.status import Status
    from instar.engine.tool_executor import Executed
    from instar.engine.trees.path_versions import Version
    from instar.engine.what_if import WhatIf
    from instar.fsm import errors, events
    from instar.fsm.errors import InstarError
    from instar.fsm.policy import Policy
    from instar.fsm.record import Recorded
    from instar.fsm.words import State, held_out
    from instar.store.follow import Follower

__all__ = [
    "Anchor",
    "Answer",
    "Captured",
    "Checkpoint",
    "Copied",
    "Engine",
    "Executed",
    "Exported",
    "Follower",
    "Found",
    "InstarError",
    "Kept",
    "Policy",
    "Recorded",
    "Replayed",
    "RollbackPlan",
    "RolledBack",
    "Settings",
    "State",
    "StateDiff",
    "Status",
    "Swept",
    "Taint",
    "Version",
    "WhatIf",
    "Why",
    "errors",
    "events",
    "held_out",
]

_HOMES = {
    "Anchor": "instar.engine.bundles.anchor",
    "Answer": "instar.engine.memory.answers",
    "Captured": "instar.engine.shell_executor",
    "Checkpoint": "instar.engine.face.learning",
    "Copied": "instar.engine.restoring.restore_path",
    "Engine": "instar.engine.facade",
    "Executed": "instar.engine.tool_executor",
    "Exported": "instar.engine.bundles.bundle",
    "Follower": "instar.store.follow",
    "Found": "instar.engine.memory.search",
    "InstarError": "instar.fsm.errors",
    "Kept": "instar.engine.keeping.housekeeping",
    "Policy": "instar.fsm.policy",
    "Recorded": "instar.fsm.record",
    "Replayed": "instar.engine.replay",
    "RollbackPlan": "instar.engine.restoring.rollback",
    "RolledBack": "instar.engine.restoring.rollback",
    "Settings": "instar.engine.settings",
    "State": "instar.fsm.words",
    "StateDiff": "instar.engine.differences.state_diff",
    "Status": "instar.engine.status",
    "Swept": "instar.engine.keeping.housekeeping",
    "Taint": "instar.engine.provenance.taint",
    "Version": "instar.engine.trees.path_versions",
    "WhatIf": "instar.engine.what_if",
    "Why": "instar.engine.provenance.why",
    "errors": "instar.fsm.errors",
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
