"""64 threads that append through one log, against the ``eventsourcing`` recorder under the same threads.

Every append is one durable call of its thread. The recorder gets bytes that are made and encoded already; the log does
all of its work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from instar.fsm.codec import encode_event

from .compare import Work, compare
from .goals import Measure, Row, absent
from .sample_log import feedback, fresh_log

THREADS, EACH, ROUNDS = 64, 50, 9


def main() -> list[Row]:
    """Runs the comparison; gives one row of the table of goals."""
    missing = absent("eventsourcing")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(THREADS) as pool:
        folder = Path(name)
        log = fresh_log(folder)

        def ours(thread: int) -> None:
            for number in range(EACH):
                log.append(feedback(thread * EACH + number))

        ways: dict[str, Work] = {"instar": _on_all(pool, ours)}
        if not missing:
            ways["eventsourcing recorder"] = _theirs(folder, pool)
        medians = compare(f"durable append from {THREADS} threads", ways, rounds=ROUNDS, unit="events/s")
        log.close()
    measures = () if missing else (Measure(medians["instar"] / medians["eventsourcing recorder"], 8.0),)
    return [Row(f"{THREADS} threads appending", f"eventsourcing recorder on {THREADS} threads", measures, missing)]


def _on_all(pool: ThreadPoolExecutor, work: Callable[[int], None]) -> Work:
    """Lets each thread of the pool do its share once, all from the same moment."""

    def run() -> int:
        gate = Barrier(THREADS)

        def share(thread: int) -> None:
            gate.wait()
            work(thread)

        list(pool.map(share, range(THREADS)))
        return THREADS * EACH

    return run


def _theirs(folder: Path, pool: ThreadPoolExecutor) -> Work:
    from uuid import uuid4

    from eventsourcing.persistence import StoredEvent

    from .eventsourcing_peer import open_application

    application = open_application(folder / "eventsourcing.db")
    state = encode_event(feedback(0))

    def share(_thread: int) -> None:
        agent = uuid4()
        for version in range(1, EACH + 1):
            event = StoredEvent(originator_id=agent, originator_version=version, topic="Feedback", state=state)
            application.recorder.insert_events([event])

    return _on_all(pool, share)
