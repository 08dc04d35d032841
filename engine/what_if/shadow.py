"""The state as it would stand under another policy: the recorded one, with what the policy decides worked out again."""

from __future__ import annotations

from typing import Literal

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from instar.fsm.policy import Policy
from instar.fsm.rewards import Standings
from instar.fsm.state import AgentState, CheckpointProbation, Probation
from instar.fsm.words import Digest, Seq

from .overrides import Overrides


class Shadow(Struct, kw_only=True):
    """What would stand otherwise.

    Facts that only a run could tell (another data set, another checkpoint) stay as they were recorded; a retrain that
    would have begun counts as begun and as learned.
    """

    standings: Standings = Map()
    judged: tuple[str, ...] = ()
    retrains_at_us: tuple[int, ...] = ()
    trained: Digest | None = None
    trained_rows: int = 0
    failures: int = 0
    monitored: dict[Seq, bool] = {}
    """Changes that would have been monitored, or not, other than recorded."""
    void: Literal["", "learning", "all"] = ""
    """What of the cycle in progress would not have been: its retrain, or all that is still to come."""
    refused: bool = False
    """The mutation in progress would not have been tried."""
    mutation_probations: tuple[Probation, ...] = ()
    checkpoint_probations: tuple[CheckpointProbation, ...] = ()


class Other:
    """Gives the state in which the other policy decides."""

    def __init__(self, overrides: Overrides) -> None:
        self._overrides = overrides
        self._last: tuple[Policy, Policy] | None = None

    def policy(self, recorded: Policy) -> Policy:
        """Gives the recorded policy with what is set otherwise."""
        if self._last is None or self._last[0] is not recorded:
            self._last = (recorded, self._overrides.on(recorded))
        return self._last[1]

    def state(self, before: AgentState, shadow: Shadow) -> AgentState:
        """Gives the recorded state with the other policy, and with what that one would have made of the facts."""
        return replace(
            before,
            policy=self.policy(before.policy),
            standings=shadow.standings,
            judged=shadow.judged,
            retrains_at_us=shadow.retrains_at_us,
            trained=shadow.trained,
            trained_rows=shadow.trained_rows,
            failures=shadow.failures,
        )
