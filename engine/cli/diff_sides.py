"""The two points that ``instar diff`` compares: two of the log, or one of it and the folder as it stands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .asked import may_change
from .output import runtime_at, say, workspace_at

if TYPE_CHECKING:
    from instar.engine.workspace import Workspace
    from instar.fsm.words import Digest, Seq
    from instar.store.ports import Blobs
    from instar.store.reader import LogReader
    from instar.store.tree_nodes import NodeReader


class Sides(NamedTuple):
    """The log and its blobs, the two positions, and the tree of the folder where that stands for the second's."""

    root: Path
    reader: LogReader
    blobs: Blobs
    nodes: NodeReader
    first: Seq
    last: Seq
    standing: Digest | None


@contextmanager
def opened(workspace: Path | None, a: str, b: str | None) -> Iterator[Sides]:
    """Opens a workspace to compare two points of it.

    Two points of the log are only read. For the folder the workspace is opened for work, which finishes a restore that
    was cut off; where it cannot be written, the folder is looked at as it stands and nothing is kept of that.

    Args:
        workspace: the folder of the agent, or one below it.
        a: a reference.
        b: another one, or None for the folder.

    Raises:
        ConfigError: a reference names no position of the log.
        LogMissing, LogUnavailable: there is no log, or it cannot be read.
    """
    place = workspace_at(workspace)
    if b is not None:
        with _reading(place) as reader:
            yield _recorded(place, reader, a, b)
    elif may_change() and _may_write(place):
        with _working(workspace, a) as sides:
            yield sides
    else:
        with _reading(place) as reader:
            yield _unwritten(place, reader, a)


@contextmanager
def _reading(place: Workspace) -> Iterator[LogReader]:
    from instar.store.reader import LogReader

    reader = LogReader(place.place)
    try:
        yield reader
    finally:
        reader.close()


def _may_write(place: Workspace) -> bool:
    """Says whether this user may write what a look at the folder writes: locks, the log, the stat cache."""
    needed = (place.home, place.log, place.home / "files.lock")
    return all(os.access(one, os.W_OK) for one in needed if one.exists())


def _recorded(place: Workspace, reader: LogReader, a: str, b: str) -> Sides:
    from instar.engine.references import resolve
    from instar.store.blobs import BlobStore
    from instar.store.tree_nodes import NodeReader

    store = BlobStore(reader.path.with_name("blobs"), reader)
    return Sides(place.root, reader, store, NodeReader(store), resolve(reader, a), resolve(reader, b), None)


@contextmanager
def _working(workspace: Path | None, a: str) -> Iterator[Sides]:
    from instar.engine.references import resolve

    runtime = runtime_at(workspace, puts_back=True, warns=False)  # it was said already
    try:
        reader, nodes = runtime.reader, runtime.capture.nodes
        first = resolve(reader, a)
        with runtime.files.held():
            state = runtime.state
            tree = runtime.capture.look(known=state.tree)
        yield Sides(runtime.workspace.root, reader, runtime.blobs, nodes, first, state.head, tree)
    finally:
        runtime.close()


def _unwritten(place: Workspace, reader: LogReader, a: str) -> Sides:
    """Looks at the folder without a lock and without a trace: what the store lacks of it stays in RAM."""
    from instar.engine.last_settings import load_to_read
    from instar.engine.references import resolve
    from instar.engine.settings import with_rules
    from instar.engine.trees.capture import Capture
    from instar.engine.trees.ignore import Ignore
    from instar.engine.trees.stat_cache import StatCache
    from instar.store.blobs import BlobStore
    from instar.store.scratch_blobs import ScratchIntake

    first, state = resolve(reader, a), reader.state_at()
    if state.restoring is not None:
        say("instar: a restore was cut off, or is at work: the folder is shown as it stands in the midst of it")
    blobs = ScratchIntake(BlobStore(reader.path.with_name("blobs"), reader))
    settings, fault = load_to_read(place.root, os.environ)
    rules = state.policy.capture if fault else with_rules(settings).policy.capture
    seen = StatCache(place.stat_cache, writes=False)
    capture = Capture(place.root, blobs, Ignore(recorded=rules), cap_bytes=rules.cap_bytes, cache=seen)
    tree = capture.look(known=state.tree)
    return Sides(place.root, reader, blobs, capture.nodes, first, state.head, tree)
