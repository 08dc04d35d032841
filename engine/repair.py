"""What a repair has to go by, read from the log, and the search for a proposal that passes.

The search is in the order of the mutators and, for each, of what it proposes; the first that passes is taken. The same
tree, log, seed and gate give the same order, so a search that was killed begins anew and comes to the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Final

from msgspec import Struct

from instar.fsm.errors import BlobCorrupt, BlobMissing, ConfigError, EffectFailedError, InputRefused
from instar.fsm.events import ChangeObserved
from instar.fsm.state import AgentState
from instar.fsm.words import digest_of
from instar.store.ports import Blobs
from instar.store.reader import LogReader
from instar.store.trees import Change, Entry, Tree

from .changes import is_monitored
from .diff_engine import PYTHON_SUFFIXES
from .differences.unified import unified
from .extension_calls import NAME_CHARS_MAX, asked
from .extensions import load_extension
from .mutators.llm import language_model
from .mutators.operators import Operators
from .mutators.port import Mutator, PastEdit, Proposal
from .mutators.source import BYTES_MAX
from .mutators.templates import Templates
from .protection import protected_among
from .settings import MutatorSettings

GROUP: Final = "instar.mutators"
EDITS_MAX = 200
"""How many of the latest changes of files are looked at."""
REASON_CHARS = 500
_log = logging.getLogger("instar.repair")


class Found(Struct, frozen=True, kw_only=True):
    """How a search ended: the proposal that passed, if one did, whose it is, and how many each mutator had tried."""

    proposal: Proposal | None
    mutator: str
    tried: Mapping[str, int]
    why: str = ""


def material(
    blobs: Blobs, state: AgentState, tree: Tree, paths: Sequence[str]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Reads the Python files that a repair may change, and the others, by path.

    Args:
        blobs: where their bytes lie.
        state: its policy says what is protected and monitored.
        tree: the tree that stands.
        paths: the files or folders that may be changed, ``.`` for all; the monitored files if there is none.

    Raises:
        InputRefused: a path that was asked for is protected, or no Python file of the tree may be changed.
    """
    python = {
        path: entry
        for path, entry in tree.files.items()
        if path.endswith(PYTHON_SUFFIXES) and entry.kind == "file" and entry.size <= BYTES_MAX
    }
    protected = set(protected_among(python, state.policy.mutation.protected))
    wanted = [path.strip("/") for path in paths]
    barred = sorted(protected.intersection(wanted))
    if barred:
        raise InputRefused(f"a repair may not change {', '.join(barred)}: policy.mutation.protected names it")
    chosen = {
        path
        for path in python
        if path not in protected
        and (
            any(one == "." or path == one or path.startswith(f"{one}/") for one in wanted)
            if wanted
            else is_monitored(path, state.policy.monitored)
        )
    }
    if not chosen:
        raise InputRefused("no Python file that may be changed is among those to repair; name one")
    found = {path: blobs.get(entry.blob) for path, entry in sorted(python.items())}
    return (
        {path: content for path, content in found.items() if path in chosen},
        {path: content for path, content in found.items() if path not in chosen},
    )


def past_edits(reader: LogReader, blobs: Blobs) -> tuple[PastEdit, ...]:
    """Reads how Python files changed, the latest first; what was collected or erased is left out."""
    found: list[PastEdit] = []
    for record in sorted(reader.tail(EDITS_MAX, [ChangeObserved]), key=lambda record: -record.seq):
        event = record.event
        if not isinstance(event, ChangeObserved) or not event.path.endswith(PYTHON_SUFFIXES):
            continue
        if event.before is None or event.after is None or event.size > BYTES_MAX:
            continue
        try:
            found.append(PastEdit(record.seq, event.path, blobs.get(event.before), blobs.get(event.after)))
        except (BlobMissing, BlobCorrupt) as error:
            _log.info("the change at event %d teaches nothing: %s", record.seq, error)
    return tuple(found)


def chosen_mutators(settings: MutatorSettings, names: Sequence[str] = ()) -> list[Mutator]:
    """Makes the mutators that are asked, in order: those named, else those that are enabled.

    Raises:
        ConfigError: one is not known, not configured, calls itself by no name, or two go by the same.
    """
    found = [_mutator(settings, name) for name in dict.fromkeys(names or settings.enabled)]
    known: set[str] = set()
    for one in found:
        name: object = one.name
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= NAME_CHARS_MAX:
            raise ConfigError(
                f"a mutator calls itself {name!a:.100}: a name is 1 to {NAME_CHARS_MAX} printable characters"
            )
        if name in known:
            raise ConfigError(f"two mutators are called {name!r}, and the log could not tell them apart: enable one")
        known.add(name)
    return found


def _mutator(settings: MutatorSettings, name: str) -> Mutator:
    if name == "llm":
        return language_model(settings.llm_url, settings.llm_model, settings.llm_key_variable, settings.llm_timeout_s)
    builtin: dict[str, Callable[[], Mutator]] = {"templates": Templates, "operators": Operators}
    if name in builtin:
        return builtin[name]()
    others = {point.name for point in entry_points(group=GROUP)}
    if ":" not in name and name not in others:
        known = ", ".join([*builtin, "llm", *sorted(others)])
        raise ConfigError(
            f"no mutator is called {name!r}; known are {known}, or put module:attribute into mutators.enabled"
        )
    found: Mutator = load_extension(GROUP, name)
    return found


def search(
    proposals: Mapping[str, Iterator[Proposal]],
    passes: Callable[[str, Proposal], bool],
    *,
    tries: int,
    time_s: float,
    files: Mapping[str, bytes],
) -> Found:
    """Tries proposals until one passes, none is left, or there were enough.

    A mutator that proposes a file which may not be changed is asked no further, and neither is one that fails or gives
    what is no proposal; what it proposed twice, or another did before, is tried once.

    Args:
        proposals: what each mutator proposes, by its name, in the order in which they are asked.
        passes: tries one in a copy, behind the gate.
        tries: how many may be tried.
        time_s: how long it may take; a try that began before is awaited.
        files: what may be changed.

    Raises:
        EffectSuspended: by ``passes``, or by a mutator that was told to end.
    """
    until = time.monotonic() + time_s
    tried = dict.fromkeys(proposals, 0)
    seen = {(path, digest_of(content)) for path, content in files.items()}
    why = "no proposal is left"
    for name, each in proposals.items():
        while True:
            try:
                proposal = _next(name, each, files)
            except EffectFailedError as error:
                _log.warning("%s proposes nothing more: %s", name, error)
                why = str(error)[:REASON_CHARS]
                break
            if proposal is None:
                break
            if time.monotonic() > until:
                return Found(proposal=None, mutator="", tried=tried, why=f"{time_s:g} s went by")
            key = (proposal.path, digest_of(proposal.content))
            if key in seen:
                continue
            seen.add(key)
            if sum(tried.values()) >= tries:
                return Found(proposal=None, mutator="", tried=tried, why="there were enough tries")
            tried[name] += 1
            if passes(name, proposal):
                return Found(proposal=proposal, mutator=name, tried=tried)
    return Found(proposal=None, mutator="", tried=tried, why=why)


def _next(name: str, each: Iterator[Proposal], files: Mapping[str, bytes]) -> Proposal | None:
    """Asks a mutator for one proposal more; None where it has none.

    Raises:
        EffectFailedError: it failed, or what it gave is no proposal of a file that may be changed.
        EffectSuspended: it was told to end.
    """
    found: object = asked(name, lambda: next(each, None))
    if found is None:
        return None
    if not (
        isinstance(found, Proposal)
        and isinstance(found.path, str)
        and isinstance(found.content, bytes)
        and isinstance(found.description, str)
    ):
        raise EffectFailedError(f"{name} gave what is no proposal but of type {type(found).__name__}")
    if found.path not in files:
        raise EffectFailedError(f"{name} proposed {found.path!a}"[:REASON_CHARS] + ", which may not be changed")
    if len(found.content) > BYTES_MAX:
        raise EffectFailedError(f"{name} proposed {len(found.content)} bytes of {found.path}; {BYTES_MAX} are the most")
    return found


def as_patch(blobs: Blobs, before: Entry, proposal: Proposal) -> bytes:
    """Writes a proposal as a unified diff, with its bytes kept in the store."""
    content = proposal.content
    after = Entry("file", before.mode, blobs.put(content), len(content))
    return b"".join(line + b"\n" for line in unified(blobs, Change(proposal.path, before, after)))
