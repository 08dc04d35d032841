"""Finds a reward model or a planner by the name that the log knows it by."""

from __future__ import annotations

from textwrap import shorten
from typing import Any, Final

from instar.engine.extensions import BUILTIN, Planner, RewardModel, claims_of, load_extension, package_of
from instar.engine.planner_agent import STEPS_MAX, BuiltinPlanner
from instar.engine.reward_model import BuiltinRewardModel
from instar.fsm.errors import ConfigError, EffectFailedError

REWARD_MODELS: Final = "instar.reward_models"
PLANNERS: Final = "instar.planners"
_KINDS: Final = {REWARD_MODELS: "reward model", PLANNERS: "planner"}
_REASON_CHARS: Final = 200


class Judges:
    """The built-in ones, and those that a package installed here offers under the recorded name.

    What the workspace itself names as ``module:attribute`` is not loaded: it is the agent's own code, and a replay runs
    none of that.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Any] = {}
        self._reasons: dict[tuple[str, str], str] = {}

    def reward_model(self, name: str) -> RewardModel | None:
        """Gives the reward model of a name; None if it cannot be asked here, as ``reason`` says."""
        if name == BUILTIN:
            return BuiltinRewardModel()
        found: RewardModel | None = self._installed(REWARD_MODELS, name)
        return found

    def planner(self, name: str, steps: int = 0) -> Planner | None:
        """Gives the planner of a name; None if it cannot be asked here, as ``reason`` says.

        Args:
            name: as it is recorded.
            steps: how many steps its recorded plan has, which tells an earlier version of ours from the present one.
        """
        if name == BUILTIN:
            return BuiltinPlanner() if steps <= STEPS_MAX else BuiltinPlanner(steps_max=None)
        found: Planner | None = self._installed(PLANNERS, name)
        return found

    def reason(self, group: str, name: str) -> str:
        """Says why one of a name decides nothing here."""
        who = f"{_KINDS[group]} {shorten(repr(name), 80)}"
        return f"{who} {self._reasons.get((group, name), 'is not installed here')}"

    def failed(self, group: str, name: str, error: EffectFailedError) -> str:
        """Notes that one of a name failed when it was asked; says so in the words of its first failure."""
        self._reasons.setdefault((group, name), f"fails here, first by this: {shorten(str(error), _REASON_CHARS)}")
        return self.reason(group, name)

    @staticmethod
    def explained(group: str, name: str) -> str:
        """Says what else than a forger explains an answer that differs from the recorded one; empty for ours."""
        if name == BUILTIN:
            return ""
        package = package_of(group, name) or "a package"
        return (
            f"That is what the {_KINDS[group]} {name!r} of {package}, installed here, says now: so would another "
            "version of it, or one that does not always say the same. "
        )

    def _installed(self, group: str, name: str) -> Any:
        if (group, name) not in self._found:
            self._found[group, name] = self._load(group, name)
        return self._found[group, name]

    def _load(self, group: str, name: str) -> Any:
        if not claims_of(group, name):
            return None
        try:
            made = load_extension(group, name)
        except ConfigError as error:
            self._reasons[group, name] = f"cannot be asked here: {shorten(str(error), _REASON_CHARS)}"
            return None
        if made.name != name:
            self._reasons[group, name] = f"is installed here, and calls itself {made.name!r}"
            return None
        return made
