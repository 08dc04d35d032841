"""Two versions of a file as a unified diff that `git apply` and `patch` take."""

from __future__ import annotations

from collections.abc import Iterator

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.store.ports import Blobs
from instar.store.tree_nodes import Entry
from instar.store.trees import Change

from . import sequence_diff

_ENDLESS = "\\ No newline at end of file"


def unified(blobs: Blobs, change: Change) -> Iterator[str]:
    """Yields the lines of the difference of one path, as git writes them.

    Bytes that are no UTF-8 are shown as they are where the terminal can: such a diff is for reading only.
    """
    path, before, after = change.path, change.before, change.after
    yield f"diff --git a/{path} b/{path}"
    if before is None and after is not None:
        yield f"new file mode {_mode(after)}"
    elif after is None and before is not None:
        yield f"deleted file mode {_mode(before)}"
    elif before is not None and after is not None and _mode(before) != _mode(after):
        yield f"old mode {_mode(before)}"
        yield f"new mode {_mode(after)}"
    try:
        old, new = (b"" if entry is None else blobs.get(entry.blob) for entry in (before, after))
    except (BlobMissing, BlobCorrupt) as error:
        yield f"the bytes are not to be had: {error}"
        return
    if old == new:
        return
    if b"\0" in old or b"\0" in new:
        yield f"Binary files a/{path} and b/{path} differ"
        return
    yield "--- /dev/null" if before is None else f"--- a/{path}"
    yield "+++ /dev/null" if after is None else f"+++ b/{path}"
    yield from _hunks(_lines(old), _lines(new))


def _mode(entry: Entry) -> str:
    return "120000" if entry.kind == "link" else f"100{entry.mode:o}"


def _lines(content: bytes) -> list[str]:
    """Cuts text at line feeds alone; the last line has none if the text has none there."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    ended = [line + "\n" for line in lines[:-1]]
    return [*ended, lines[-1]] if lines[-1] else ended


def _hunks(left: list[str], right: list[str]) -> Iterator[str]:
    for span, group in sequence_diff.hunks(sequence_diff.changes(left, right), len(left), len(right)):
        yield f"@@ -{_range(span.a_low, span.a_high)} +{_range(span.b_low, span.b_high)} @@"
        at = span.a_low
        for change in group:
            yield from _marked(" ", left[at : change.a_low])
            yield from _marked("-", left[change.a_low : change.a_high])
            yield from _marked("+", right[change.b_low : change.b_high])
            at = change.a_high
        yield from _marked(" ", left[at : span.a_high])


def _range(low: int, high: int) -> str:
    """Counts from 1; an empty span names the line before."""
    size = high - low
    return f"{low + 1}" if size == 1 else f"{low + 1 if size else low},{size}"


def _marked(mark: str, lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield mark + line.removesuffix("\n")
        if not line.endswith("\n"):
            yield _ENDLESS
