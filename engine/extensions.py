"""What can be replaced, and how what replaces it is found.

Reward, planning and the running of commands have their ports here; those of mutators (``mutators/port.py``), sandboxes
(``sandbox/port.py``), embedders (``embedding/port.py``) and trainers (``ports.py``) stand beside what they are about.

An implementation is named ``builtin``, by an entry point of the port's group, or as ``module:attribute``. A class, or a
function that makes one, is called without arguments; anything else is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Protocol

from instar.fsm.errors import ConfigError
from instar.fsm.events import EmbeddedItem, FeedbackReceived, PlanStep
from instar.fsm.policy import Policy
from instar.fsm.rewards import Standing

from .extension_calls import error_text, name_of

BUILTIN: Final = "builtin"
EMBEDDERS: Final = "instar.embedders"
EXECUTORS: Final = "instar.executors"
TRAINERS: Final = "instar.trainers"
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "instar.reward_models": ("name", "score"),
    "instar.planners": ("name", "plan"),
    "instar.mutators": ("name", "propose"),
    "instar.sandboxes": ("name", "fault", "enforced", "command"),
    TRAINERS: ("name", "train"),
    EMBEDDERS: ("name", "load"),
    EXECUTORS: ("name", "run"),
}
"""The groups of entry points, each with what an implementation must at least have."""


class RewardModel(Protocol):
    """Scores outcomes."""

    @property
    def name(self) -> str:
        """What the log calls this model."""

    def score(self, outcome: FeedbackReceived, item: EmbeddedItem | None) -> float:
        """Returns the reward of an outcome, in 0..1; ``item`` is its row of memory, if it has one."""


class Planner(Protocol):
    """Chooses what to work on next."""

    @property
    def name(self) -> str:
        """What the log calls this planner."""

    def plan(self, standings: Mapping[str, Standing], policy: Policy) -> tuple[PlanStep, ...]:
        """Returns one step for each task type, the most urgent first; the same standings give the same plan."""


class Executor(Protocol):
    """Runs the commands of shell tasks."""

    @property
    def name(self) -> str:
        """What the log calls this executor."""

    def run(self, command: tuple[str, ...], cwd: Path, timeout_s: float) -> tuple[int, bytes]:
        """Runs a command in a folder; returns its exit code (124 after ``timeout_s``) and its output."""


def load_extension(group: str, name: str, builtin: Callable[[], Any] | None = None) -> Any:
    """Finds and makes the implementation of a port.

    Args:
        group: the group of entry points, one of ``REQUIRED``.
        name: ``builtin``, the name of an entry point, or ``module:attribute``.
        builtin: what ``builtin`` stands for.

    Raises:
        ConfigError: the group or the name is unknown, two packages claim the name, or what it names cannot be loaded,
            cannot be made or lacks what the port needs.
    """
    if group not in REQUIRED:
        raise ConfigError(f"no extensions of kind {group!r}; the kinds are {', '.join(REQUIRED)}")
    if name == BUILTIN and builtin is not None:
        return builtin()
    found = _by_path(group, name) if ":" in name else _by_entry_point(group, name)
    made = _made(group, name, found)
    absent = [attribute for attribute in REQUIRED[group] if not _has(made, attribute)]
    if absent:
        raise ConfigError(
            f"{group}: {name} cannot serve, it has no {' and no '.join(absent)}; see Ports in ARCHITECTURE.md"
        )
    name_of(group, name, made)
    return made


def _has(made: Any, attribute: str) -> bool:
    try:
        return hasattr(made, attribute)
    except (Exception, SystemExit):  # a property that raises is there, and told of when it is asked
        return True


def claims_of(group: str, name: str) -> dict[str, EntryPoint]:
    """Gives the entry points of a name, by what they lead to; two packages may claim one name."""
    return {point.value: point for point in entry_points(group=group) if point.name == name}


def package_of(group: str, name: str) -> str:
    """Says which installed package offers an entry point, in which version; empty where none is known."""
    for point in claims_of(group, name).values():
        if point.dist is not None:
            return f"{point.dist.name} {point.dist.version}"
    return ""


def as_library(group: str, name: str) -> dict[str, str]:
    """Gives what an environment records of an extension on which bits depend: its name, and which package offers it.

    >>> as_library("instar.embedders", "acme-1")
    {'embedder acme-1': 'of no package'}
    """
    return {f"{_kind(group)}{name}": package_of(group, name) or "of no package"}


def among_libraries(group: str, libraries: Mapping[str, str]) -> str | None:
    """Reads the name of an extension out of the libraries that an environment recorded; None where there is none."""
    kind = _kind(group)
    return next((name.removeprefix(kind) for name in libraries if name.startswith(kind)), None)


def _kind(group: str) -> str:
    return f"{group.removeprefix('instar.').removesuffix('s')} "


def _by_path(group: str, name: str) -> Any:
    module, _, attributes = name.partition(":")
    try:
        found: Any = import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (Exception, SystemExit) as error:  # A foreign module may raise anything while it is imported.
        raise ConfigError(
            f"{group}: {name} cannot be loaded: {error_text(error)}. Is it importable from here? Nothing that "
            "Instar starts imports from the folder that it stands in: install it, or name its folder in PYTHONPATH."
        ) from error
    return found


def _by_entry_point(group: str, name: str) -> Any:
    claims = claims_of(group, name)
    if not claims:
        names = ", ".join(sorted({BUILTIN, *(point.name for point in entry_points(group=group))}))
        raise ConfigError(f"{group}: nothing is called {name!r}; known are {names}, or give module:attribute")
    if len(claims) > 1:
        raise ConfigError(
            f"{group}: {name!r} is claimed by {' and '.join(sorted(claims))}; give module:attribute instead"
        )
    try:
        return next(iter(claims.values())).load()
    except (Exception, SystemExit) as error:  # A foreign package may raise anything while it is imported.
        raise ConfigError(f"{group}: the entry point {name!r} cannot be loaded: {error_text(error)}") from error


def _made(group: str, name: str, found: Any) -> Any:
    # An instance may be callable too: what already has all that the port needs is not called.
    ready = not isinstance(found, type) and REQUIRED[group] and all(_has(found, part) for part in REQUIRED[group])
    if ready or not callable(found):
        return found
    try:
        return found()
    except (Exception, SystemExit) as error:  # The same holds for its constructor.
        raise ConfigError(f"{group}: {name} cannot be made without arguments: {error_text(error)}") from error
