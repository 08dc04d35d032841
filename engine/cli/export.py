"""``instar export``."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .keys import Key, signing_key
from .output import Json, Root, emit, reader_at, say

if TYPE_CHECKING:
    from instar.engine.bundles.bundle import Exported
    from instar.engine.bundles.signing import SigningKey
    from instar.fsm.words import Seq
    from instar.store.reader import LogReader


class BlobsWanted(StrEnum):
    """Which blobs go into a bundle."""

    NONE = "none"
    NAMED = "named"
    ALL = "all"


def command(
    bundle: Annotated[Path, typer.Argument(help="A folder to make, or a file: NAME.tar, or the proof of --proof.")],
    first: Annotated[str | None, typer.Option("--from", help="The first event, as a reference; 1 by default.")] = None,
    to: Annotated[str | None, typer.Option(help="The last event, as a reference; the head by default.")] = None,
    blobs: Annotated[
        BlobsWanted,
        typer.Option(help="Which blobs: those that an exported event names, all in the store, or none."),
    ] = BlobsWanted.NAMED,
    blob_bytes_max: Annotated[
        int | None, typer.Option(min=0, help="Leave larger blobs out, and list them as left out.")
    ] = None,
    proof: Annotated[
        str | None, typer.Option(help="In place of a bundle: prove that the log holds this event; - writes to stdout.")
    ] = None,
    key: Key = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Do not sign.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Write a bundle of the log that others can verify by tools/verify_bundle.py, without Instar."""
    from instar.engine.bundles.bundle import export
    from instar.engine.references import resolve
    from instar.fsm.errors import ConfigError

    if unsigned and key is not None:
        raise ConfigError("--unsigned and --key contradict each other: give one")
    if proof is None and str(bundle) == "-":
        raise ConfigError("a bundle is a folder or a file, and does not go to standard output: give a name, or --proof")
    reader = reader_at(workspace)
    root = reader.path.parent.parent
    begin = resolve(reader, first) if first is not None else None
    end = resolve(reader, to) if to is not None else None
    signer = None if unsigned else signing_key(key, root)
    if proof is not None:
        _prove(reader, bundle, proof, end, signer, as_json=json)
        return
    exported = export(
        reader, bundle, first=begin, last=end, wanted=blobs.value, blob_bytes_max=blob_bytes_max, key=signer
    )
    reader.close()
    if bundle.resolve().is_relative_to(root):
        say(f"{bundle} lies in the agent's own folder: the watcher takes it for the agent's files. Move it elsewhere.")
    emit("export", exported, as_json=json, lines=_lines(exported))


def _lines(exported: Exported) -> list[str]:
    lines = [
        f"exported events {exported.first} to {exported.last} and {exported.blobs} blobs "
        f"({exported.blob_bytes / 1e6:.1f} MB) to {exported.path}",
        f"  head hash    {exported.head_hash}",
        f"  merkle root  {exported.merkle_root}",
        f"  signed by    {exported.public_key or 'nobody'}",
    ]
    if exported.erased:
        lines.append(f"  erased       {exported.erased} payloads")
    if exported.left_out:
        listed = ", ".join(f"{blob.sha256[:12]} ({blob.reason})" for blob in exported.left_out[:3])
        more = f" and {len(exported.left_out) - 3} more" if len(exported.left_out) > 3 else ""
        lines.append(f"  left out     {listed}{more}")
    return lines


def _prove(
    reader: LogReader, file: Path, proof: str, end: Seq | None, signer: SigningKey | None, *, as_json: bool
) -> None:
    from instar.engine.bundles.proof import prove, write_proof
    from instar.engine.references import resolve

    seq = resolve(reader, proof)
    content = prove(reader, seq, to=end, key=signer)
    reader.close()
    if str(file) == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    write_proof(content, file)
    found = {"path": file, "seq": seq, "bytes": len(content), "public_key": signer.public if signer else None}
    emit("export", found, as_json=as_json, lines=[f"proved event {seq} in {file}"])
