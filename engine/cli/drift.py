"""``instar drift``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import Json, Root, emit, runtime_at, write_json

if TYPE_CHECKING:
    from instar.engine.drift import Drift
    from instar.engine.drift.shift import Embed


def command(
    old: Annotated[str | None, typer.Argument(help="The last version: a file.")] = None,
    new: Annotated[str | None, typer.Argument(help="The new version: a file.")] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(help="Rows {path,before,after}, one a line; one JSON score a line comes out. - reads stdin."),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Put the shift of the embedding on top, by the workspace's active model.")
    ] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Say how far code or text drifted from its last version, in 0..1, and why. No workspace is needed without --embed.

    Below 0.30 the meaning stayed (a similarity of 0.70 and more); above it, what is done changed.
    """
    from instar.fsm.errors import InputRefused

    if jsonl is not None and (old or new):
        raise InputRefused("give two files or --jsonl, not both")
    if jsonl is not None:
        _score_rows(jsonl, embed, workspace)
        return
    if old is None or new is None:
        raise InputRefused("give two files, OLD and NEW, or rows by --jsonl FILE")
    found = _compared(Path(old), Path(new), embed, workspace)
    emit("drift", {"path": new, **_plain(found)}, as_json=json, lines=_lines(found))


def _compared(old: Path, new: Path, embed: bool, workspace: Path | None) -> Drift:
    from instar.engine.drift import compare
    from instar.engine.drift.shift import shifted
    from instar.engine.drift.versions import compare_bytes, text_of

    before, after = _content(old), _content(new)
    told = text_of(before, new.name), text_of(after, new.name)
    if told[0] is None or told[1] is None:
        return compare_bytes(before, after)
    found = compare(new.name, told[0], told[1])
    if embed:
        with _model(workspace) as model:
            found = shifted(found, told[0], told[1], model)
    return found


def _score_rows(source: str, embed: bool, workspace: Path | None) -> None:
    """Reads every row before the first score is told; then tells one by one."""
    import msgspec

    from instar.engine.drift import compare
    from instar.engine.drift.rows import edits, scored
    from instar.engine.drift.shift import shifted

    lines = sys.stdin.buffer.read() if source == "-" else _content(Path(source))
    rows = edits(lines.split(b"\n"), "stdin" if source == "-" else source)
    with _model(workspace) if embed else _no_model() as model:
        for row in rows:
            found = compare(row.edit.path, row.edit.before, row.edit.after)
            if model is not None:
                found = shifted(found, row.edit.before, row.edit.after, model)
            write_json(msgspec.json.encode(scored(row.edit.path, found)).decode())


def _content(path: Path) -> bytes:
    from instar.fsm.errors import InputRefused

    try:
        return path.read_bytes()
    except OSError as error:
        raise InputRefused(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def _model(workspace: Path | None) -> Iterator[Embed]:
    from instar.engine.service import Client, embed_texts
    from instar.engine.status import worker_runs

    runtime = runtime_at(workspace)
    try:
        if worker_runs(runtime.workspace) and runtime.workspace.socket.exists():
            client = Client(runtime.workspace.socket)
            yield lambda texts: client.embed(texts)[1]
        else:
            yield lambda texts: embed_texts(runtime, texts)[1]
    finally:
        runtime.close()


@contextmanager
def _no_model() -> Iterator[None]:
    yield None


def _plain(found: Drift) -> dict[str, object]:
    from .output import plain

    content: dict[str, object] = plain(found)
    return content


def _lines(found: Drift) -> list[str]:
    verdict = "meaning changed" if found.changed else "meaning kept"
    head = f"drift {found.drift:.3f}  similarity {found.similarity:.3f}  {verdict}  (by {found.how})"
    return [head, *(f"  {reason}" for reason in found.because)]
