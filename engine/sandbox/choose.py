"""Which sandbox a gate runs in: the strongest that works on this machine, or the one that a setting names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from instar.engine.extensions import load_extension
from instar.engine.settings import MutationSettings
from instar.fsm.errors import ConfigError

from .bubblewrap import Bubblewrap
from .foreign import Foreign
from .landlock import Landlock
from .port import Sandbox
from .rlimits import RLIMITS, Rlimits
from .trial import fault

AUTO: Final = "auto"
_MODELS: Final = ("llm", "mcp")  # a client of MCP hands on what a model wrote
STRONGEST_FIRST: Final[tuple[Sandbox, ...]] = (
    Bubblewrap(),
    Landlock(namespaces=True),
    Landlock(namespaces=False),
    Rlimits(),
)


def chosen(settings: MutationSettings) -> Sandbox:
    """Gives the sandbox for a gate.

    Raises:
        ConfigError: the one that is named is not known, or this machine cannot run it.
    """
    faults: list[str] = []
    for sandbox in _candidates(settings.sandbox):
        reason = None if sandbox.name == RLIMITS else fault(sandbox, settings.network)
        if reason is None:
            return sandbox
        faults.append(reason)
    raise ConfigError(
        f"mutation.sandbox is {settings.sandbox!r}, which this machine cannot run: {'; '.join(dict.fromkeys(faults))}. "
        "Mend that, or set it to auto, which takes the strongest that works."
    )


def stronger(settings: MutationSettings, than: Sandbox) -> dict[str, str]:
    """Tells of each sandbox that is stronger than the one in use why it is not used."""
    found: dict[str, str] = {}
    for sandbox in STRONGEST_FIRST:
        if sandbox.name == than.name or than.name not in {one.name for one in STRONGEST_FIRST}:
            break
        found[sandbox.name] = fault(sandbox, settings.network) or f"mutation.sandbox is {settings.sandbox!r}"
    return found


def unconfined(settings: MutationSettings, source: str) -> str | None:
    """Says why a patch is not tried: a language model wrote it, and nothing here confines its gate. None if it may be.

    Args:
        settings: which sandbox is used, and whether such a patch is tried without one.
        source: who asked for the mutation; ``llm``, what begins with ``llm:``, and ``mcp`` are taken for a model.
    """
    if not (source in _MODELS or source.startswith("llm:")) or settings.unconfined:
        return None
    try:
        if chosen(settings).name != RLIMITS:
            return None
    except ConfigError as error:
        return f"the gate cannot run: {error}"
    return (
        f"{source} wrote the patch, and only rlimits hold its gate here: a language model's needs a sandbox. "
        "`instar doctor` says what this machine lacks; mutation.unconfined = true has it tried all the same"
    )


def _candidates(name: str) -> Iterator[Sandbox]:
    if name == AUTO:
        yield from STRONGEST_FIRST
        return
    ours = [sandbox for sandbox in STRONGEST_FIRST if sandbox.name == name]
    if ours:
        yield from ours
        return
    try:
        yield Foreign(load_extension("instar.sandboxes", name))
    except ConfigError as error:
        known = ", ".join(dict.fromkeys((AUTO, *(sandbox.name for sandbox in STRONGEST_FIRST))))
        raise ConfigError(f"mutation.sandbox is {name!r}, which is none of {known}; and {error}") from error
