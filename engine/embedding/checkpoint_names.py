"""Names of checkpoints, as people give them: ``active``, ``base``, or the beginning of a digest."""

from __future__ import annotations

from instar.fsm.errors import ConfigError
from instar.fsm.events import CheckpointTrained, ModelAdopted, WorkspaceInitialized
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.reader import LogReader


def checkpoint_called(reader: LogReader, state: AgentState, name: str) -> Digest:
    """Finds a checkpoint of a log.

    Args:
        reader: the log.
        state: its head.
        name: ``active``; ``base``, the first; or the beginning of a digest. ``checkpoint:`` may lead.

    Raises:
        ConfigError: it names none, or several; or the workspace has no model.
    """
    prefix = name.removeprefix("checkpoint:")
    if prefix == "active":
        found = [_active(state)]
    elif prefix and prefix == state.checkpoint:
        return state.checkpoint
    else:
        known: dict[Digest, None] = {}
        for record in reader.read(types=[WorkspaceInitialized, ModelAdopted, CheckpointTrained]):
            checkpoint = getattr(record.event, "checkpoint", None)
            if checkpoint:
                known[checkpoint] = None
        if prefix == "base":
            found = list(known)[:1] or [_active(state)]
        else:
            found = [checkpoint for checkpoint in known if prefix and checkpoint.startswith(prefix)]
    if len(found) != 1:
        what = "no checkpoint is" if not found else f"{len(found)} checkpoints are"
        raise ConfigError(f"{what} called {name!r} in this log. `instar lineage` lists them.")
    return found[0]


def _active(state: AgentState) -> Digest:
    from .models import active_space  # loads more than a name needs

    return active_space(state)
