"""The bytes that 10,000 real Python files take, and 1,000 snapshots of small changes to them, against git's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

from instar.engine.changes import Judged, observed
from instar.engine.initialize import initialize
from instar.engine.keeping.housekeeping import look, sweep
from instar.engine.runtime import Runtime
from instar.engine.workspace import HOME
from instar.fsm.decisions import snapshot_of
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.log import Pending
from instar.store.tree_changes import changed

from .goals import Measure, Row
from .tree_sources import bases, build, fresh, git, has_git, size_of

SNAPSHOTS = 1000
CHANGED = 3
"""Files that one snapshot finds changed, each by a line."""


def main(snapshots: int = SNAPSHOTS) -> list[Row]:
    """Compares the stores after the first capture and after many; gives two rows."""
    if not has_git():
        return [Row("bytes stored", "git", note="skipped: git is not installed")]
    with fresh(bases()[0]) as folder:
        return [_first(folder), _many(folder, snapshots)]


def _first(folder: Path) -> Row:
    theirs, ours = folder / "git", folder / "ours"
    paths = build(ours)
    build(theirs)
    initialize(ours, with_model=False)
    git(theirs, "init", "-q")
    git(theirs, "add", "-A")
    git(theirs, "commit", "-q", "-m", "first")
    captured, loose = size_of(ours / HOME), size_of(theirs / ".git")
    git(theirs, "gc", "-q", "--prune=now")
    packed = size_of(theirs / ".git")
    print(
        f"bytes of {len(paths)} files, {size_of(theirs) - packed:,} in all: captured {captured:,}; "
        f".git {loose:,}, after git gc {packed:,}"
    )
    return Row(
        f"bytes stored, {len(paths):,} files, as captured",
        ".git before and after git gc",
        (
            Measure(captured / loose, 1.1, at_most=True, what="before"),
            Measure(captured / packed, 2.0, at_most=True, what="after"),
        ),
    )


def _many(folder: Path, snapshots: int) -> Row:
    ours, stream = folder / "ours", folder / "stream"
    paths = sorted(path for path in ours.rglob("*.py") if HOME not in path.parts)
    runtime = Runtime(ours, actor="bench")
    with stream.open("wb") as file:
        file.write(_commit(0, [(path.relative_to(ours), path.read_bytes()) for path in paths]))
        runtime.capture.look()
        for number, edited in _edits(ours, paths, snapshots):
            _snapshot(runtime, number, [path for path, _ in edited])
            file.write(_commit(number, edited))
    captured = size_of(ours / HOME)
    sweep(runtime, look(runtime))
    runtime.close()
    swept = size_of(ours / HOME)
    packed = _packed(folder / "many.git", stream)
    print(
        f"bytes of {snapshots} snapshots, {CHANGED} files changed in each: captured {captured:,}, after instar gc "
        f"{swept:,}; packed git {packed:,}"
    )
    return Row(
        f"bytes stored, {snapshots:,} snapshots, after instar gc",
        "the same commits, after git gc",
        (Measure(swept / packed, 2.0, at_most=True),),
    )


def _edits(root: Path, paths: list[Path], snapshots: int) -> Iterator[tuple[int, list[tuple[Path, bytes]]]]:
    """Puts a line into some files, again and again; yields what each then holds, by its path below the root."""
    random = Random(5)
    for number in range(1, snapshots + 1):
        edited = []
        for path in random.sample(paths, CHANGED):
            lines = path.read_bytes().split(b"\n")
            lines.insert(random.randrange(len(lines)), b"value_%d = compute(%d)" % (number, random.randrange(10**6)))
            path.write_bytes(b"\n".join(lines))
            edited.append((path.relative_to(root), path.read_bytes()))
        yield number, edited


def _snapshot(runtime: Runtime, number: int, paths: list[Path]) -> None:
    """Captures what changed, as the watcher would have it, and names the point."""
    tree = runtime.capture.look_at({str(path): False for path in paths})
    found = changed(runtime.capture.nodes, runtime.state.tree, tree)

    def decide(state: AgentState) -> list[Pending]:
        monitored, judged = state.policy.monitored, Judged(state)
        return [
            Pending(observed(change.path, change.before, change.after, tree, monitored, judged))
            for change in found.changes
        ]

    runtime.log.transact(decide)
    runtime.log.transact(lambda state: _named(state, tree, f"s{number}"))


def _named(state: AgentState, tree: Digest, name: str) -> list[Pending]:
    taken = snapshot_of(state, name, "benchmark")
    if taken is None or taken.tree != tree:
        raise RuntimeError("the snapshot does not name what was captured")
    return [Pending(taken)]


def _commit(number: int, changes: list[tuple[Path, bytes]]) -> bytes:
    """Writes a commit for ``git fast-import``."""
    parts = [b"commit refs/heads/main\ncommitter b <b@localhost> %d +0000\ndata 1\nx\n" % (1_700_000_000 + number)]
    for path, content in changes:
        parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (bytes(path), len(content), content))
    return b"".join(parts)


def _packed(folder: Path, stream: Path) -> int:
    """Imports commits and packs them as ``git gc`` does what was committed one by one: every delta is looked for."""
    folder.mkdir()
    git(folder, "init", "-q", "--bare")
    with stream.open("rb") as file:
        subprocess.run(["git", "fast-import", "--quiet"], cwd=folder, stdin=file, check=True)
    git(folder, "repack", "-adfq")
    git(folder, "gc", "-q", "--prune=now")
    return size_of(folder)
