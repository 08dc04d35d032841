"""Two versions of a file as a patch that `git apply` takes, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.store.paths import decode_path
from instar.store.ports import Blobs
from instar.store.tree_nodes import Entry
from instar.store.trees import Change

from . import sequence_diff
from .git_binary import BINARY_BYTES_MAX, binary_patch, blob_name
from .git_names import quoted

_ENDLESS = "\\ No newline at end of file"
_NOWHERE = "/dev/null"


def unified(blobs: Blobs, change: Change) -> Iterator[bytes]:
    """Yields the lines of the difference of one path, as git writes them, without their line feeds.

    Lines hold the bytes of the file in whatever encoding it has; names are quoted as git quotes them. A file that
    became a link, or a link that became a file, is one that goes and one that comes. What holds a NUL is a binary
    patch; where that cannot be written (a side has over ``BINARY_BYTES_MAX`` bytes, or is not in the store) the lines
    say so, and make git refuse the patch.
    """
    before, after = change.before, change.after
    if before is not None and after is not None and before.kind != after.kind:
        yield from _section(blobs, change.path, before, None)
        yield from _section(blobs, change.path, None, after)
    else:
        yield from _section(blobs, change.path, before, after)


def _section(blobs: Blobs, path: str, before: Entry | None, after: Entry | None) -> Iterator[bytes]:
    a, b = (quoted(side + decode_path(path)) for side in (b"a/", b"b/"))
    header = [f"diff --git {a} {b}", *_modes(before, after)]
    if before is not None and after is not None and before.mode != after.mode and len(header) == 1:
        yield f"{b}: mode {before.mode:o} → {after.mode:o}, which no patch of git can hold".encode()
    a, b = (_NOWHERE if before is None else a), (_NOWHERE if after is None else b)
    differ = f"Binary files {a} and {b} differ"
    same_mode = f" {_mode(after)}" if before is not None and after is not None and len(header) == 1 else ""
    try:
        old, new = (None if entry is None else blobs.get(entry.blob) for entry in (before, after))
    except (BlobMissing, BlobCorrupt) as error:
        # With a name of seven digits, as with none, git refuses; a header of one line it would pass over.
        yield from _encoded(*header, f"index {'0' * 7}..{'0' * 7}{same_mode}", differ)
        yield f"the bytes are not to be had: {error}".encode()
        return
    left, right = old or b"", new or b""
    if left == right:
        yield from _encoded(*header if len(header) > 1 else ())
    elif b"\0" in left or b"\0" in right:
        whole = max(len(left), len(right)) <= BINARY_BYTES_MAX
        names = [blob_name(side)[: None if whole else 7] for side in (old, new)]
        yield from _encoded(*header, f"index {'..'.join(names)}{same_mode}")
        if whole:
            yield from binary_patch(left, right)
        else:
            yield from _encoded(differ, f"over {BINARY_BYTES_MAX >> 20} MiB that are no text: not written here")
    else:
        yield from _encoded(*header, f"--- {_ended(a)}", f"+++ {_ended(b)}")
        yield from (line.encode("latin-1") for line in _hunks(_lines(left), _lines(right)))


def _encoded(*lines: str) -> Iterator[bytes]:
    return (line.encode() for line in lines)


def _modes(before: Entry | None, after: Entry | None) -> Iterator[str]:
    if before is None and after is not None:
        yield f"new file mode {_mode(after)}"
    elif after is None and before is not None:
        yield f"deleted file mode {_mode(before)}"
    elif before is not None and after is not None and _mode(before) != _mode(after):
        yield f"old mode {_mode(before)}"
        yield f"new mode {_mode(after)}"


def _mode(entry: Entry | None) -> str:
    """Gives the mode that git keeps of an entry: of a file's permissions whether its owner may execute it."""
    if entry is None or entry.kind == "link":
        return "120000"
    return "100755" if entry.mode & 0o100 else "100644"


def _ended(name: str) -> str:
    """Ends a name with a tab where a reader could take it to end at a space."""
    return f"{name}\t" if " " in name else name


def _lines(content: bytes) -> list[str]:
    """Cuts text at line feeds alone, one character for each byte; the last line has no line feed if there is none."""
    lines = content.decode("latin-1").split("\n")
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
