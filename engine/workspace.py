"""Where things are: the folder of an agent, and Instar's own folder in it."""

from __future__ import annotations

from pathlib import Path

from instar.fsm.errors import LogMissing

from .settings import PathSettings

HOME = ".instar"


class Workspace:
    """The paths of one workspace. Everything of Instar's own lies in ``.instar/``; SEED's paths are beside the code."""

    def __init__(self, root: Path, paths: PathSettings | None = None) -> None:
        self.root = root.resolve()
        self.paths = paths or PathSettings()
        self.home = self.root / HOME
        self.log = self.home / "log.db"
        self.memory = self.home / "memory"
        self.checkpoints = self.home / "checkpoints"
        self.staging = self.home / "staging"
        self.scratch = self.home / "scratch"
        self.stat_cache = self.home / "stat-cache"
        self.progress = self.home / "progress.json"
        self.worker_log = self.home / "worker.log"
        self.socket = self.home / "worker.sock"

    @property
    def retrain_trigger(self) -> Path:
        """SEED's ``run/checkpoints/retrain_trigger.json``."""
        return self.root / self.paths.retrain_trigger

    @property
    def active_checkpoint(self) -> Path:
        """A link to the folder of the active checkpoint, for programs that load the model themselves."""
        return self.root / self.paths.active_checkpoint

    @property
    def dataset(self) -> Path:
        """SEED's ``data/nlp_training_sets/auto_generated.jsonl``."""
        return self.root / self.paths.dataset

    @property
    def audit(self) -> Path:
        """SEED's ``data/nlp_training_sets/bootstrap.json``."""
        return self.root / self.paths.audit

    @property
    def audit_log(self) -> Path:
        """SEED's ``data/logs/system/bootstrap.log``."""
        return self.root / self.paths.audit_log

    @property
    def logs(self) -> Path:
        """SEED's ``data/logs``, with ``system``, ``modules``, ``services`` and ``applications`` below it."""
        return self.root / self.paths.logs

    @property
    def exists(self) -> bool:
        """Says whether a log is here."""
        return self.log.is_file()


def find_workspace(start: Path) -> Path:
    """Finds the nearest folder at or above ``start`` that holds a log.

    Raises:
        LogMissing: there is none.
    """
    here = start.resolve()
    for folder in (here, *here.parents):
        if (folder / HOME / "log.db").is_file():
            return folder
    raise LogMissing(f"no workspace at {here} or above it: run `instar init` in the folder of the agent first")
