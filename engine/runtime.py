"""What effects work with: log, files, memory and models of one workspace. Heavy parts load when first used."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from instar.fsm.errors import LogMissing
from instar.fsm.state import AgentState
from instar.store.blobs import BlobStore
from instar.store.clock import Clock
from instar.store.lock import FileLock
from instar.store.log import EventLog
from instar.store.reader import LogReader

from .last_settings import load_for_work
from .one_folder import refuse_copy
from .progress import ProgressFile
from .settings import Settings, with_rules
from .workspace import Workspace

if TYPE_CHECKING:
    from instar.store.memory import VectorMemory

    from .dataset.past import PastShelf
    from .embedding.models import ModelShelf
    from .executor import BuiltinExecutor, ForeignExecutor
    from .extensions import Planner, RewardModel
    from .trees.capture import Capture

logger = logging.getLogger("instar.engine")


class Runtime:
    """One workspace, open for work.

    Args:
        root: the folder of the agent.
        actor: who acts, as recorded in the log.
        settings: read from the workspace and the environment when absent.
        clock: where recorded times come from.
    """

    def __init__(self, root: Path, *, actor: str, settings: Settings | None = None, clock: Clock | None = None) -> None:
        self.settings = with_rules(settings or load_for_work(root, os.environ))
        self.workspace = Workspace(root, self.settings.paths, self.settings.log_url)
        refuse_copy(self.workspace)
        self.log = EventLog(self.workspace.place, actor=actor, clock=clock)
        self.files = FileLock(self.workspace.home / "files.lock")
        """Held by whoever scans or changes the agent's files."""
        self.progress = ProgressFile(self.workspace.progress)
        self.ending: Callable[[], bool] = lambda: False
        """Says whether whoever works here is to end soon: a long effect then puts itself off."""

    @property
    def reader(self) -> LogReader:
        """Reads the log."""
        return self.log.reader

    @property
    def blobs(self) -> BlobStore:
        """Content-addressed bytes."""
        return self.log.blobs

    @property
    def state(self) -> AgentState:
        """The state at the head of the log."""
        return self.log.state

    def require_initialized(self) -> None:
        """Makes sure that the log has its first event.

        Raises:
            LogMissing: an earlier init was cut off.
        """
        if not self.state.head:
            raise LogMissing(f"the log of {self.workspace.root} is empty: run `instar init` once more to finish it")

    @cached_property
    def capture(self) -> Capture:
        """Captures the agent's files as a tree."""
        from .trees.capture import Capture
        from .trees.ignore import Ignore
        from .trees.stat_cache import StatCache

        rules = self.settings.policy.capture
        return Capture(
            self.workspace.root,
            self.blobs,
            Ignore(recorded=rules),
            cap_bytes=rules.cap_bytes,
            cache=StatCache(self.workspace.stat_cache),
        )

    @cached_property
    def memory(self) -> VectorMemory:
        """The vector memory, as it was saved; ``catch_up`` brings it to the head."""
        from instar.store.memory import VectorMemory

        return VectorMemory(self.workspace.memory)

    @cached_property
    def models(self) -> ModelShelf:
        """Checkpoints as folders, and the model of the active one."""
        from .embedding.models import ModelShelf

        return ModelShelf(self.workspace, self.blobs, self.settings)

    @cached_property
    def past(self) -> PastShelf:
        """What of the log can change a data set, as it was read last."""
        from .dataset.past import PastShelf

        return PastShelf()

    @cached_property
    def reward_model(self) -> RewardModel:
        """The configured reward model."""
        from .extensions import load_extension
        from .reward_model import BuiltinRewardModel

        chosen: RewardModel = load_extension(
            "instar.reward_models", self.settings.plugins.reward_model, BuiltinRewardModel
        )
        return chosen

    @cached_property
    def planner(self) -> Planner:
        """The configured planner."""
        from .extensions import load_extension
        from .planner_agent import BuiltinPlanner

        chosen: Planner = load_extension("instar.planners", self.settings.plugins.planner, BuiltinPlanner)
        return chosen

    @cached_property
    def executor(self) -> BuiltinExecutor | ForeignExecutor:
        """The configured executor of commands."""
        from .executor import BuiltinExecutor, ForeignExecutor
        from .extensions import BUILTIN, EXECUTORS, load_extension

        name = self.settings.plugins.executor
        return BuiltinExecutor() if name == BUILTIN else ForeignExecutor(load_extension(EXECUTORS, name))

    def close(self) -> None:
        """Closes the log, and saves what was seen of the files."""
        capture = self.__dict__.get("capture")
        if capture is not None:
            capture.save()
        self.log.close()
