"""Workspaces in which a command is killed or fails, and what has to be true of them afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import save_file

from instar.engine.initialize import initialize
from instar.engine.keeping.integrity import check
from instar.engine.runtime import Runtime
from instar.engine.settings import load_settings
from instar.engine.snapshot import take_snapshot
from instar.fsm import events as e
from instar.fsm.words import Digest, digest_of
from instar.store.log import Pending
from tests.crash.forked import Ended, Forked, Site
from tests.engine.test_restore import FIRST, SECOND
from tests.engine.tiny_model import tiny_model
from tests.engine.workspaces import Leaf, Wanted, build, look
from tests.fsm.builders import GAIN, dataset, rewarded, trained

MEMORY = Path("/dev/shm")
KEPT: dict[bytes, Leaf | None] = {
    b".env": ("file", 0o600, b"SECRET=1\n"),
    b".git/HEAD": ("file", 0o644, b"ref: refs/heads/main\n"),
    b"deleted/vendored/.git/config": ("file", 0o644, b"[core]\n"),
    b"node_modules/left.js": ("file", 0o644, b"left\n"),
}
"""What is never captured, and so never touched. One of it lies in a folder that the rollback would remove."""
OLD: Wanted = {**SECOND, **KEPT}
NEW: Wanted = {**FIRST, **KEPT}
TYPED = {"changed.py": b"typed since", "deleted/x.py": b"typed too", "mode": b"typed as well"}
"""What somebody writes between a kill and the recovery from it."""
STALE = Path("__pycache__") / "changed.cpython-311.pyc"
ONTO_NOTHING = ("rollback", "latest", "-n")
"""A command that changes nothing by itself: it finishes what was begun, as all that follow a crash do."""


@dataclass(frozen=True)
class Scene:
    """A workspace in which one command brings the old tree to the new one.

    Attributes:
        command: the arguments of ``instar``, its workspace left out.
        template: the workspace before the command; it is copied for each fault.
        rollbacks: how many the template holds already.
        begun: whether the log holds the restore's beginning already, so that the old tree is no outcome any more.
        typed: bytes that the displaced ones must hold afterwards.
        active: the checkpoints that are active before and after.
    """

    name: str
    command: tuple[str, ...]
    template: Path
    old: Wanted
    new: Wanted
    rollbacks: int = 0
    begun: bool = False
    typed: dict[str, bytes] = field(default_factory=dict)
    active: tuple[Digest | None, Digest | None] = (None, None)

    def copy(self, root: Path) -> None:
        shutil.copytree(self.template, root, symlinks=True)

    def run(self, forked: Forked, root: Path, inject: str = "") -> Ended:
        return forked.run(*self.command, "-C", str(root), inject=inject)

    def sites(self, forked: Forked, root: Path) -> list[Site]:
        """Runs the command undisturbed and gives its calls that change something."""
        self.copy(root)
        ended, sites = forked.record(root, *self.command, "-C", str(root))
        assert ended.code == 0, ended.said
        assert self.outcome(forked, root) == "new"
        shutil.rmtree(root)
        return sites

    def half_way(self, root: Path) -> list[str]:
        """Names the paths that are neither wholly old nor wholly new, of a workspace that nobody looked after yet."""
        allowed = {path: (self.old.get(path), self.new.get(path)) for path in (*self.old, *self.new)}
        return [
            f"{path!r} holds {leaf}"
            for path, leaf in seen(root).items()
            if leaf is not None  # folders come and go; whether a path is missing is asked of the whole tree
            and leaf not in allowed.get(path, ())
            and leaf[2] != self.typed.get(path.decode(errors="replace"))
        ]

    def outcome(self, forked: Forked, root: Path) -> str:
        """Lets the next command run, and says which tree stands there: the log has to say the same.

        Raises:
            AssertionError: neither does, or something was lost.
        """
        ended = forked.run(*ONTO_NOTHING, "-C", str(root))
        assert ended.code == 0, ended.said
        runtime = Runtime(root, actor="test")
        try:
            finished = [one.event for one in runtime.reader.read(types=[e.RollbackFinished])]
            began = len(list(runtime.reader.read(types=[e.RollbackStarted])))
            assert runtime.state.restoring is None
            assert began == len(finished), f"{began} rollbacks began, {len(finished)} finished"
            assert not list(check(runtime.reader).problems)
            outcome = "new" if began > self.rollbacks else "old"
            assert outcome == "new" or not self.begun
            assert seen(root) == (self.new if outcome == "new" else self.old), f"the log says that it is {outcome}"
            if outcome == "new":
                assert self.new == self.old or not (root / STALE).exists(), "old bytecode may run"
                last = finished[-1]
                assert isinstance(last, e.RollbackFinished)
                displaced = {one.path: runtime.blobs.get(one.blob) for one in last.displaced}
                assert displaced == self.typed, "what somebody typed is lost"
            active = root / "run" / "checkpoints" / "active"
            wanted = self.active[outcome == "new"]
            assert runtime.state.checkpoint == wanted
            assert wanted is None or active.resolve().name == wanted
            return outcome
        finally:
            runtime.close()

    def there_and_back(self, forked: Forked, root: Path, outcome: str) -> None:
        """Goes on to the new tree where that was not reached, and from there back to the old one."""
        if outcome == "old":
            ended = self.run(forked, root)
            assert ended.code == 0, ended.said
            assert self.outcome(forked, root) == "new"
        runtime = Runtime(root, actor="test")
        safety = max(runtime.state.snapshots, key=lambda name: runtime.state.snapshots[name])
        runtime.close()
        ended = forked.run("rollback", f"snapshot:{safety}", "-y", "-C", str(root))
        assert ended.code == 0, ended.said
        assert seen(root) == self.old
        left = [path for path in (root / ".instar" / "staging").rglob("*") if path.is_file()]
        assert not left, "a restore that was cut off leaves files that none after it takes up"


def seen(root: Path) -> Wanted:
    """What stands in a workspace; bytecode, and the links to checkpoints, are looked at apart."""
    return {path: leaf for path, leaf in look(root).items() if not path.startswith((b"__pycache__", b"run/"))}


def fill(root: Path) -> None:
    """Writes the new tree, sets the workspace up, then edits it to be the old tree."""
    build(root, NEW)
    initialize(root, with_model=False)
    edit(root)


def edit(root: Path) -> None:
    build(root, OLD)
    (root / STALE).parent.mkdir()
    (root / STALE).write_bytes(b"bytecode")


def rolling_back(folder: Path, forked: Forked) -> Scene:
    """A rollback to the beginning, of edits that nobody has captured yet."""
    (root := folder / "rollback").mkdir()
    fill(root)
    return Scene("rollback", ("rollback", "1", "-y"), root, OLD, NEW)


def taking_back(folder: Path, forked: Forked) -> Scene:
    """The undo of a rollback, with nothing edited since."""
    (root := folder / "undo").mkdir()
    fill(root)
    ended = forked.run("rollback", "1", "-y", "-C", str(root))
    assert ended.code == 0, ended.said
    runtime = Runtime(root, actor="test")
    assert len(runtime.state.snapshots) == 1
    runtime.close()
    return Scene("undo", ("undo", "-y"), root, NEW, OLD, rollbacks=1)


def recovering(folder: Path, forked: Forked) -> Scene:
    """What follows a rollback that was killed half-way, after which somebody typed."""
    (root := folder / "recovery").mkdir()
    fill(root)
    ended = forked.run("rollback", "1", "-y", "-C", str(root), inject="renameat2:signal=SIGKILL:when=6")
    assert ended.code == -9, ended.said
    for path, content in TYPED.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content)
    return Scene("recovery", ONTO_NOTHING, root, OLD, NEW, begun=True, typed=TYPED)


def switching(folder: Path, forked: Forked) -> Scene:
    """A rollback over a promotion, whose earlier checkpoint is no longer unpacked."""
    (root := folder / "checkpoint").mkdir()
    build(root, NEW)
    model = tiny_model(folder / "model")
    initialize(root, settings=load_settings(root, {}, model=str(model)))
    runtime = Runtime(root, actor="worker")
    base = runtime.state.checkpoint
    assert base is not None
    promoted = runtime.models.import_weights(str(_model(folder / "model2")))
    _promote(runtime, base, promoted)
    edit(root)
    runtime.models.activate(promoted)
    take_snapshot(runtime, "edited")
    shutil.rmtree(runtime.workspace.checkpoints / base)
    runtime.close()
    return Scene("checkpoint", ("rollback", "1", "-y"), root, OLD, NEW, active=(promoted, base))


def switching_alone(folder: Path, forked: Forked) -> Scene:
    """A rollback of the checkpoint alone; the code stays as it was edited."""
    scene = switching(folder, forked)
    return replace(scene, name="checkpoint alone", command=("rollback", "1", "--only", "checkpoint", "-y"), new=OLD)


SCENES = (rolling_back, taking_back, recovering, switching, switching_alone)


def _model(folder: Path) -> Path:
    folder.mkdir()
    save_file({"w": np.full((3, 5), 2, np.float32), "kept": np.ones(4, np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 5}))
    return folder


def _promote(runtime: Runtime, base: Digest, promoted: Digest) -> None:
    """Records a retrain and its promotion; what it would have measured is made up."""
    task = runtime.log.append(e.TaskQueued(task="self_train", source="test")).seq
    runtime.log.append(e.CycleStarted(entry="self_train", span=e.Span(task, task), count=1), cause=task)
    answers = (
        e.RetrainFlagged(triggers=(), path="p", content=digest_of(b"")),
        dataset(),
        trained(GAIN),
        rewarded("promoted", subject="checkpoint", checkpoint=promoted),
        e.PlanChosen(steps=(), planner="b"),
    )
    for event in answers:
        _answer(runtime, event, base, promoted)
    assert runtime.state.checkpoint == promoted


def _answer(runtime: Runtime, event: e.AnyEvent, base: Digest, promoted: Digest) -> None:
    if isinstance(event, e.CheckpointTrained):
        event = msgspec.structs.replace(event, checkpoint=promoted, base=base)
    runtime.log.transact(lambda state: [Pending(event, cause=state.since)])


def spread(sites: Sequence[Site], every: int) -> Iterator[Site]:
    """Picks every n-th call, and of each kind of call one at least."""
    kinds = set()
    for place, site in enumerate(sites):
        if place % every == every - 1 or site.name not in kinds:
            kinds.add(site.name)
            yield site
