"""The model beside a workspace: whole copies of it, and what has to stand after a rollback, by these alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from instar.engine.memory.rows import RowName
from instar.fsm.events import PARTS, Part
from instar.fsm.words import Digest
from tests.engine.workspaces import Leaf, Wanted

CAP_BYTES = 2_000_000
OUTSIDE = (b".env", b"node_modules/x.js", b"old.pyc")
"""What no capture takes in, so no rollback may touch."""
OURS = (b"run", b"data")
"""The folders that the engine writes itself."""
PATHS = [
    *(b"a.py", b"b.py", b"pkg/b.py", b"pkg/deep/c.py", b"pkg/deep", b"pkg", b"b.py/inside", b"\xff%41", b"with space"),
    *OUTSIDE,
]

contents = (
    st.sampled_from([b"", b"one\n", b"two\n"])
    | st.sampled_from([("x", 1_100_000), ("y", 1_100_000), ("z", 2_100_000)]).map(
        lambda each: each[0].encode() * each[1]
    )
    | st.binary(max_size=40)
    | st.binary(min_size=8, max_size=8)
)
"""In the database, as a file of its own, and over the cap; short ones of one size among them."""
files = st.tuples(st.just("file"), st.sampled_from([0o644, 0o600, 0o755, 0o444]), contents)
links = st.tuples(st.just("link"), st.just(0o777), st.sampled_from([b"a.py", b"pkg", b"../../etc/passwd", b"\xff"]))
leaves = files | files | links | st.none()
some_parts = st.sampled_from([PARTS, PARTS, ("code",), ("checkpoint",), ("memory",), ("code", "memory")])


@dataclass(frozen=True)
class Point:
    """A moment: how to refer to it, and all that stood there.

    Attributes:
        reference: how the log calls it; None for one that is not to be returned to by itself.
        copy: the whole tree.
        checkpoint: the active one.
        rows: the live rows of memory.
    """

    reference: str | int | None
    copy: tuple[tuple[bytes, Leaf | None], ...]
    checkpoint: Digest | None = None
    rows: frozenset[RowName] = frozenset()

    def tree(self) -> Wanted:
        return dict(self.copy)


@dataclass(frozen=True)
class Asked:
    """What a rollback brings back, and where that stood."""

    point: Point
    parts: tuple[Part, ...] = PARTS
    path: bytes = b""

    def reaches(self, before: Point) -> Point:
        """Gives what has to stand afterwards."""
        return Point(
            None,
            whole(self._tree(before.tree())),
            (self.point if "checkpoint" in self.parts else before).checkpoint,
            (self.point if "memory" in self.parts else before).rows,
        )

    def _tree(self, before: Wanted) -> Wanted:
        if "code" not in self.parts:
            return before
        then = expected(before, self.point.tree())
        if not self.path:
            return then
        beside = {path: leaf for path, leaf in before.items() if not meet(self.path, path)}
        found = beside | {path: leaf for path, leaf in then.items() if at_or_below(path, self.path)}
        emptied = [path for path, leaf in then.items() if leaf is None and at_or_below(self.path, path)]
        return found | {path: None for path in emptied if not any(at_or_below(one, path) for one in found)}

    def spares_captured(self, before: Point) -> bool:
        """Says whether something captured is left where the target had what it could not hold.

        It stays, the log's tree is the target's, and the next capture records it.
        """
        then = self.point.tree()
        return any(over(then.get(path)) for path, _ in taken(before.tree()) if at_or_below(path, self.path))

    def may_be_refused(self, before: Point) -> bool:
        """Says whether something that is not captured stands where something is to come."""
        if "code" not in self.parts:
            return False
        if self.path:
            return any(over(leaf) and meet(self.path, path) for path, leaf in before.copy)
        return _refusal(before.tree(), self.point.tree())


def whole(copy: Wanted) -> tuple[tuple[bytes, Leaf | None], ...]:
    """Gives a tree in one order, so that two copies can be compared."""
    return tuple(sorted(copy.items(), key=lambda each: each[0]))


def taken(copy: Wanted) -> Iterator[tuple[bytes, Leaf]]:
    """Yields what a capture takes in."""
    for path, leaf in copy.items():
        if leaf is not None and not outside(path) and not over(leaf):
            yield path, leaf


def places(copy: Wanted) -> list[bytes]:
    """Lists the captured files of a tree and the folders above them."""
    found = {path for path, _ in taken(copy)}
    found |= {b"/".join(path.split(b"/")[:depth]) for path in found for depth in range(1, path.count(b"/") + 1)}
    return sorted(found)


def expected(before: Wanted, then: Wanted) -> Wanted:
    """What stands after a rollback: all that the target had captured, and what it could not capture as it was."""
    found = {path: leaf for path, leaf in then.items() if not outside(path) and not over(leaf)}
    found |= {path: leaf for path, leaf in before.items() if outside(path)}
    for path, leaf in before.items():
        if over(leaf) or (leaf is not None and over(then.get(path))):
            found[path] = leaf
    for path in (path for path, leaf in then.items() if over(leaf)):
        folder = next((one for one in folders_above(path) if _is_folder(before, one)), None)
        if folder is not None and not any(at_or_below(one, folder) for one in found):
            found[folder] = None  # the target has it, though it held nothing that was captured: it is not removed
    return found


def folders_above(path: bytes) -> list[bytes]:
    """Lists the folders that a path lies in, the innermost first."""
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]


def _is_folder(copy: Wanted, path: bytes) -> bool:
    return (path in copy and copy[path] is None) or any(one != path and at_or_below(one, path) for one in copy)


def meet(path: bytes, other: bytes) -> bool:
    """Says whether one is the other, or lies below it."""
    return at_or_below(path, other) or at_or_below(other, path)


def at_or_below(path: bytes, folder: bytes) -> bool:
    return path == folder or not folder or path.startswith(folder + b"/")


def outside(path: bytes) -> bool:
    return path in OUTSIDE or path.startswith(b"node_modules")


def over(leaf: Leaf | None) -> bool:
    return leaf is not None and leaf[0] == "file" and len(leaf[2]) > CAP_BYTES


def own(copy: Wanted, without: Collection[bytes] = OURS) -> Wanted:
    """Leaves out what the engine writes itself."""
    return {path: leaf for path, leaf in copy.items() if path.split(b"/")[0] not in without}


def _refusal(before: Wanted, then: Wanted) -> bool:
    wanted = {path for path in then if not outside(path)}
    blocking = {path for path, leaf in before.items() if over(leaf) and not over(then.get(path))}
    return any(meet(path, one) for one in blocking for path in wanted)
