"""What a user calls a point of the log: a seq, ``latest``, a name, a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from instar.fsm.errors import ConfigError
from instar.fsm.events import ModelAdopted, OutcomeRewarded, SnapshotTaken, WorkspaceInitialized
from instar.fsm.retention import SAFETY
from instar.fsm.words import Seq
from instar.store.reader import LogReader

DIGITS_MAX = 18
"""No log has events whose positions have more."""
_TOO_LONG = f"a number of over {DIGITS_MAX} digits is no position of this log"
_LATEST = 100
"""So many events are looked at at once, from the head back."""
FORMS = "a seq, latest, latest~N, snapshot:NAME, checkpoint:PREFIX, last-good or an ISO time"


def resolve(reader: LogReader, reference: str | int) -> Seq:
    """Gives the position that a reference names.

    Args:
        reader: the log.
        reference: ``12`` · ``latest`` · ``latest~3`` (three events before the head) · ``snapshot:NAME`` ·
            ``checkpoint:PREFIX`` (where it became active) · ``last-good`` (the latest named snapshot or promotion) ·
            an ISO time (the last event recorded at or before it; UTC where it names no zone).

    Raises:
        ConfigError: it names no position of this log.
    """
    if isinstance(reference, int) and abs(reference) >= 10**DIGITS_MAX:
        raise ConfigError(_TOO_LONG)
    text = str(reference).strip()
    head = reader.head()
    seq = _resolve(reader, text, head)
    if not 1 <= seq <= head:
        raise ConfigError(f"{text!r} is no position of this log: it has events 1 to {head}")
    return Seq(seq)


def is_reference(text: str) -> bool:
    """Says whether a text has the form of a reference; what it names need not exist."""
    text = text.strip()
    if re.fullmatch(r"[0-9]+|latest(~[0-9]+)?|last-good|(snapshot|checkpoint):.*", text):
        return True
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _resolve(reader: LogReader, text: str, head: int) -> int:
    if re.fullmatch(r"[0-9]+", text):
        return number_of(text)
    if match := re.fullmatch(r"latest(?:~([0-9]+))?", text):
        return head - number_of(match[1] or "0")
    if text.startswith("snapshot:"):
        return _snapshot(reader, text.removeprefix("snapshot:"))
    if text.startswith("checkpoint:"):
        return _checkpoint(reader, text.removeprefix("checkpoint:"))
    if text == "last-good":
        return _last_good(reader)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no reference. Give {FORMS}.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seq = reader.at_time(int(moment.timestamp() * 1_000_000))
    if not seq:
        raise ConfigError(f"nothing was recorded at or before {text}")
    return seq


def number_of(digits: str) -> int:
    """Reads a position.

    Raises:
        ConfigError: it has more digits than any log has events.
    """
    if len(digits.lstrip("0")) > DIGITS_MAX:
        raise ConfigError(_TOO_LONG)
    return int(digits.lstrip("0") or "0")


def _snapshot(reader: LogReader, name: str) -> int:
    snapshots = reader.state_at().snapshots
    if name not in snapshots:
        known = ", ".join(sorted(snapshots)) or "none"
        raise ConfigError(f"there is no snapshot {name!r}. Known: {known}.")
    return snapshots[name]


def _checkpoint(reader: LogReader, prefix: str) -> int:
    found: dict[str, int] = {}
    named = f'"checkpoint":"{prefix}' if re.fullmatch(r"[0-9a-f]+", prefix) else ""
    for record in reader.read(types=[WorkspaceInitialized, ModelAdopted, OutcomeRewarded], holding=named):
        checkpoint = getattr(record.event, "checkpoint", None)
        if checkpoint and prefix and checkpoint.startswith(prefix):
            found.setdefault(checkpoint, record.seq)
    if len(found) != 1:
        what = "no active checkpoint begins" if not found else f"{len(found)} checkpoints begin"
        raise ConfigError(f"{what} with {prefix!r}. `instar lineage` lists them.")
    return next(iter(found.values()))


def _last_good(reader: LogReader) -> int:
    before: Seq | None = None
    while records := reader.tail(_LATEST, [SnapshotTaken, OutcomeRewarded], before=before):
        for record in reversed(records):
            event = record.event
            named = isinstance(event, SnapshotTaken) and not event.name.startswith(SAFETY)
            if named or (isinstance(event, OutcomeRewarded) and event.verdict == "promoted"):
                return record.seq
        before = records[0].seq
    return 1
