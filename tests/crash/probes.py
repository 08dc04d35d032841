"""What a log and its blobs hold, told by the real code, and what is wrong with it."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from instar.engine.keeping.integrity import check
from instar.fsm.errors import LogError
from instar.store.log import EventLog, create_log
from tests.store.logs import INIT, feedback

Acknowledged = dict[int, str]
"""The hash of each event whose append returned, by its position."""


@dataclass(frozen=True)
class Found:
    """What a log holds after a fault, and what is wrong with it."""

    hashes: Acknowledged = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def losses(self, acknowledged: Acknowledged) -> list[str]:
        """Lists everything that must not be."""
        lost = [seq for seq, own in acknowledged.items() if self.hashes.get(seq) != own]
        return [*self.problems, *(f"event {seq} was acknowledged and is lost" for seq in lost)]


def look(path: Path) -> Found:
    """Opens a log as the next process would, reads and verifies all of it, and appends to it."""
    try:
        log = _opened(path)
    except Exception as error:  # whatever it is: the log does not open
        return Found(problems=(f"the log does not open: {error!r}",))
    hashes: Acknowledged = {}
    try:
        records = list(log.reader.read())
        hashes = {record.seq: record.hash for record in records}
        problems = list(check(log.reader).problems) if records else []
        keys = Counter(record.key for record in records if record.key)
        problems += [f"key {key!r} was recorded {count} times" for key, count in keys.items() if count > 1]
        problems += [
            f"time goes back at event {after.seq}"
            for before, after in itertools.pairwise(records)
            if after.recorded_at_us < before.recorded_at_us
        ]
        problems += _goes_on(log, len(records), next(iter(keys), None))
    except Exception as error:
        problems = [f"the log cannot be read or written: {error!r}"]
    finally:
        log.close()
    return Found(hashes, tuple(problem.replace(str(path.parent), "HOME") for problem in problems))


def _opened(path: Path) -> EventLog:
    try:
        return EventLog(path)
    except LogError:  # its creation or upgrade was cut off: it is finished
        create_log(path)
        return EventLog(path)


def _goes_on(log: EventLog, head: int, key: str | None) -> list[str]:
    """Appends what comes next, and what was recorded before once more."""
    added = log.append(feedback(0) if head else INIT)
    problems = [] if added.seq == head + 1 else [f"the next event is {added.seq}, after {head} events"]
    if key is not None:
        known = log.reader.by_key(key)
        again = log.append(feedback(0), key=key)
        problems += [] if known == again else [f"an append under the known key {key!r} was recorded twice"]
    return problems
