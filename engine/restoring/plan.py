"""The plan of a restore: every add, change and delete, computed and recorded before the first file moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from instar.fsm.errors import BlobCorrupt, InputRefused
from instar.fsm.words import Digest
from instar.store.paths import ancestors, check_path
from instar.store.ports import Blobs
from instar.store.tree_changes import TreeChanges
from instar.store.trees import Change, Entry, Tree, changes, check_entry


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """One path: what should stand there now, and what shall."""

    path: str
    action: Literal["add", "change", "delete"]
    expected: Entry | None
    target: Entry | None


class Plan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The way from one tree to another.

    Attributes:
        steps: by path.
        make: empty folders that the target has.
        unmake: folders that the target has not; each is removed if it is empty by then.
        kept: paths that are left alone, with the reason.
    """

    version: Literal[1] = 1
    steps: tuple[Step, ...]
    make: tuple[str, ...] = ()
    unmake: tuple[str, ...] = ()
    kept: dict[str, str] = {}

    @property
    def moves_nothing(self) -> bool:
        """Says whether every file and folder stays as it is."""
        return not (self.steps or self.make or self.unmake)

    def placed(self) -> dict[str, Entry]:
        """Names what will stand at each path that is added or changed."""
        return {step.path: step.target for step in self.steps if step.target is not None}

    def removed(self) -> dict[str, Entry]:
        """Names what stands now at each path that is deleted."""
        return {step.path: step.expected for step in self.steps if step.target is None and step.expected is not None}


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Plan)


def make_plan(current: Tree, target: Tree, spared: Callable[[str], str | None] | None = None) -> Plan:
    """Computes the way from ``current``, which stands on disk, to ``target``.

    A path that the target saw but could not capture is kept: it is not known to have been absent.

    Args:
        current: the tree just captured.
        target: the tree to restore.
        spared: says why a path could not be in ``target`` (see ``ignore.spared_by``); such a path is kept too.
    """
    found = changes(Tree(files=current.files), Tree(files=target.files))
    steps, kept = _steps(found, lambda path: target.reason(path) or (spared(path) if spared else None))
    now, then = current.all_folders(), target.all_folders()
    return Plan(
        steps=steps,
        make=tuple(sorted(target.folders - now)),
        unmake=tuple(sorted(now - then)),
        kept=current.unmanaged | kept,
    )


def plan_changes(found: TreeChanges, spared: Callable[[str], str | None] | None = None) -> Plan:
    """Computes the same way from what differs alone; ``kept`` then names only what would have been deleted.

    Args:
        found: what differs between the tree that stands on disk and the target.
        spared: as for ``make_plan``.
    """
    steps, kept = _steps(found.changes, spared or (lambda _: None))
    held_back = {path: _not_captured(reason) for path, reason in found.held_back.items()}
    return Plan(steps=steps, make=found.made, unmake=found.unmade, kept=held_back | kept)


def _steps(found: Iterable[Change], spared: Callable[[str], str | None]) -> tuple[tuple[Step, ...], dict[str, str]]:
    """Gives the steps, and what is kept with the reason."""
    steps: list[Step] = []
    kept: dict[str, str] = {}
    for change in found:
        if change.after is not None:
            action: Literal["add", "change"] = "add" if change.before is None else "change"
            steps.append(Step(change.path, action, change.before, change.after))
            continue
        reason = spared(change.path)
        if reason is None:
            steps.append(Step(change.path, "delete", change.before, None))
        else:
            kept[change.path] = _not_captured(reason)
    return tuple(steps), kept


def _not_captured(reason: str) -> str:
    return f"not captured in the target: {reason}"


def write_plan(blobs: Blobs, plan: Plan) -> Digest:
    """Stores a plan, as canonical JSON.

    Raises:
        InputRefused: a step leads out of the root, or contradicts itself or another.
    """
    _check(plan)
    return blobs.put(_encoder.encode(plan))


def read_plan(blobs: Blobs, digest: Digest) -> Plan:
    """Reads a plan back, trusting nothing in it.

    Raises:
        BlobMissing: it is not in the store.
        BlobCorrupt: it does not hash to its name, or is none that ``write_plan`` writes.
    """
    content = blobs.get(digest)
    try:
        plan = _decoder.decode(content)
        if _encoder.encode(plan) != content:
            raise InputRefused("it is not canonical JSON, or says a name twice.")
        _check(plan)
    except (InputRefused, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BlobCorrupt(
            f"the plan {digest} is malformed: {error} Nothing was moved; run `instar verify`, then plan anew."
        ) from error
    return plan


_SHAPES = {"add": (False, True), "change": (True, True), "delete": (True, False)}


def _check(plan: Plan) -> None:
    for step in plan.steps:
        check_path(step.path)
        if (step.expected is not None, step.target is not None) != _SHAPES[step.action]:
            raise InputRefused(f"the step {step.action} of {step.path!r} contradicts itself.")
        for entry in (step.expected, step.target):
            if entry is not None:
                check_entry(entry)
    for folder in (*plan.make, *plan.unmake):
        check_path(folder)
    paths = [step.path for step in plan.steps]
    if paths != sorted(set(paths)):
        raise InputRefused("its steps are not in the order of their paths, each once.")
    placed = plan.placed()
    for path in (*placed, *plan.make):
        above = next((each for each in ancestors(path) if each in placed), None)
        if above is not None:
            raise InputRefused(f"{above!r} would be a file and a folder at once.")
