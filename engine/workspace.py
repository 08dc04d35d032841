"""Where things are: the folder of an agent, and Instar's own folder in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from instar.fsm.errors import ConfigError, LogMissing, LogUnavailable
from instar.store.lost_log import lost, traces_of
from instar.store.place import Place

from .last_settings import load_to_read
from .settings import PathSettings

logger = logging.getLogger("instar.engine")

HOME = ".instar"
CHECKPOINTS = "checkpoints"
"""The folder in ``.instar/`` into which checkpoints are written from the store."""
STREAM = "stream"
"""The file in ``.instar/`` that names the stream of a log in PostgreSQL."""

STANDS = "stands-at"
"""The file in ``.instar/`` that says where the folder stood last, beside the name of a stream."""


class Workspace:
    """The paths of one workspace. Everything of Instar's own lies in ``.instar/``; ``[paths]`` are beside the code.

    Args:
        root: the folder of the agent.
        paths: where other programs look for files of the engine, and write theirs.
        log_url: the PostgreSQL server that holds the log, for a workspace whose log does not lie in ``.instar/``.
    """

    def __init__(self, root: Path, paths: PathSettings | None = None, log_url: str | None = None) -> None:
        self.root = root.resolve()
        self.paths = paths or PathSettings()
        self.log_url = log_url
        self.home = self.root / HOME
        self.log = self.home / "log.db"
        self.stream = self.home / STREAM
        self.stands = self.home / STANDS
        self.memory = self.home / "memory"
        self.checkpoints = self.home / CHECKPOINTS
        self.ways = self.home / "ways"
        self.staging = self.home / "staging"
        self.scratch = self.home / "scratch"
        self.stat_cache = self.home / "stat-cache"
        self.cookies = self.home / "cookies"
        self.progress = self.home / "progress.json"
        self.begun = self.home / "begun.json"
        self.worker_lock = self.home / "worker.lock"
        self.worker_log = self.home / "worker.log"
        self.socket = self.home / "worker.sock"

    @property
    def retrain_trigger(self) -> Path:
        """The last retrain flag, ``run/checkpoints/retrain_trigger.json``; another program may drop one."""
        return self.root / self.paths.retrain_trigger

    @property
    def active_checkpoint(self) -> Path:
        """A link to the folder of the active checkpoint, for programs that load the model themselves."""
        return self.root / self.paths.active_checkpoint

    @property
    def dataset(self) -> Path:
        """The last data set, ``data/nlp_training_sets/auto_generated.jsonl``."""
        return self.root / self.paths.dataset

    @property
    def audit(self) -> Path:
        """The lineage, ``data/nlp_training_sets/bootstrap.json``."""
        return self.root / self.paths.audit

    @property
    def audit_log(self) -> Path:
        """A line an event, ``data/logs/system/bootstrap.log``."""
        return self.root / self.paths.audit_log

    @property
    def logs(self) -> Path:
        """The agent's logs, ``data/logs``, with ``system``, ``modules``, ``services`` and ``applications`` below it."""
        return self.root / self.paths.logs

    @property
    def exists(self) -> bool:
        """Says whether a log is here, or the name of its stream."""
        return self.log.exists() or self.stream.exists()

    @property
    def place(self) -> Place:
        """Where the log lies.

        Raises:
            ConfigError: it lies on a server, and no setting names that.
        """
        if not self.stream.is_file():
            return Place(self.log)
        name = self.stream.read_text(encoding="utf-8").strip()
        if self.log_url is None:
            raise ConfigError(
                f"the log of {self.root} is the stream {name} of a PostgreSQL server: set INSTAR_LOG_URL to "
                "postgresql+psycopg://USER@HOST/DATABASE"
            )
        return Place(self.log, self.log_url, name)


def open_workspace(root: Path, environ: Mapping[str, str], warn: Callable[[str], object] = logger.warning) -> Workspace:
    """Reads the settings of a workspace and gives its paths, to read what is there.

    Args:
        root: the folder of the agent.
        environ: environment variables.
        warn: is told if the settings cannot be used, and which ones are instead.

    Raises:
        ConfigError: an environment variable does not fit.
    """
    settings, fault = load_to_read(root, environ)
    if fault:
        warn(fault)
    return Workspace(root, settings.paths, settings.log_url)


def find_workspace(start: Path) -> Path:
    """Finds the nearest folder at or above ``start`` that holds a log.

    Raises:
        LogMissing: there is none.
        LogLost: there was one, and its log is gone.
        LogUnavailable: one may be there, in a folder that cannot be entered.
    """
    here = start.resolve()
    for folder in (here, *here.parents):
        log = folder / HOME / "log.db"
        try:
            traces = traces_of(log)  # before the log, which whoever sets the folder up meanwhile makes first
            if log.exists() or (folder / HOME / STREAM).exists():
                return folder
        except OSError as error:
            raise LogUnavailable(f"the folder {folder / HOME} cannot be entered: {error}. Give permission.") from error
        if traces:
            raise lost(Place(log), traces)
    raise LogMissing(f"no workspace at {here} or above it: run `instar init` in the folder of the agent first")
