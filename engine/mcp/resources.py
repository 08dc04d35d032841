"""What can be read by its address: an event, and the bytes that an event names by their digest."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import NamedTuple

from .bounds import as_text, fit
from .calling import Envelope, call, failed
from .reading import Show

EVENT = "instar://event/{seq}"
BLOB = "instar://blob/{digest}"
BLOB_BYTES_MAX = 256 * 1024
"""The largest blob that is given."""
_EVENT = re.compile(r"instar://event/([0-9]{1,18})", re.A)
_BLOB = re.compile(r"instar://blob/([0-9a-f]{64})", re.A)


class Read(NamedTuple):
    """What stands at an address: a text, or bytes in base64."""

    text: str
    mime_type: str
    is_base64: bool = False


class NotThere(Exception):
    """Nothing can be read at an address; says why, and what can."""


def read(uri: str, root: Path) -> Read:
    """Reads what an address names.

    Raises:
        NotThere: it names nothing of this workspace, or what it names cannot be given.
    """
    if found := _EVENT.fullmatch(uri):
        return Read(
            as_text(fit(_data(call(Show(reference=int(found[1])), root, may_change=False)))), "application/json"
        )
    if found := _BLOB.fullmatch(uri):
        return _blob(found[1], root)
    raise NotThere(f"{uri[:200]!r} names nothing here. Known: {EVENT} with a position, {BLOB} with a whole digest.")


def _data(whole: Envelope) -> Envelope:
    if not whole["ok"]:
        raise NotThere(whole["error"]["message"])
    event: Envelope = whole["data"]
    return event


def _blob(digest: str, root: Path) -> Read:
    from contextlib import closing

    from instar.engine.cli.failures import failure_of
    from instar.engine.cli.output import reader_at
    from instar.fsm.words import Digest
    from instar.store.blobs import BlobStore

    try:
        with closing(reader_at(root)) as reader:
            content = BlobStore(reader.path.with_name("blobs"), reader).get(Digest(digest))
    except Exception as error:
        _data(failed(failure_of(error, root)))
        raise
    if len(content) > BLOB_BYTES_MAX:
        raise NotThere(f"blob {digest} has {len(content)} bytes; at most {BLOB_BYTES_MAX} are given this way")
    try:
        return Read(content.decode("utf-8"), "text/plain")
    except UnicodeDecodeError:
        return Read(base64.b64encode(content).decode(), "application/octet-stream", is_base64=True)
