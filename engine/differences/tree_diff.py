"""What differs between two trees of code: each path, with its lines and, for Python, its units."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from instar.engine.diff_engine import diff_change
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.words import Digest, Seq
from instar.store.ports import Blobs
from instar.store.trees import Change, Entry, Tree, changes, read_tree

_NOWHERE = Seq(0)


class PathChange(Struct, frozen=True, kw_only=True):
    """One path. Lines are None where there are none to count: a binary file, or bytes that are not in the store.

    ``unmanaged`` is a path that was captured before and is seen, but not captured, after; ``note`` says why.
    """

    path: str
    change: Literal["added", "modified", "deleted", "mode", "unmanaged"]
    lines_added: int | None = None
    lines_removed: int | None = None
    meaning_changed: bool = True
    units_changed: tuple[str, ...] = ()
    units_added: tuple[str, ...] = ()
    units_removed: tuple[str, ...] = ()
    note: str = ""


class CodeDiff(Struct, frozen=True, kw_only=True):
    """Two trees, and what of them differs, by path."""

    before: Digest | None
    after: Digest | None
    paths: tuple[PathChange, ...] = ()

    @property
    def lines(self) -> tuple[int, int]:
        """How many lines were added and removed, over all paths."""
        return sum(one.lines_added or 0 for one in self.paths), sum(one.lines_removed or 0 for one in self.paths)


def compare_code(blobs: Blobs, before: Digest | None, after: Digest | None) -> CodeDiff:
    """Compares two trees path by path.

    Raises:
        BlobMissing, BlobCorrupt: a tree is not in the store, or damaged; of a file that is only its lines are unknown.
    """
    if before == after:
        return CodeDiff(before=before, after=after)
    old = read_tree(blobs, before) if before else Tree(files={})
    new = read_tree(blobs, after) if after else Tree(files={})
    found = [_path(blobs, change) for change in changes(old, new)]
    for path in old.files.keys() - new.files.keys():
        reason = new.reason(path)
        if reason is not None:
            found.append(PathChange(path=path, change="unmanaged", note=reason))
    return CodeDiff(before=before, after=after, paths=tuple(sorted(found, key=lambda one: one.path)))


def _path(blobs: Blobs, change: Change) -> PathChange:
    before, after = change.before, change.after
    if before is not None and after is not None and before.blob == after.blob:
        return PathChange(path=change.path, change="mode", meaning_changed=False, note=_mode(before, after))
    verb: Literal["added", "modified", "deleted"] = (
        "added" if before is None else "deleted" if after is None else "modified"
    )
    try:
        item, _ = diff_change(_NOWHERE, change.path, _content(blobs, before), _content(blobs, after))
    except (BlobMissing, BlobCorrupt) as error:
        return PathChange(path=change.path, change=verb, note=str(error))
    binary = item.kind == "binary_diff"
    return PathChange(
        path=change.path,
        change=verb,
        lines_added=None if binary else item.lines_added,
        lines_removed=None if binary else item.lines_removed,
        meaning_changed=item.meaning_changed,
        units_changed=item.units_changed,
        units_added=item.units_added,
        units_removed=item.units_removed,
        note="binary" if binary else "",
    )


def _content(blobs: Blobs, entry: Entry | None) -> bytes | None:
    return blobs.get(entry.blob) if entry else None


def _mode(before: Entry, after: Entry) -> str:
    if before.kind != after.kind:
        return f"{before.kind} → {after.kind}"
    return f"mode {before.mode:o} → {after.mode:o}"
