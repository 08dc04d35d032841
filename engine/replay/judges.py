"""Finds a reward model or a planner by the name that the log knows it by."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from instar.engine.extensions import BUILTIN, Planner, RewardModel, load_extension
from instar.engine.planner_agent import BuiltinPlanner
from instar.engine.reward_model import BuiltinRewardModel
from instar.fsm.errors import ConfigError


class Judges:
    """The built-in ones, and those that a package installed here offers under the recorded name.

    What the workspace itself names as ``module:attribute`` is not loaded: it is the agent's own code, and a replay runs
    none of that.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Any] = {}

    def reward_model(self, name: str) -> RewardModel | None:
        """Gives the reward model of a name; None if it is not installed here."""
        if name == BUILTIN:
            return BuiltinRewardModel()
        found: RewardModel | None = self._installed("instar.reward_models", name)
        return found

    def planner(self, name: str) -> Planner | None:
        """Gives the planner of a name; None if it is not installed here."""
        if name == BUILTIN:
            return BuiltinPlanner()
        found: Planner | None = self._installed("instar.planners", name)
        return found

    def _installed(self, group: str, name: str) -> Any:
        if (group, name) not in self._found:
            self._found[group, name] = self._load(group, name)
        return self._found[group, name]

    @staticmethod
    def _load(group: str, name: str) -> Any:
        if not any(point.name == name for point in entry_points(group=group)):
            return None
        try:
            made = load_extension(group, name)
        except ConfigError:
            return None
        return made if made.name == name else None
