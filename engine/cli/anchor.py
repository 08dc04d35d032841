"""``instar anchor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .keys import Key, key_path, signing_key
from .output import Json, Root, emit, reader_at

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchor


def command(
    sign: Annotated[bool, typer.Option("--sign", help="Sign it; --key alone says so too.")] = False,
    key: Key = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make a signing key, and do nothing else.")] = False,
    to: Annotated[str | None, typer.Option(help="The event to anchor, as a reference; the head by default.")] = None,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Print the head of the log in one line, to be kept where nobody who can write the log can reach."""
    from instar.engine.bundles.anchor import make_anchor
    from instar.engine.references import resolve

    reader = reader_at(workspace)
    root = reader.path.parent.parent
    if new_key:
        reader.close()
        _make_key(key_path(key), root, as_json=json)
        return
    signer = signing_key(key, root) if sign or key is not None else None
    anchor = make_anchor(reader, to=resolve(reader, to) if to is not None else None, key=signer)
    reader.close()
    emit("anchor", _content(anchor, signer.public if signer else None), as_json=json, lines=[anchor.line])


def _content(anchor: Anchor, public: str | None) -> dict[str, object]:
    from instar.store.clock import iso

    return {
        "anchor": anchor.line,
        "workspace": anchor.workspace,
        "seq": anchor.seq,
        "hash": anchor.hash,
        "merkle_root": anchor.merkle_root,
        "time": iso(anchor.recorded_at_us),
        "signature": anchor.signature,
        "public_key": public,
    }


def _make_key(path: Path, root: Path, *, as_json: bool) -> None:
    from instar.engine.bundles.signing import new_key

    made = new_key(path, workspace=root)
    public_path = path.with_suffix(".pub")
    lines = [f"made {path}, for you alone; give {public_path} to whoever verifies:", made.public]
    content = {"key": path, "public_key_file": public_path, "public_key": made.public}
    emit("anchor", content, as_json=as_json, lines=lines)
