"""``instar verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from instar.engine.visible import visible

from .anchors import given_anchors
from .output import Json, Root, emit, plain, reader_at

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchored
    from instar.engine.keeping.integrity import Integrity


def command(
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            help="Check too that the log still holds this head: a line of `instar anchor`, or a file of them."
        ),
    ] = None,
    public_key: Annotated[
        str | None, typer.Option(help="Check the anchors' signatures by this key: 64 hexadecimal digits, or a file.")
    ] = None,
    blobs: Annotated[bool, typer.Option("--blobs/--no-blobs", help="Read every blob that an event needs.")] = True,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Check everything that is stored: the chain, the transitions, state snapshots, every blob that an event needs."""
    from instar.engine.bundles.anchor import check_anchors
    from instar.engine.bundles.signing import public_key as read_public_key
    from instar.engine.keeping.integrity import check
    from instar.fsm.errors import ConfigError, LogCorrupt

    if public_key is not None and not anchor:
        raise ConfigError("--public-key checks the signatures of anchors: give --anchor too")
    anchors = given_anchors(anchor or [])
    signer = read_public_key(public_key) if public_key is not None else None
    reader = reader_at(workspace)
    held = check_anchors(reader, anchors, public_key=signer) if anchors else []
    found = check(reader, with_blobs=blobs)
    reader.close()
    if found.problems:
        problems = found.problems[:20]
        listed = "\n  ".join(problems if json else map(visible, problems))
        raise LogCorrupt(f"{len(found.problems)} problems:\n  {listed}\nRestore what is damaged from a backup.")
    content = {**plain(found), "anchors": [_content(one) for one in held]}
    emit("verify", content, as_json=json, lines=[_text(found, with_blobs=blobs), *map(_anchor_text, held)])


def _text(found: Integrity, *, with_blobs: bool) -> str:
    read = (
        f"{found.blobs} blobs ({found.blob_bytes / 1e6:.1f} MB), {found.trees} trees, {found.checkpoints} checkpoints, "
        if with_blobs
        else "blobs not read, "
    )
    gone = f"; erased: {found.erased_payloads} payloads, {found.erased_blobs} blobs" if found.erased_payloads else ""
    gone += f"; collected, wholly or in part: {found.collected} things" if found.collected else ""
    return f"whole: {found.events} events, {read}{found.state_snapshots} state snapshots{gone}"


def _anchor_text(held: Anchored) -> str:
    from instar.store.clock import iso

    signed = {"valid": ", signature valid", "not checked": ", signature not checked: give --public-key"}
    return (
        f"anchored: event {held.anchor.seq} is the one that was witnessed ({iso(held.anchor.recorded_at_us)}), "
        f"{held.since} since{signed.get(held.signature, '')}"
    )


def _content(held: Anchored) -> dict[str, object]:
    return {"seq": held.anchor.seq, "hash": held.anchor.hash, "since": held.since, "signature": held.signature}
