"""``instar search``."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import Json, Root, emit, runtime_at


def command(
    text: Annotated[str, typer.Argument(help="What to look for, in plain words.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many rows.")] = 10,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only rows of this kind: feedback, failure, code_diff, unit, …")
    ] = None,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Search the vector memory for what is nearest to a text."""
    from instar.engine.search import search
    from instar.engine.service import Client
    from instar.engine.status import worker_runs

    runtime = runtime_at(workspace)
    if worker_runs(runtime.workspace) and runtime.workspace.socket.exists():
        found = Client(runtime.workspace.socket).search(text, k, kind)
    else:
        found = search(runtime, text, k, kind)
    runtime.close()
    lines = [
        f"{row.similarity:.3f}  {row.reference:<14} event {row.event:<6} {row.kind:<10} {row.unit[:32]:<32} "
        f"{row.text[:90]}"
        for row in found
    ]
    emit("search", found, as_json=json, text="\n".join(lines) or "memory holds nothing yet")
