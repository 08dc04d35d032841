"""``instar eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import Json, Root, emit, plain, runtime_at

if TYPE_CHECKING:
    from instar.engine.evaluation.answering import Answering
    from instar.engine.evaluation.similarity import Similarity


def command(
    checkpoint: Annotated[
        str, typer.Argument(help="active, base, the beginning of a digest; or a model's folder, package or hub name.")
    ],
    on: Annotated[Path, typer.Option("--on", help="Rows as JSON lines: {text, intent} or {a, b, score}.")],
    each: Annotated[
        int, typer.Option("-k", "--examples", min=0, help="Examples of each intent in memory; 0 takes all.")
    ] = 5,
    memory: Annotated[Path | None, typer.Option(help="Take the examples from these rows, and ask all of --on.")] = None,
    seed: Annotated[int, typer.Option(help="Which rows become examples.")] = 0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="An answer of less confidence is unsure.")] = 0.70,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Measure a checkpoint on labelled rows: accuracy and calibration of its answers, or Spearman's correlation."""
    from instar.engine.evaluation.measure import measure
    from instar.engine.evaluation.subject import of_log, of_weights
    from instar.engine.workspace import find_workspace
    from instar.fsm.errors import ConfigError, LogMissing

    if not checkpoint.strip():
        raise ConfigError(f"no checkpoint is called {checkpoint!r}: give active, base, a digest's beginning or a model")
    runtime = None
    try:
        find_workspace(workspace or Path.cwd())
        runtime = runtime_at(workspace)
        subject = of_log(runtime, checkpoint)
    except (ConfigError, LogMissing):
        if workspace is not None or checkpoint in ("active", "base") or checkpoint.startswith("checkpoint:"):
            raise
        subject = of_weights(checkpoint)
    try:
        found = measure(subject, on, each=each, memory=memory, seed=seed, threshold=threshold)
    finally:
        if runtime is not None:
            runtime.close()
    content = {"checkpoint": subject.name, "calibrated": subject.calibrated, **plain(found)}
    emit("eval", content, as_json=json, lines=[f"{subject.name[:12]}  {_line(found)}"])


def _line(found: Answering | Similarity) -> str:
    from instar.engine.evaluation.similarity import Similarity

    if isinstance(found, Similarity):
        return f"Spearman {found.spearman:.3f} over {found.pairs} pairs"
    low, high = found.interval
    sure = "–" if found.accuracy_sure is None else f"{found.accuracy_sure:.3f}"
    return (
        f"accuracy {found.accuracy:.3f} [{low:.3f}, {high:.3f}] of {found.asked} requests from {found.examples} "
        f"examples of {found.answers} answers; nearest example {found.nearest:.3f}; under {found.threshold:.2f}: "
        f"{found.unsure:.1%}, over it {sure} right; calibration error {found.calibration_error:.3f}"
    )
