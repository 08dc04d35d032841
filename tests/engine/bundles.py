"""A small real log with blobs, a tree, a checkpoint and an erasure; bundles of it, and somebody who rewrites them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from instar.engine.bundles.bundle import Exported, export
from instar.engine.bundles.signing import SigningKey, new_key
from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.events import ChangeObserved, FeedbackReceived, PayloadErased, SnapshotTaken, TaskQueued
from instar.fsm.words import Digest, Seq
from instar.store.log import EventLog, create_log
from instar.store.manifest import Manifest, PlainFile, TensorEntry, TensorFile
from instar.store.trees import Entry, Tree, write_tree
from tests.store.logs import INIT, feedback

PROJECT = Path(__file__).parent.parent.parent
TOOL = PROJECT / "tools" / "verify_bundle.py"
HEADER, TENSOR, CONFIG = b"header of a safetensors file", bytes(range(64)), b'{"dim":384}'
SOURCE, CHANGED, PATCH = b"def score(a, b):\n    return a + b\n", b"def score(a, b):\n    return b\n", b"--- a\n+++ b\n"
SECRET = "the name of somebody"


def _verifier() -> Any:
    spec = importlib.util.spec_from_file_location("verify_bundle", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verify_bundle"] = module
    spec.loader.exec_module(module)
    return module


verifier = _verifier()
"""``tools/verify_bundle.py``, in this process."""


def log_at(agent: Path) -> EventLog:
    """A log where a workspace has it, with its first event."""
    path = agent / ".instar" / "log.db"
    create_log(path)
    log = EventLog(path)
    log.append(msgspec.structs.replace(INIT, workspace="a1b2", tree=_tree(log, SOURCE), checkpoint=_checkpoint(log)))
    return log


def _tree(log: EventLog, source: bytes) -> Digest:
    blob = log.blobs.put(source)
    return write_tree(log.blobs, Tree(files={"sub/heuristics.py": Entry("file", 0o644, blob, len(source))}))


def _checkpoint(log: EventLog) -> Digest:
    put = log.blobs.put
    tensor = TensorEntry(name="w", dtype="U8", shape=(64,), begin=0, end=64, blob=put(TENSOR))
    whole = Digest(sha256(HEADER + TENSOR).hexdigest())
    weights = TensorFile(path="m.safetensors", size=92, sha256=whole, header=put(HEADER), tensors=(tensor,))
    config = PlainFile(path="config.json", size=len(CONFIG), sha256=put(CONFIG))
    return put(msgspec.json.encode(Manifest(files=(weights, config)), order="sorted"))


def small_log(agent: Path) -> EventLog:
    """Eight events; the third is erased by the seventh."""
    log = log_at(agent)
    blob, after = log.blobs.put(SOURCE), log.blobs.put(CHANGED)
    tree = _tree(log, CHANGED)
    log.append(
        ChangeObserved(
            path="sub/heuristics.py", change="modified", before=blob, after=after, tree=tree, monitored=True, size=1
        )
    )
    log.append(
        FeedbackReceived(task_type="find", input=SECRET, output="x", outcome="fail", log=log.blobs.put(b"secret"))
    )
    log.append(feedback(1, input='é "quoted" \\ \t\x01 😀'), key="once")
    log.append(FeedbackReceived(task_type="find", input="tiny", outcome="fail", confidence=1e-7))
    log.append(TaskQueued(task="mutate", source="t", patch=log.blobs.put(PATCH), gate=("true",)))
    erase(log, 3, blobs=(Digest(sha256(b"secret").hexdigest()),))
    log.append(SnapshotTaken(name="end", tree=tree, checkpoint=log.state.checkpoint, reason="r"))
    return log


def erase(log: EventLog, seq: int, blobs: tuple[Digest, ...] = ()) -> None:
    record = log.reader.get(seq)
    remains = encode_event(remains_of(record.event)).decode()
    erasure = PayloadErased(
        target=Seq(seq), payload_hash=record.payload_hash, remains=remains, reason="asked for", blobs=blobs
    )
    log.erase([erasure])


def key_at(folder: Path) -> SigningKey:
    """A new key, outside every workspace."""
    return new_key(folder / "key.pem", workspace=folder / "no-such-workspace")


def bundle_of(log: EventLog, path: Path, **options: Any) -> Exported:
    return export(log.reader, path, **options)


def verdict(path: Path, *, key: str | None = None, anchors: tuple[str, ...] = ()) -> Any:
    """What the tool finds, in this process."""
    options = verifier.Options(key, tuple(map(verifier.parse_anchor, anchors)))
    return verifier.check_bundle(path, options)


def lines_of(bundle: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bundle / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def canonical(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def write_lines(bundle: Path, rows: list[dict[str, Any]]) -> None:
    (bundle / "events.jsonl").write_bytes(b"".join(map(canonical, rows)))


def rewritten(
    bundle: Path, copy: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], key: SigningKey | None
) -> Path:
    """Copies a bundle as somebody forges it who can compute whatever we can, and signs with a key of his own."""
    shutil.copytree(bundle, copy)
    rows = change(lines_of(copy))
    prev_hash, tree = verifier.GENESIS, verifier.Merkle()
    for seq, row in enumerate(rows, start=1):
        row.update(seq=seq, prev_hash=prev_hash)
        if row["payload"] is not None:
            row["payload_hash"] = sha256(row["payload"].encode()).hexdigest()
        row["hash"] = prev_hash = verifier.row_hash(row)
        tree.add(prev_hash)
    write_lines(copy, rows)
    content = (copy / "events.jsonl").read_bytes()
    seal(
        copy,
        key,
        last=len(rows),
        count=len(rows),
        log_head=len(rows),
        erased=sum(row["payload"] is None for row in rows),
        head_hash=prev_hash,
        merkle_root=tree.root(),
        events_bytes=len(content),
        events_sha256=sha256(content).hexdigest(),
    )
    return copy


def seal(bundle: Path, key: SigningKey | None, **facts: Any) -> None:
    """Writes the manifest again with other facts, and the signature over it."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest.update(facts, public_key=key.public if key else None)
    content = canonical(manifest)
    (bundle / "manifest.json").write_bytes(content)
    text = (
        f"instar-bundle-1\nworkspace {manifest['workspace']}\nfirst {manifest['first']}\nlast {manifest['last']}\n"
        f"count {manifest['count']}\nhead_hash {manifest['head_hash']}\nmerkle_root {manifest['merkle_root']}\n"
        f"manifest_sha256 {sha256(content).hexdigest()}\npublic_key {manifest['public_key'] or 'none'}\n"
    ).encode()
    signature = key.sign(text) if key else "none"
    (bundle / "signature").write_bytes(text + f"signature {signature}\n".encode())
