"""Ending a training that runs in another process: a small file, which the training looks for at each step.

The request is no fact yet: what became of it is, when the training has ended (``EffectFailed`` with ``cancelled``).
"""

from __future__ import annotations

from instar.engine.workspace import Workspace
from instar.fsm.errors import ConfigError, EffectCancelled
from instar.fsm.state import AgentState
from instar.fsm.words import Seq, State

NAME = "cancel-training"


def ask_to_cancel(workspace: Workspace, state: AgentState) -> Seq:
    """Has the training in progress end at its next step, also if its worker was killed; gives the event it answers.

    Raises:
        ConfigError: no training is in progress.
    """
    if state.machine is not State.TRAINING:
        raise ConfigError(f"no training is in progress: the machine is in {state.machine}. `instar status` shows more.")
    staged = workspace.home / f".{NAME}.new"
    staged.write_text(str(state.since), encoding="ascii")
    staged.replace(workspace.home / NAME)
    return state.since


class Cancelling:
    """Looks whether a training is to end.

    Args:
        workspace: where the request lies.
        answers: the event that the training answers: a request for another one does not count.
    """

    def __init__(self, workspace: Workspace, answers: Seq) -> None:
        self._path = workspace.home / NAME
        self._answers = answers

    def check(self, step: int, steps: int) -> None:
        """Ends the training if somebody asked for that.

        Raises:
            EffectCancelled: somebody did.
        """
        try:
            asked = self._path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return
        if asked == str(self._answers):
            raise EffectCancelled(f"cancelled on request after step {step} of {steps}")

    def forget(self) -> None:
        """Removes a request: it was heeded, or came too late."""
        self._path.unlink(missing_ok=True)
