"""Leads a log to a candidate checkpoint that waits for its verdict, without training one."""

from __future__ import annotations

from msgspec.structs import replace

from instar.engine.loop import Loop
from instar.engine.runtime import Runtime
from instar.fsm import events as e
from instar.fsm.words import Digest, State
from instar.store.log import Pending
from tests.fsm.builders import GAIN, dataset, trained

ROWS_MIN = 100_000
"""For ``policy.retrain.rows_min``: so many that no retrain begins by itself."""


def bring_candidate(runtime: Runtime, other: Digest) -> None:
    """Records that a checkpoint was trained; its figures are made up. The next step judges it."""
    Loop(runtime).run_until_idle()
    base = runtime.state.checkpoint
    assert base is not None
    task = runtime.log.append(e.TaskQueued(task="self_train", source="test")).seq
    runtime.log.append(e.CycleStarted(entry="self_train", span=e.Span(task, task), count=1), cause=task)
    content = runtime.blobs.put(b"made up for event %d" % task)
    told = (
        e.RetrainFlagged(triggers=(), path="p", content=content),
        replace(dataset(runtime.state.trained_rows + ROWS_MIN), dataset=content),
        replace(trained(GAIN), checkpoint=other, base=base, dataset=content),
    )
    for event in told:
        runtime.log.transact(lambda state, event=event: [Pending(event, cause=state.since)])  # type: ignore[misc]
    assert runtime.state.machine is State.REWARDING
