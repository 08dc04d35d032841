"""The retrain trigger file: written when a retrain is flagged, and taken when another program drops one there.

The file is ``run/checkpoints/retrain_trigger.json``::

    {"trigger": "mutation_watcher", "time": "2025-05-18T13:11:00Z", "note": "Auto-diff-based training cycle"}
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from instar.fsm.decisions import trigger_content
from instar.fsm.erasure import TRIGGER_FILE
from instar.fsm.events import InputSkipped, RetrainFlagged, TaskQueued, Trigger
from instar.fsm.words import digest_of
from instar.store.clock import iso
from instar.store.durable import make_below, write_durably
from instar.store.log import Pending

from .files.beneath import OPEN_FILE
from .redact import redact
from .runtime import Runtime

BYTES_MAX = 64 * 1024
SETTLED_S = 0.3


class TriggerFile(Struct):
    """What another program may write there; further keys are left alone."""

    trigger: str
    time: str = ""
    note: str = ""


def render_trigger(triggers: tuple[Trigger, ...], at_us: int) -> bytes:
    """Gives the bytes of the trigger file: a function of recorded facts, so that a retry writes the same."""
    return trigger_content(triggers, iso(at_us))


def write_beside(path: Path, content: bytes, root: Path) -> None:
    """Writes a file of ``[paths]``, with the folders above it: whoever reads it sees the old bytes or the new ones.

    Args:
        path: the file.
        content: its bytes.
        root: the folder of the agent; where that is gone it is not made anew.
    """
    make_below(path.parent, root)
    write_durably(path, content)


class Dropped(Struct, frozen=True):
    """The bytes of a trigger file, and a key for this drop of them."""

    content: bytes
    key: str


def read_trigger(path: Path) -> Dropped | None:
    """Reads the trigger file, if a regular one is there and nobody has written to it for a moment.

    A link is not followed: what it leads to may be no business of the log's.
    A program that writes the file in place truncates it first: what is fresh may be half of it.
    """
    try:
        before = path.lstat()
        if not stat.S_ISREG(before.st_mode):
            return None
        age_s = time.time() - before.st_mtime
        if age_s < SETTLED_S:
            time.sleep(min(SETTLED_S, SETTLED_S - age_s))
        with os.fdopen(os.open(path, OPEN_FILE), "rb") as file:
            content = file.read(BYTES_MAX + 1)
            after = os.fstat(file.fileno())
    except OSError:
        return None
    if _version(before) != _version(after):
        return None
    return Dropped(content, f"trigger:{after.st_mtime_ns}:{digest_of(content)[:32]}")


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def take_trigger(content: bytes) -> TaskQueued | InputSkipped:
    """Turns a foreign trigger file into a queued retrain, or into a skipped item that says why."""
    try:
        if len(content) > BYTES_MAX:
            raise msgspec.ValidationError("the file is too large")
        read = msgspec.json.decode(content, type=TriggerFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = f"no trigger: {error}. It must be a JSON object with the key trigger, of at most 64 KiB."
        excerpt = redact(content.decode("utf-8", "replace"))[:200]
        return InputSkipped(source="trigger_file", subject="retrain_trigger.json", reason=reason, excerpt=excerpt)
    source, note = redact(f"{TRIGGER_FILE}{read.trigger}"), redact(read.note)
    return TaskQueued(task="self_train", source=source[:200], note=note[:2000])


def foreign_trigger(runtime: Runtime, own: bytes | None = None) -> Pending | None:
    """Reads a trigger that another program dropped: one that is neither ours nor taken already.

    Args:
        runtime: the workspace.
        own: what this process is about to write, or wrote before it was killed.
    """
    dropped = read_trigger(runtime.workspace.retrain_trigger)
    if dropped is None or dropped.content == own:
        return None
    digest = digest_of(dropped.content)
    flagged = (record.event for record in runtime.reader.tail(8, [RetrainFlagged]))
    if any(isinstance(event, RetrainFlagged) and event.content == digest for event in flagged):
        return None
    if runtime.reader.by_key(dropped.key) is not None:
        return None
    return Pending(take_trigger(dropped.content), key=dropped.key)


def remove_trigger(runtime: Runtime, taken: Pending) -> None:
    """Removes a trigger file that was recorded; one that was dropped in its place meanwhile is recorded too."""
    path = runtime.workspace.retrain_trigger
    aside = path.with_name(f".{path.name}.taken")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    found = read_trigger(aside)
    if found and found.key != taken.key:
        runtime.log.append(take_trigger(found.content), key=found.key)
    aside.unlink(missing_ok=True)
