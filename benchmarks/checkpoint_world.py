"""A workspace with two checkpoints of MiniLM, of which the second was promoted: its weights differ in one tensor."""

from __future__ import annotations

import shutil
from pathlib import Path

from instar.engine.initialize import initialize
from instar.engine.runtime import Runtime
from instar.fsm import events as e
from instar.fsm.react import react
from instar.fsm.words import Digest, digest_of
from instar.store.checkpoints import import_checkpoint


def two_checkpoints(root: Path) -> tuple[Runtime, Path]:
    """Makes the workspace; gives it, and the weights file of the first checkpoint."""
    root.mkdir(parents=True)
    (root / "heuristics.py").write_text("def score(a):\n    return a\n")
    initialize(root)
    runtime = Runtime(root, actor="bench")
    first = runtime.state.checkpoint
    assert first is not None
    weights = next(runtime.models.folder(first).rglob("*.safetensors"))
    copy = root.with_name("second")
    shutil.copytree(runtime.models.folder(first), copy)
    with next(copy.rglob("*.safetensors")).open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    second = import_checkpoint(runtime.blobs, copy)
    shutil.rmtree(copy)
    _promote(runtime, first, second)
    runtime.models.activate(second)
    return runtime, weights


def _promote(runtime: Runtime, first: Digest, second: Digest) -> None:
    """Records a training whose gain the gate admits, as a worker would."""
    dataset, score = digest_of(b"rows"), e.Retrieval(40, 0.5, 0.6, 0.7)
    trained = e.CheckpointTrained(
        checkpoint=second,
        base=first,
        dataset=dataset,
        seed=1,
        epochs=1,
        steps=1,
        loss=(1.0,),
        before=score,
        after=score,
        gain=e.Interval(0.1, 0.05, 0.15),
        lineage=e.Lineage("bench", 1, 0.1),
        recipe={},
        duration_s=1.0,
    )
    runtime.log.append(e.TaskQueued(task="self_train", source="bench"))
    run = runtime.state.waiting[0]
    start = e.CycleStarted(entry=run.entry, span=e.Span(run.first, run.last), count=run.count)
    runtime.log.append(start, cause=run.last)
    for event in (
        e.RetrainFlagged(triggers=(), path="p", content=dataset),
        e.DatasetGenerated(dataset=dataset, train=100, heldout=40, sources={}, left_out={}),
        trained,
        e.OutcomeRewarded(
            subject="checkpoint", rewards=(), verdict="promoted", reason="", model="builtin", checkpoint=second
        ),
    ):
        effect = react(runtime.state)
        assert effect is not None
        runtime.log.append(event, cause=effect.answers)
