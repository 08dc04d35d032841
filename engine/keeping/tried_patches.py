"""Which tasks brought a patch that quotes some content: a diff holds what it takes away, and what stands beside it."""

from __future__ import annotations

from collections.abc import Collection

from instar.engine.restoring.plan import read_plan
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import MutationAccepted, MutationRejected
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq
from instar.store.ports import Blobs
from instar.store.reader import LogReader
from instar.store.trees import read_tree


def tasks_quoting(reader: LogReader, blobs: Blobs, content: Digest, paths: Collection[str]) -> list[Seq]:
    """Names the tasks whose patch was tried on a file with that content, or made it.

    Args:
        reader: the log.
        blobs: where patches, plans and trees lie; of what is gone from there nothing can be told, nor is it held.
        content: the content of a file.
        paths: where the log has it.
    """
    found: dict[Seq, None] = {}
    for record in reader.read(types=[MutationAccepted, MutationRejected]):
        try:
            quoting = _quotes(reader, blobs, record, content, paths)
        except (BlobMissing, BlobCorrupt):
            continue
        if quoting and isinstance(record.event, MutationAccepted | MutationRejected):
            found[record.event.task] = None
    return list(found)


def _quotes(reader: LogReader, blobs: Blobs, record: Recorded, content: Digest, paths: Collection[str]) -> bool:
    match record.event:
        case MutationAccepted(plan=plan):
            steps = read_plan(blobs, plan).steps
            return any(entry and entry.blob == content for step in steps for entry in (step.expected, step.target))
        case MutationRejected(patch=patch) if patch is not None:
            text = blobs.get(patch)
            touched = [path for path in paths if path.encode() in text]
            tree = reader.state_at(record.seq).tree if touched else None
            files = read_tree(blobs, tree).files if tree else {}
            return any(path in files and files[path].blob == content for path in touched)
        case _:
            return False
