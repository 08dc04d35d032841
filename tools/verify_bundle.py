#!/usr/bin/env python3
"""Checks a bundle that ``instar export`` wrote, or the proof of one event, without Instar and without trusting it.

Needs Python 3.8 or newer and nothing else; the package ``cryptography`` for the signature alone. Everything that a
bundle says is computed again from its bytes, by the rules of docs/audit.md.

What a bundle cannot prove by itself: whose it is (give the signer's key, which you got elsewhere, with --public-key),
and that nothing was cut off or written anew before it was exported (give an anchor that you kept, with --anchor, or the
file that you gather them in: one that fits is enough, one that contradicts is too much).

Exit codes: 0 whole; 1 it cannot be read, or a check that was asked for cannot be made; 2 usage; 3 broken.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

OK, UNMET, BROKEN = 0, 1, 3
GENESIS = hashlib.sha256(b"instar log 1").hexdigest()
COLUMNS = {
    "seq": "number",
    "type": "text",
    "version": "number",
    "recorded_at_us": "number",
    "cycle": "number",
    "cause": "number or null",
    "actor": "text",
    "state_before": "text",
    "state_after": "text",
    "key": "text or null",
    "payload": "text or null",
    "payload_hash": "sha256",
    "prev_hash": "sha256",
    "hash": "sha256",
    "state_digest": "text or null",
}
HASHED = (
    "prev_hash",
    "seq",
    "type",
    "version",
    "recorded_at_us",
    "cycle",
    "cause",
    "actor",
    "state_before",
    "state_after",
    "key",
    "payload_hash",
    "state_digest",
)
MANIFEST = {
    "format": "text",
    "format_version": "number",
    "workspace": "text",
    "genesis": "sha256",
    "first": "number",
    "last": "number",
    "count": "number",
    "erased": "number",
    "prev_hash": "sha256",
    "head_hash": "sha256",
    "log_head": "number",
    "merkle_root": "sha256",
    "events_bytes": "number",
    "events_sha256": "sha256",
    "blobs": "object",
    "public_key": "sha256 or null",  # a key has 64 hexadecimal digits, as a digest has
}
BLOBS = {"wanted": "text", "blob_bytes_max": "number or null", "listed": "list", "left_out": "list"}
LISTED = {"sha256": "sha256", "size": "number"}
LEFT_OUT = {"sha256": "sha256", "reason": "text", "seq": "number or null", "size": "number or null"}
PROOF = {"format": "text", "format_version": "number", "row": "object", "path": "list", "anchor": "text"}
HEX = re.compile(r"[0-9a-f]{64}")
WORKSPACE = re.compile(r"[!-~]{1,128}")
ANCHOR = re.compile(
    r"(instar-anchor-1 ([!-~]{1,128}) ([1-9][0-9]{0,17}) ([0-9a-f]{64}) ([0-9a-f]{64}) "
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z))(?: ([0-9a-f]{128}))?"
)
FILES = ("events.jsonl", "manifest.json", "signature")
FOLDERS = re.compile(r"blobs(/[0-9a-f]{2})?")
BLOB = re.compile(r"blobs/[0-9a-f]{2}/[0-9a-f]{62}")
MANIFEST_BYTES_MAX = 1 << 30
SMALL_BYTES_MAX = 1 << 12
LINE_BYTES_MAX = 1 << 28
LIST_BYTES_MAX = 1 << 30
TEXT_BYTES_MAX = 1 << 26
"""Of a file of anchors: some 250,000 of them."""
REASONS = ("erased", "collected", "too large")
FAULTS_MAX = 20
CHUNK_BYTES = 1 << 20
TIME_US_MAX = 253402300800000000
"""The year 10000."""
PUBLIC_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in PEM (RFC 8410)."""


NO_LIBRARY = "the package cryptography is not installed"


class Fault(Exception):
    """Something is broken, and what comes after it in the same part cannot be judged."""


class Unreadable(Exception):
    """There is nothing to judge: no such path, or no permission."""


class Report:
    """What was found.

    Attributes:
        facts: what holds, by name.
        lines: what is printed, as (name, text).
        faults: what is broken; at most FAULTS_MAX of them, and ``more`` beyond.
        unmet: checks that were asked for and could not be made.
        notes: what a reader must know to judge the result.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.lines: list[tuple[str, str]] = []
        self.faults: list[str] = []
        self.more = 0
        self.unmet: list[str] = []
        self.notes: list[str] = []

    def broken(self, text: str) -> None:
        """Notes a fault; of very many, only how many."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)
        else:
            self.more += 1

    def tell(self, name: str, text: str) -> None:
        """Adds a line to what is printed."""
        self.lines.append((name, text))

    @property
    def exit_code(self) -> int:
        """What the program returns."""
        return BROKEN if self.faults else UNMET if self.unmet else OK


def shown(value: object, width: int = 80) -> str:
    """Writes a value from a bundle so that it does nothing to a terminal and does not fill it."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("ascii", "backslashreplace").decode()
    text = "".join(char if " " <= char <= "~" else f"\\x{ord(char):02x}" for char in text)
    return text if len(text) <= width else text[: width - 3] + "..."


# ---- where the files are -------------------------------------------------------------------------------------------


class Folder:
    """A bundle as a folder. Follows no link, opens nothing but plain files."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self.sizes = dict(self._files("", report))

    def _files(self, folder: str, report: Report) -> Iterator[tuple[str, int]]:
        try:
            with os.scandir(self.path / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise Unreadable(f"{shown(str(self.path))} cannot be read: {error.strerror}") from error
            report.broken(f"the folder {folder} cannot be read: {error.strerror}")
            return
        if folder and not entries:
            report.broken(f"{folder} is an empty folder, which no export writes")
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False) and FOLDERS.fullmatch(name):
                yield from self._files(name, report)
            elif name not in FILES and not BLOB.fullmatch(name):
                report.broken(f"{shown(name)} is no part of a bundle")
            elif not entry.is_file(follow_symlinks=False):
                report.broken(f"{name} is no plain file")
            else:
                yield name, entry.stat(follow_symlinks=False).st_size

    def open(self, name: str) -> BinaryIO:
        """Opens one of the files that were found."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(self.path / name, flags)
        except OSError as error:
            raise Fault(f"{name} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Fault(f"{name} is no plain file")
        return os.fdopen(descriptor, "rb")


class Archive:
    """A bundle as one ``.tar``, in exactly the form that ``instar export`` writes; nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        self._at: dict[str, int] = {}
        try:
            with path.open("rb") as file:
                self._index(file, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise Unreadable(f"{shown(str(path))} cannot be read: {error.strerror}") from error

    def _index(self, file: BinaryIO, whole: int) -> None:
        at, last = 0, ""
        while True:
            header = file.read(512)
            if header == bytes(512):
                break
            name, size = self._header(header, at)
            if name <= last:
                raise Fault(f"the archive holds {name} twice, or not in the order of names")
            self.sizes[name], self._at[name] = size, at + 512
            padding = -size % 512
            at, last = at + 512 + size + padding, name
            if at > whole:
                raise Fault(f"the archive ends within {name}")
            file.seek(at - padding)
            if file.read(padding) != bytes(padding):
                raise Fault(f"the archive holds something behind {name}")
        if whole != -(-(at + 1024) // 10240) * 10240 or any(file.read(10241)):
            raise Fault("the archive holds something behind its end, or ends too early")

    @staticmethod
    def _header(header: bytes, at: int) -> tuple[str, int]:
        if len(header) < 512:
            raise Fault(f"the archive ends early, at byte {at}")
        name = header[:100].rstrip(b"\0").decode("ascii", "replace")
        size = header[124:135]
        if name not in FILES and not BLOB.fullmatch(name):
            raise Fault(f"{shown(name)} in the archive is no part of a bundle")
        if not re.fullmatch(rb"[0-7]{11}", size) or header != tar_header(name, int(size, 8)):
            raise Fault(
                f"the entry of {name} in the archive is not as `instar export` writes it. If somebody else made the "
                "archive of a bundle's folder, unpack it and check the folder"
            )
        return name, int(size, 8)

    def open(self, name: str) -> BinaryIO:
        """Opens the archive where one of the files begins."""
        file = self.path.open("rb")
        file.seek(self._at[name])
        return file


def tar_header(name: str, size: int) -> bytes:
    """Gives the 512 bytes before a file in an archive (POSIX ustar): no time, no owner, mode 0644."""
    fields = [
        name.encode().ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % size + b"%011o\0" % 0,
        b" " * 8 + b"0" + bytes(100),
        b"ustar\00000" + bytes(64) + b"0000000\0" * 2 + bytes(167),
    ]
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def read_small(source: Folder | Archive, name: str, bytes_max: int) -> bytes:
    """Reads a file whole that must not be large.

    Raises:
        Fault: it is not there, or too large.
    """
    if name not in source.sizes:
        raise Fault(f"{name} is missing")
    size = source.sizes[name]
    if size > bytes_max:
        raise Fault(f"{name} has {size} bytes, more than the {bytes_max} that are read")
    with source.open(name) as file:
        return file.read(size)


# ---- JSON ----------------------------------------------------------------------------------------------------------


class Number(str):
    """A number as it is spelled."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_SPELLING_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_constant)


def canonical(text: str, *, numbers: bool = False) -> Any:
    """Reads canonical JSON: keys sorted by code point and each once, no white space, no escape that need not be.

    Args:
        text: the whole text.
        numbers: accept any spelling of a number that JSON allows, since programs spell fractions differently.

    Raises:
        ValueError: it is no JSON, or not in canonical form.
    """
    try:
        content = _DECODER.decode(text)
        if _ENCODER.encode(content) == text:
            return content
        if numbers and _spelled(_SPELLING_DECODER.decode(text)) == text:
            return content
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    raise ValueError("it is not in canonical form (sorted keys, each once, no white space)")


def _spelled(value: Any) -> str:
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{_spelled(key)}:{_spelled(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_spelled, value)) + "]"
    return _ENCODER.encode(value)


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_sha256(value: Any) -> bool:
    return type(value) is str and HEX.fullmatch(value) is not None


KINDS: dict[str, Callable[[Any], bool]] = {
    "number": _is_number,
    "number or null": lambda value: value is None or _is_number(value),
    "text": lambda value: type(value) is str,
    "text or null": lambda value: value is None or type(value) is str,
    "sha256": _is_sha256,
    "sha256 or null": lambda value: value is None or _is_sha256(value),
    "list": lambda value: type(value) is list,
    "object": lambda value: type(value) is dict,
}


def check_shape(content: Any, shape: dict[str, str], what: str) -> None:
    """Checks that an object has exactly these fields, each of its kind.

    Raises:
        Fault: it has not.
    """
    if not isinstance(content, dict):
        raise Fault(f"{what} is no object")
    if content.keys() != shape.keys():
        odd = sorted(set(content) ^ set(shape))[0]
        raise Fault(f"{what} {'has the unknown' if odd in content else 'lacks the'} field {shown(odd)}")
    for name, kind in shape.items():
        if not KINDS[kind](content[name]):
            raise Fault(f"{what}: {name} must be {kind}, not {shown(content[name])}")


def sha256(text: str) -> str:
    """Hashes a text in UTF-8; what is none has a hash that fits nothing."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


# ---- events --------------------------------------------------------------------------------------------------------


def row_hash(row: dict[str, Any]) -> str:
    """Hashes a row: its columns as text in a fixed order, joined by line feeds; null is empty text."""
    return sha256("\n".join("" if row[name] is None else str(row[name]) for name in HASHED))


def row_faults(row: dict[str, Any]) -> Iterator[str]:
    """Checks one row by itself: its payload, its hash, and that no column can be taken for two."""
    for name in ("type", "actor", "state_before", "state_after", "key", "state_digest"):
        if "\n" in (row[name] or ""):
            yield f"its {name} holds a line feed, so the hash does not prove where the column ends"
    if row["cause"] is not None and not 0 < row["cause"] < row["seq"]:
        yield f"its cause {row['cause']} is not before it"
    if row["recorded_at_us"] >= TIME_US_MAX:
        yield "its time is beyond the year 9999"
    own = row_hash(row)
    if own != row["hash"]:
        yield f"its columns hash to {own[:16]}..., the row says {row['hash'][:16]}..."
    if row["payload"] is None:
        return
    own = sha256(row["payload"])
    if own != row["payload_hash"]:
        yield f"its payload hashes to {own[:16]}..., the row says {row['payload_hash'][:16]}..."
    try:
        content = canonical(row["payload"], numbers=True)
    except ValueError as error:
        yield f"its payload cannot be taken: {shown(str(error))}"
        return
    if not isinstance(content, dict) or content.get("type") != row["type"]:
        yield f"its payload is not of the type {shown(row['type'])}"


class Merkle:
    """The tree of RFC 9162, section 2.1, over the hashes of rows."""

    def __init__(self) -> None:
        self._full: list[tuple[int, bytes]] = []

    @staticmethod
    def leaf(row: str) -> bytes:
        """Hashes the hash of a row as a leaf."""
        return hashlib.sha256(b"\0" + bytes.fromhex(row)).digest()

    @staticmethod
    def node(left: bytes, right: bytes) -> bytes:
        """Hashes two children."""
        return hashlib.sha256(b"\1" + left + right).digest()

    def add(self, row: str) -> None:
        """Adds the next row: two full subtrees of one size become one."""
        size, own = 1, self.leaf(row)
        while self._full and self._full[-1][0] == size:
            own = self.node(self._full.pop()[1], own)
            size *= 2
        self._full.append((size, own))

    def root(self) -> str:
        """Gives the root over all rows so far."""
        if not self._full:
            return hashlib.sha256(b"").hexdigest()
        own = self._full[-1][1]
        for _, left in reversed(self._full[:-1]):
            own = self.node(left, own)
        return own.hex()


class Events:
    """Goes through the events of a bundle in order."""

    def __init__(self, report: Report, manifest: dict[str, Any], anchors: tuple[Anchor, ...]) -> None:
        self.tree = Merkle()
        self.whole = hashlib.sha256()
        self.bytes = self.count = self.erased = 0
        self.lists: list[str] = []
        self.head: dict[str, Any] | None = None
        self._report = report
        self._from_start = manifest["first"] == 1
        self._workspace = manifest["workspace"]
        self._anchors: dict[int, list[Anchor]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.seq, []).append(anchor)
        self._expected = manifest["first"]
        self._prev_hash: str | None = GENESIS if self._from_start else manifest["prev_hash"]
        self._last_us = 0
        self._first = manifest["first"]
        self._missing: dict[int, str] = {}
        self._settled: set[int] = set()

    def read(self, file: BinaryIO, size: int) -> None:
        """Takes every line."""
        while self.bytes < size:
            line = file.readline(min(LINE_BYTES_MAX, size - self.bytes))
            if not line:
                break
            self.whole.update(line)
            self.bytes += len(line)
            self.count += 1
            try:
                self._take(self._parse(line))
            except Fault as fault:
                self._report.broken(str(fault))
                self._expected, self._prev_hash = self._expected + 1, None
        for seq in sorted(self._missing):
            self._report.broken(f"event {seq} has no payload, and no later event says that it was erased")

    def _parse(self, line: bytes) -> dict[str, Any]:
        what = f"line {self.count} of events.jsonl"
        if not line.endswith(b"\n"):
            raise Fault(f"{what} does not end, or has more than {LINE_BYTES_MAX} bytes")
        try:
            row: dict[str, Any] = canonical(line[:-1].decode("utf-8"))
        except ValueError as error:
            raise Fault(f"{what} cannot be taken: {shown(str(error))}") from error
        check_shape(row, COLUMNS, what)
        return row

    def _take(self, row: dict[str, Any]) -> None:
        broken, seq = self._report.broken, row["seq"]
        if seq != self._expected:
            broken(f"event {seq} stands where event {self._expected} should be")
        for fault in row_faults(row):
            broken(f"event {seq}: {fault}")
        if self._prev_hash is not None and row["prev_hash"] != self._prev_hash:
            before = "the beginning of every log" if seq == 1 else "the row before it"
            broken(f"event {seq} does not follow from {before}, but from {row['prev_hash'][:16]}...")
        if row["recorded_at_us"] < self._last_us:
            broken(f"event {seq} was recorded before the event in front of it")
        if seq == 1 and row["payload"] is not None:
            self._check_workspace(row)
        self._check_erasure(row)
        if row["type"] == "BlobsCollected" and row["payload"] is not None:
            self._take_list(row)
        self.tree.add(row["hash"])
        for anchor in self._anchors.get(seq, ()):
            compare(anchor, row, self.tree.root() if self._from_start else None, self._report)
        self._expected, self._prev_hash, self._last_us, self.head = seq + 1, row["hash"], row["recorded_at_us"], row

    def _check_workspace(self, row: dict[str, Any]) -> None:
        try:
            content = canonical(row["payload"], numbers=True)
        except ValueError:
            return  # said already
        name = content.get("workspace") if isinstance(content, dict) else None
        if (row["type"], name) != ("WorkspaceInitialized", self._workspace):
            self._report.broken(f"event 1 does not begin the workspace {shown(self._workspace)}")

    def _take_list(self, row: dict[str, Any]) -> None:
        try:
            self.lists.append(str(canonical(row["payload"], numbers=True)["blobs"]))
        except (ValueError, KeyError, TypeError):
            self._report.broken(f"event {row['seq']} is no collection that can be understood")

    def _check_erasure(self, row: dict[str, Any]) -> None:
        """Checks that a payload is missing exactly where a later event says that it was erased."""
        if row["payload"] is None:
            self._missing[row["seq"]] = row["payload_hash"]
            self.erased += 1
            return
        if row["type"] != "PayloadErased":
            return
        try:
            content = canonical(row["payload"], numbers=True)
            target, digest = content["target"], content["payload_hash"]
            if type(target) is not int or not isinstance(canonical(content["remains"], numbers=True), dict):
                raise ValueError("it names no event")
        except (ValueError, KeyError, TypeError):
            self._report.broken(f"event {row['seq']} is no erasure that can be understood")
            return
        if row["cause"] != target or target >= row["seq"]:
            self._report.broken(f"event {row['seq']} erases event {target}, which is not its cause")
        elif target in self._missing:
            if self._missing.pop(target) != digest:
                self._report.broken(f"event {row['seq']} erased another payload than the one missing at event {target}")
            self._settled.add(target)
        elif target >= self._first and target not in self._settled:
            self._report.broken(f"event {target} was erased by event {row['seq']}, and yet its payload is here")


# ---- anchors and signatures ----------------------------------------------------------------------------------------


class Anchor(NamedTuple):
    """The head of a log at one moment, as ``instar anchor`` prints it."""

    text: str
    workspace: str
    seq: int
    hash: str
    merkle_root: str
    time: str
    signature: str | None


def parse_anchor(line: str) -> Anchor:
    """Reads one line.

    Raises:
        ValueError: it is no anchor.
    """
    match = ANCHOR.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"{shown(line, 60)} is no anchor")
    text, workspace, seq, own, root, time, signature = match.groups()
    return Anchor(text, workspace, int(seq), own, root, time, signature)


def iso(at_us: int) -> str:
    """Writes a recorded time as an anchor does."""
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=at_us % TIME_US_MAX)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def compare(anchor: Anchor, row: dict[str, Any], root: str | None, report: Report) -> None:
    """Compares an anchor with the row of its event, and with the root over all rows to it where that is known."""
    if anchor.hash != row["hash"]:
        report.broken(
            f"the log was written anew: event {anchor.seq} has the hash {row['hash'][:16]}..., "
            f"the anchor says {anchor.hash[:16]}..."
        )
    elif root not in (None, anchor.merkle_root):
        report.broken(
            f"the anchor of event {anchor.seq} has the right hash and a wrong Merkle root: look for a good copy"
        )
    elif iso(row["recorded_at_us"]) != anchor.time:
        report.broken(f"the anchor of event {anchor.seq} has the right hash and a wrong time: look for a good copy")
    else:
        report.facts.setdefault("anchored", []).append(anchor.seq)
        report.tell("anchor", f"event {anchor.seq} is the one that was witnessed ({anchor.time})")


def check_origin(workspace: str, options: Options, report: Report) -> list[Anchor]:
    """Checks the workspace and the signature of the anchors given, and gives those that are of this workspace."""
    for anchor in options.anchors:
        if anchor.workspace != workspace:
            report.broken(f"the anchor is of another workspace, {shown(anchor.workspace)}")
        if anchor.signature is not None and options.public_key is not None:
            holds = verify_signature(options.public_key, anchor.text.encode(), anchor.signature)
            if holds is None:
                report.unmet.append(f"the anchor's signature was not checked: {NO_LIBRARY}")
            elif not holds:
                report.broken(f"the anchor of event {anchor.seq} was not signed by the key {options.public_key}")
    return [anchor for anchor in options.anchors if anchor.workspace == workspace]


def check_anchors(manifest: dict[str, Any], options: Options, report: Report) -> None:
    """Checks where the anchors given come from, and whether the bundle holds the events that they are of.

    Of several, as they gather in a file, one that can be compared is enough where a part of the log was exported.
    """
    first, last, head = manifest["first"], manifest["last"], manifest["log_head"]
    places = sorted({anchor.seq for anchor in check_origin(manifest["workspace"], options, report)})
    beyond = [seq for seq in places if seq > head]
    if beyond:
        report.broken(
            f"the log ends at event {head}, and event {listed(beyond)} was witnessed: it was cut off, unless the "
            "bundle is older than the anchor"
        )
    apart = [seq for seq in places if seq < first or last < seq <= head]
    if not apart:
        return
    if any(first <= seq <= last for seq in places):
        report.notes.append(f"anchors of event {listed(apart)}, which is not in the bundle, were not compared")
        return
    later = [seq for seq in apart if seq > last]
    wanted = f"--to {later[0]}" if later else f"--from {apart[-1]}"
    report.unmet.append(
        f"the bundle holds the events {first} to {last}, and the anchors given are of event {listed(apart)}: ask for "
        f"one that reaches it (`instar export BUNDLE {wanted}`), or give an anchor of an event that is in it"
    )


def listed(seqs: list[int]) -> str:
    """Writes a few positions, and how many more there are."""
    return ", ".join(map(str, seqs[:3])) + (f" and {len(seqs) - 3} more" if len(seqs) > 3 else "")


def judge_signature(
    own_key: str | None, message: bytes, signature: str | None, what: str, options: Options, report: Report
) -> None:
    """Verifies an Ed25519 signature by the key that was given, or at least by the one that comes with it."""
    public = options.public_key or own_key
    if signature is None:
        report.tell("signature", f"none: {what} is not signed")
        if options.public_key is not None:
            report.broken(f"{what} is not signed, though a key was given to check it by")
        return
    if public is None:
        report.tell("signature", "not checked: give --public-key")
        return
    if own_key not in (None, public):
        report.broken(f"{what} was signed by the key {own_key}, not by the one that was given")
        return
    holds = verify_signature(public, message, signature)
    if holds is None:
        report.tell("signature", f"not checked: {NO_LIBRARY}")
        if options.public_key is not None:
            report.unmet.append(f"the signature of {what} was not checked: {NO_LIBRARY}")
    elif not holds:
        report.broken(f"the signature of {what} was not made by the key {public}, or not over this text")
    elif options.public_key is None:
        report.tell("signature", f"fits the key that comes with it, {public}")
        report.notes.append("a key that comes with a bundle proves nothing about who signed: give --public-key")
    else:
        report.facts["signed_by"] = public
        report.tell("signature", f"valid: {what} was signed by {public}")


def verify_signature(public: str, message: bytes, signature: str) -> bool | None:
    """Says whether a signature holds; None where the package for it is not installed."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return None
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


# ---- a bundle ------------------------------------------------------------------------------------------------------


class Options(NamedTuple):
    """What the reader of a bundle brings along."""

    public_key: str | None = None
    anchors: tuple[Anchor, ...] = ()


def check_bundle(path: Path, options: Options) -> Report:
    """Checks a bundle, a folder or an archive.

    Raises:
        Unreadable: there is nothing to judge.
    """
    report = Report()
    try:
        report.tell("bundle", f"{shown(str(path))}, {'a folder' if path.is_dir() else 'an archive'}")
        source = Folder(path, report) if path.is_dir() else Archive(path)
        content = read_small(source, "manifest.json", MANIFEST_BYTES_MAX)
        manifest = parse_manifest(content)
        report.tell("workspace", manifest["workspace"])
        lists = _check_events(source, manifest, options, report)
        _check_blobs(source, manifest, report)
        _check_collected(source, manifest, lists, report)
        _check_head(source, manifest, hashlib.sha256(content).hexdigest(), options, report)
    except Fault as fault:
        report.broken(str(fault))
    return report


def parse_manifest(content: bytes) -> dict[str, Any]:
    """Reads a manifest and checks what can be checked in it alone.

    Raises:
        Fault: it is malformed, or contradicts itself.
    """
    try:
        if not content.endswith(b"\n"):
            raise ValueError("it does not end with a line feed")
        manifest: dict[str, Any] = canonical(content[:-1].decode("utf-8"))
    except ValueError as error:
        raise Fault(f"manifest.json cannot be taken: {shown(str(error))}") from error
    if isinstance(manifest, dict) and (manifest.get("format"), manifest.get("format_version")) != ("instar-bundle", 1):
        raise Fault("manifest.json is not of the format instar-bundle, version 1, which is the one known here")
    check_shape(manifest, MANIFEST, "manifest.json")
    check_shape(manifest["blobs"], BLOBS, "manifest.json: blobs")
    first, last = manifest["first"], manifest["last"]
    if not WORKSPACE.fullmatch(manifest["workspace"]):
        raise Fault(f"manifest.json: {shown(manifest['workspace'])} is no name of a workspace")
    if manifest["genesis"] != GENESIS or (first == 1 and manifest["prev_hash"] != GENESIS):
        raise Fault("manifest.json: genesis is not what every log begins with, the sha256 of `instar log 1`")
    if not 1 <= first <= last <= manifest["log_head"] or manifest["count"] != last - first + 1:
        raise Fault(f"manifest.json: there are no {manifest['count']} events from {first} to {last} in a log")
    if manifest["blobs"]["wanted"] not in ("none", "named", "all"):
        raise Fault("manifest.json: blobs: wanted must be none, named or all")
    return manifest


def _check_events(source: Folder | Archive, manifest: dict[str, Any], options: Options, report: Report) -> list[str]:
    """Checks the events; gives the blobs that list what collections took away."""
    if "events.jsonl" not in source.sizes:
        raise Fault("events.jsonl is missing")
    before = len(report.faults)
    check_anchors(manifest, options, report)
    events = Events(report, manifest, options.anchors)
    with source.open("events.jsonl") as file:
        events.read(file, source.sizes["events.jsonl"])
    for name, found in (
        ("count", events.count),
        ("erased", events.erased),
        ("events_bytes", events.bytes),
        ("events_sha256", events.whole.hexdigest()),
        ("merkle_root", events.tree.root()),
        ("last", events.head["seq"] if events.head else None),
        ("head_hash", events.head["hash"] if events.head else None),
    ):
        if manifest[name] != found:
            report.broken(f"manifest.json: {name} is {manifest[name]}, the events say {found}")
    first, last = manifest["first"], manifest["last"]
    report.facts.update(workspace=manifest["workspace"], first=first, last=last, events=events.count)
    report.facts.update(erased=events.erased, merkle_root=manifest["merkle_root"], head_hash=manifest["head_hash"])
    whole = (
        "the whole log"
        if (first, last) == (1, manifest["log_head"])
        else f"of a log that went to {manifest['log_head']}"
    )
    report.tell("events", f"{first} to {last}, {whole}" + (f"; {events.erased} erased" if events.erased else ""))
    if len(report.faults) == before:
        report.tell("chain", "whole: payloads, rows and links hash to what they say")
    report.tell("head hash", manifest["head_hash"])
    report.tell("merkle root", manifest["merkle_root"])
    return events.lists


def _check_blobs(source: Folder | Archive, manifest: dict[str, Any], report: Report) -> None:
    blobs = manifest["blobs"]
    listed = _by_name(blobs["listed"], LISTED, "listed")
    left_out = _by_name(blobs["left_out"], LEFT_OUT, "left_out")
    there = {name for name in source.sizes if name not in FILES}
    for digest in sorted(set(listed) & set(left_out)):
        report.broken(f"blob {digest[:16]}... is listed and left out at once")
    for digest in listed:
        name = f"blobs/{digest[:2]}/{digest[2:]}"
        if name not in there:
            report.broken(f"blob {digest[:16]}... is listed and not there")
            continue
        there.discard(name)
        try:
            _check_blob(source, name, digest, listed[digest]["size"])
        except Fault as fault:
            report.broken(str(fault))
    for name in sorted(there):
        report.broken(f"{name} is not listed in manifest.json")
    size = sum(blob["size"] for blob in listed.values())
    report.facts.update(blobs=len(listed), blob_bytes=size, blobs_left_out=len(left_out))
    reasons = [blob["reason"] for blob in left_out.values()]
    if set(reasons) - set(REASONS):
        report.broken("manifest.json: blobs: left_out has a reason that is none of " + ", ".join(REASONS))
    text = f"{len(listed)}, {size} bytes" if blobs["wanted"] != "none" else "none were wanted"
    text += "".join(f"; {reasons.count(reason)} left out: {reason}" for reason in REASONS if reason in reasons)
    report.tell("blobs", text)


def _check_collected(source: Folder | Archive, manifest: dict[str, Any], lists: list[str], report: Report) -> None:
    """Checks that what is said to be collected is on a list that an event of the bundle names."""
    collected = {blob["sha256"] for blob in manifest["blobs"]["left_out"] if blob["reason"] == "collected"}
    if not collected:
        return
    sizes = {blob["sha256"]: blob["size"] for blob in manifest["blobs"]["listed"]}
    told: set[str] = set()
    for digest in lists:
        name = f"blobs/{digest[:2]}/{digest[2:]}"
        if digest in sizes and source.sizes.get(name) == sizes[digest] <= LIST_BYTES_MAX:
            with source.open(name) as file:
                content = file.read(sizes[digest])
            told.update(content[at : at + 32].hex() for at in range(0, len(content), 32))
    untold = collected - told
    if untold and manifest["last"] == manifest["log_head"] and manifest["first"] == 1 and set(lists) <= set(sizes):
        report.broken(f"{len(untold)} blobs are said to be collected, and no event says so: {min(untold)[:16]}...")
    elif untold:
        report.tell("collected", f"{len(untold)} blobs by events, or lists, that are not in the bundle")


def _by_name(entries: list[Any], shape: dict[str, str], what: str) -> dict[str, dict[str, Any]]:
    for entry in entries:
        check_shape(entry, shape, f"manifest.json: blobs: {what}")
    names = [entry["sha256"] for entry in entries]
    if names != sorted(set(names)):
        raise Fault(f"manifest.json: blobs: {what} is not sorted, or names a blob twice")
    return {entry["sha256"]: entry for entry in entries}


def _check_blob(source: Folder | Archive, name: str, digest: str, size: int) -> None:
    if source.sizes[name] != size:
        raise Fault(f"blob {digest[:16]}... has {source.sizes[name]} bytes, manifest.json says {size}")
    own, left = hashlib.sha256(), size
    with source.open(name) as file:
        while left > 0:
            piece = file.read(min(CHUNK_BYTES, left))
            if not piece:
                break
            own.update(piece)
            left -= len(piece)
    if own.hexdigest() != digest:
        raise Fault(f"blob {digest[:16]}... hashes to {own.hexdigest()[:16]}...")


def _check_head(
    source: Folder | Archive, manifest: dict[str, Any], digest: str, options: Options, report: Report
) -> None:
    """Builds the signed text from the manifest, and compares it with the file, so that both say the same."""
    content = read_small(source, "signature", SMALL_BYTES_MAX)
    text = (
        f"instar-bundle-1\n"
        f"workspace {manifest['workspace']}\n"
        f"first {manifest['first']}\n"
        f"last {manifest['last']}\n"
        f"count {manifest['count']}\n"
        f"head_hash {manifest['head_hash']}\n"
        f"merkle_root {manifest['merkle_root']}\n"
        f"manifest_sha256 {digest}\n"
        f"public_key {manifest['public_key'] or 'none'}\n"
    ).encode()
    match = re.fullmatch(rb"signature (none|[0-9a-f]{128})\n", content[len(text) :])
    if not content.startswith(text) or match is None:
        raise Fault("signature does not say what manifest.json says, or is malformed")
    signature = None if match[1] == b"none" else match[1].decode()
    if (signature is None) != (manifest["public_key"] is None):
        raise Fault("signature and manifest.json disagree on whether the bundle is signed")
    judge_signature(manifest["public_key"], text, signature, "the bundle", options, report)


# ---- a proof -------------------------------------------------------------------------------------------------------


def check_proof(path: Path, options: Options) -> Report:
    """Checks the proof of one event.

    Raises:
        Unreadable: there is nothing to judge.
    """
    report = Report()
    report.tell("proof", shown(str(path)))
    try:
        with path.open("rb") as file:
            content = file.read(LINE_BYTES_MAX)
    except OSError as error:
        raise Unreadable(f"{shown(str(path))} cannot be read: {error.strerror}") from error
    try:
        _check_proof(content, options, report)
    except Fault as fault:
        report.broken(str(fault))
    return report


def _check_proof(content: bytes, options: Options, report: Report) -> None:
    try:
        proof = canonical(content.decode("utf-8")[:-1])
        check_shape(proof, PROOF, "the proof")
        anchor = parse_anchor(proof["anchor"])
    except ValueError as error:
        raise Fault(f"the proof cannot be taken: {shown(str(error))}") from error
    if (proof["format"], proof["format_version"]) != ("instar-proof", 1) or not content.endswith(b"\n"):
        raise Fault("the proof is not of the format instar-proof, version 1, which is the one known here")
    row = proof["row"]
    check_shape(row, COLUMNS, "the proof's row")
    for fault in row_faults(row):
        report.broken(f"event {row['seq']}: {fault}")
    if root_by_path(row["hash"], row["seq"] - 1, anchor.seq, proof["path"]) != anchor.merkle_root:
        report.broken(f"event {row['seq']} is not among the events whose Merkle root is {anchor.merkle_root[:16]}...")
    report.facts.update(workspace=anchor.workspace, seq=row["seq"], type=row["type"], anchor=anchor.text)
    report.tell("workspace", anchor.workspace)
    report.tell("event", f"{row['seq']} {shown(row['type'])}, {iso(row['recorded_at_us'])}, one of {anchor.seq}")
    report.tell("payload", "erased: only its hash is shown" if row["payload"] is None else shown(row["payload"], 400))
    report.tell("merkle root", anchor.merkle_root)
    judge_signature(None, anchor.text.encode(), anchor.signature, "the proof's anchor", options, report)
    _compare_kept(anchor, row, options, report)
    if not options.anchors and options.public_key is None:
        report.notes.append("compare the Merkle root with one that you got elsewhere: give --anchor or --public-key")


def _compare_kept(anchor: Anchor, row: dict[str, Any], options: Options, report: Report) -> None:
    """Looks for the proof's anchor among those that were kept; one is enough, of the others nothing follows."""
    apart: list[int] = []
    met = False
    for kept in check_origin(anchor.workspace, options, report):
        if kept.text == anchor.text:
            met = True
            report.facts.setdefault("anchored", []).append(kept.seq)
            report.tell("anchor", f"the proof leads to the one that you gave, of event {kept.seq}")
        elif kept.seq == anchor.seq:
            met = True
            report.broken(
                f"the proof leads to another anchor of event {kept.seq} than the one that was given: "
                + (
                    "the hash is the same, the Merkle root or the time is not; look for a good copy of both"
                    if kept.hash == anchor.hash
                    else f"the log was written anew, {anchor.hash[:16]}... is not {kept.hash[:16]}..."
                )
            )
        elif kept.seq == row["seq"]:
            met = True
            compare(kept, row, None, report)
        else:
            apart.append(kept.seq)
    if met or not apart:
        return
    reaching = sorted(seq for seq in set(apart) if seq > row["seq"])
    report.unmet.append(
        f"the proof leads to the anchor of event {anchor.seq}, and those given are of event "
        f"{listed(sorted(set(apart)))}: "
        + (
            f"ask for a proof up to one of them (`instar export FILE --proof {row['seq']} --to {reaching[0]}`)"
            if reaching
            else f"give an anchor of event {row['seq']} or later, since an earlier one says nothing of it"
        )
    )


def root_by_path(row: str, index: int, size: int, path: list[Any]) -> str | None:
    """Computes the root to which a path leads (RFC 9162, section 2.1.3.2); None if it does not fit the tree's size."""
    if not 0 <= index < size:
        return None
    own, last = Merkle.leaf(row), size - 1
    for beside in path:
        if last == 0 or not isinstance(beside, str) or not HEX.fullmatch(beside):
            return None
        if index & 1 or index == last:
            own = Merkle.node(bytes.fromhex(beside), own)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            own = Merkle.node(own, bytes.fromhex(beside))
        index, last = index >> 1, last >> 1
    return own.hex() if last == 0 else None


# ---- the command line ----------------------------------------------------------------------------------------------


def read_public_key(given: str) -> str:
    """Reads a public key: 64 hexadecimal digits, or a file that holds them or a PEM.

    Raises:
        ValueError: it is neither.
    """
    text = given if re.fullmatch(r"[0-9a-fA-F]{64}", given) else _text_of(given)
    if re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()):
        return text.strip().lower()
    match = re.search(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----", text)
    body = base64.b64decode("".join(match[1].split()), validate=True) if match else b""
    if len(body) != 44 or not body.startswith(PUBLIC_PREFIX):
        raise ValueError("it is no Ed25519 public key: give 64 hexadecimal digits or a PEM")
    return body[-32:].hex()


def read_anchors(given: str) -> list[Anchor]:
    """Reads anchors: the text of one, or a file that holds one a line.

    Raises:
        ValueError: there is none, or a line is none.
    """
    text = given if given.startswith("instar-anchor-") else _text_of(given)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError("there is no anchor in it")
    return [parse_anchor(line) for line in lines]


def _text_of(path: str) -> str:
    try:
        with Path(path).open(encoding="ascii") as file:
            text = file.read(TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{shown(path)} cannot be read: {error.strerror}") from error
    if len(text) > TEXT_BYTES_MAX:
        raise ValueError(f"{shown(path)} has more than the {TEXT_BYTES_MAX} bytes that are read")
    return text


def as_text(report: Report) -> str:
    """Writes what was found for people."""
    lines = [f"  {name:<12} {text}" for name, text in report.lines]
    lines += [f"  note         {note}" for note in report.notes if not report.faults]
    lines += [f"  BROKEN       {fault}" for fault in report.faults]
    lines += [f"  BROKEN       and {report.more} faults more"] * bool(report.more)
    lines += [f"  NOT CHECKED  {unmet}" for unmet in report.unmet]
    count = len(report.faults) + report.more
    if report.faults:
        lines.append(f"broken: {count} fault{'s' * (count > 1)} found; nothing in it should be relied on")
    elif report.unmet:
        lines.append("not verified: a check that was asked for could not be made")
    else:
        whose = "signed by the key that you gave" if "signed_by" in report.facts else "who signed it was not checked"
        lines.append(f"verified: whole; {whose}")
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """Writes what was found for programs."""
    found = {
        "ok": report.exit_code == OK,
        "exit_code": report.exit_code,
        "faults": report.faults,
        "faults_more": report.more,
        "unmet": report.unmet,
        "notes": report.notes,
        "facts": report.facts,
    }
    return json.dumps(found, indent=1)


def main(arguments: list[str] | None = None) -> int:
    """Runs one check and returns the exit code; nothing in a bundle can make it end in a traceback."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog=(__doc__ or "").split("\n\n")[-1]
    )
    parser.add_argument("bundle", nargs="?", help="a folder or a .tar that `instar export` wrote")
    parser.add_argument("--proof", metavar="FILE", help="in place of a bundle: the proof of one event")
    parser.add_argument("--public-key", metavar="FILE|HEX", help="the signer's key, which you got elsewhere")
    parser.add_argument("--require-signature", action="store_true", help="fail unless signed by --public-key")
    parser.add_argument(
        "--anchor", metavar="FILE|TEXT", action="append", default=[], help="a head that you kept, or a file of them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    if (given.bundle is None) == (given.proof is None):
        parser.error("give a bundle, or --proof FILE")
    if given.require_signature and given.public_key is None:
        parser.error("--require-signature needs --public-key: the key in a bundle proves nothing about who signed")
    try:
        public_key = None if given.public_key is None else read_public_key(given.public_key)
        anchors = tuple(anchor for text in given.anchor for anchor in read_anchors(text))
    except ValueError as error:
        parser.error(str(error))
    report = _checked(given.bundle, given.proof, Options(public_key, anchors))
    print(as_json(report) if given.json else as_text(report))
    return report.exit_code


def _checked(bundle: str | None, proof: str | None, options: Options) -> Report:
    try:
        return check_bundle(Path(bundle), options) if bundle is not None else check_proof(Path(proof or ""), options)
    except Unreadable as error:
        report = Report()
        report.unmet.append(str(error))
    except Exception as error:  # hostile input: an answer, whatever it was
        report = Report()
        report.broken(f"it could not be taken at all: {type(error).__name__}: {shown(str(error))}")
    return report


if __name__ == "__main__":
    sys.exit(main())
