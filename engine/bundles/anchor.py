"""Anchors: the head of the log in one line, to be kept where whoever can write the log cannot reach.

A chain alone does not show that its tail was cut off, or that its own writer built it anew. Whoever kept an anchor can
tell: the log must reach the anchor's event, and hold its hash there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from instar.fsm.errors import AnchorForeign, ConfigError, InstarError, LogCorrupt, SignatureInvalid
from instar.fsm.events import WorkspaceInitialized
from instar.fsm.words import Digest, Seq
from instar.store.clock import iso
from instar.store.reader import LogReader, Row

from .chained_rows import chained_rows
from .merkle import MerkleTree
from .signing import SigningKey, check_signature

FORMAT = "instar-anchor-1"
FORM = f"{FORMAT} WORKSPACE SEQ HASH MERKLEROOT TIME [SIGNATURE]"
_LINE = re.compile(
    rf"{FORMAT} (?P<workspace>[!-~]{{1,128}}) (?P<seq>[1-9][0-9]{{0,17}}) (?P<hash>[0-9a-f]{{64}}) "
    r"(?P<root>[0-9a-f]{64}) (?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z)( (?P<signature>[0-9a-f]{128}))?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Anchor(Struct, frozen=True, kw_only=True):
    """The head of a log at one moment.

    Attributes:
        hash: of the event ``seq``.
        merkle_root: over the hashes of the events 1 to ``seq``.
        recorded_at_us: when that event was recorded, so that an anchor says only what the log can be held to.
        signature: Ed25519 over ``text``, 128 hexadecimal digits.
    """

    workspace: str
    seq: Seq
    hash: Digest
    merkle_root: Digest
    recorded_at_us: int
    signature: str | None = None

    @property
    def text(self) -> str:
        """The line without a signature: what is signed."""
        return f"{FORMAT} {self.workspace} {self.seq} {self.hash} {self.merkle_root} {iso(self.recorded_at_us)}"

    @property
    def line(self) -> str:
        """The whole line."""
        return self.text if self.signature is None else f"{self.text} {self.signature}"


class Anchored(Struct, frozen=True, kw_only=True):
    """What an anchor's check found: the log goes on from the anchor to its head, unbroken."""

    anchor: Anchor
    head: Seq
    since: int
    """Events after the anchor."""
    signature: str
    """``valid``, ``none``, or ``not checked`` where no public key was given."""


def workspace_of(reader: LogReader) -> str:
    """Gives the name that a workspace got when it was set up.

    Raises:
        LogCorrupt: the log does not begin with the event that says it.
        InstarError: the name cannot stand in one line.
    """
    first = reader.get(1).event
    if not isinstance(first, WorkspaceInitialized):
        raise LogCorrupt(f"the log begins with {type(first).__name__}, not with WorkspaceInitialized")
    if not re.fullmatch(r"[!-~]{1,128}", first.workspace):
        raise InstarError(f"the workspace's name {first.workspace!r} cannot stand in one line; it was left as it is")
    return first.workspace


def make_anchor(reader: LogReader, *, to: Seq | None = None, key: SigningKey | None = None) -> Anchor:
    """Reads the whole chain and gives its head, signed if there is a key.

    Args:
        reader: the log.
        to: the event to anchor; the head by default.
        key: signs the anchor.

    Raises:
        LogCorrupt: the chain is broken; a broken log is not worth a witness.
    """
    seq = reader.head() if to is None else to
    workspace = workspace_of(reader)
    tree, last = MerkleTree(), None
    for last in chained_rows(reader, Seq(1), seq):
        tree.add(last[13])
    if last is None:
        raise LogCorrupt("the log has no events, so there is nothing to anchor")
    return anchor_at(last, tree.root(), workspace, key)


def anchor_at(row: Row, merkle_root: Digest, workspace: str, key: SigningKey | None) -> Anchor:
    """Makes the anchor of a row that was read, with the root over it and all rows before it."""
    anchor = Anchor(workspace=workspace, seq=row[0], hash=row[13], merkle_root=merkle_root, recorded_at_us=row[3])
    return anchor if key is None else replace(anchor, signature=key.sign(anchor.text.encode()))


def parse_anchor(text: str) -> Anchor:
    """Reads one anchor.

    Raises:
        ConfigError: it is none.
    """
    line = text.strip()
    match = _LINE.fullmatch(line)
    if match is None:
        shown = line if len(line) < 60 else f"{line[:60]}…"
        raise ConfigError(f"{shown!r} is no anchor. One has this form: {FORM}")
    try:
        moment = datetime.strptime(match["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigError(f"the anchor's time {match['time']} is none: {error}") from error
    return Anchor(
        workspace=match["workspace"],
        seq=Seq(int(match["seq"])),
        hash=Digest(match["hash"]),
        merkle_root=Digest(match["root"]),
        recorded_at_us=(moment - _EPOCH) // timedelta(microseconds=1),
        signature=match["signature"],
    )


def parse_anchors(text: str) -> list[Anchor]:
    """Reads anchors, one a line; empty lines and lines that begin with ``#`` are passed over.

    Raises:
        ConfigError: a line is none, or there is none.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ConfigError(f"there is no anchor in it. One has this form: {FORM}")
    return [parse_anchor(line) for line in lines]


def check_anchor(reader: LogReader, anchor: Anchor, *, public_key: str | None = None) -> Anchored:
    """Checks that nothing before an anchor was cut off or rewritten, and that the whole chain holds.

    Raises:
        AnchorForeign: it is an anchor of another workspace.
        LogCorrupt: the log ends before the anchor, holds another hash there, or its chain is broken.
        SignatureInvalid: the anchor was not signed by the given key.
        ConfigError: the anchor contradicts itself: the hash is the log's, the rest is not.
    """
    return check_anchors(reader, [anchor], public_key=public_key)[0]


def check_anchors(reader: LogReader, anchors: Sequence[Anchor], *, public_key: str | None = None) -> list[Anchored]:
    """Checks many anchors in one pass over the log; see ``check_anchor``."""
    signatures = [_check_origin(reader, anchor, public_key) for anchor in anchors]
    head = reader.head()
    at: dict[int, list[Anchor]] = {}
    for anchor in sorted(anchors, key=lambda anchor: anchor.seq):
        at.setdefault(anchor.seq, []).append(anchor)
        if anchor.seq > head:
            raise LogCorrupt(
                f"the log was cut off: it ends at event {head}, but event {anchor.seq} was witnessed "
                f"({iso(anchor.recorded_at_us)}). Restore the log from a backup that holds it."
            )
    tree = MerkleTree()
    for row in chained_rows(reader, Seq(1), head):
        tree.add(row[13])
        for anchor in at.get(row[0], ()):
            _compare(anchor, row[13], row[3], tree)
    return [
        Anchored(anchor=anchor, head=head, since=head - anchor.seq, signature=signature)
        for anchor, signature in zip(anchors, signatures, strict=True)
    ]


def _check_origin(reader: LogReader, anchor: Anchor, public_key: str | None) -> str:
    workspace = workspace_of(reader)
    if anchor.workspace != workspace:
        raise AnchorForeign(
            f"the anchor is of workspace {anchor.workspace}, this is {workspace}. Give an anchor of this one; "
            "if it should be one, another log was put in this log's place."
        )
    if public_key is None:
        return "none" if anchor.signature is None else "not checked"
    if anchor.signature is None:
        raise SignatureInvalid(
            f"the anchor of event {anchor.seq} is not signed, so the public key cannot vouch for it."
        )
    check_signature(public_key, anchor.text.encode(), anchor.signature, f"the anchor of event {anchor.seq}")
    return "valid"


def _compare(anchor: Anchor, own_hash: str, at_us: int, tree: MerkleTree) -> None:
    if anchor.hash != own_hash:
        raise LogCorrupt(
            f"the log was rewritten: its chain holds, but event {anchor.seq} has the hash {own_hash[:16]}…, and "
            f"{anchor.hash[:16]}… was witnessed. Restore the log from a backup; the difference is at or before it."
        )
    if anchor.merkle_root != tree.root() or anchor.recorded_at_us != at_us:
        what = "time" if anchor.merkle_root == tree.root() else "Merkle root"
        raise ConfigError(
            f"the anchor of event {anchor.seq} names the right hash, but another {what} than the log. "
            "The hash settles it: the log is whole up to there, and the anchor was damaged. Look for a good copy of it."
        )
