"""The mutation kernel: a patch is applied in a copy of the tree, its gate runs there, and a verdict is reached.

What a mutation may not touch (tests, configuration, the gate itself) is refused before anything runs, and so is what no
tree of the workspace would hold. The patch is applied by ``git apply``, which neither needs nor looks at a repository
here. The gate runs in a folder written from the very tree that is applied if it passes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

from instar.fsm.decisions import budget_refusal
from instar.fsm.errors import ConfigError, EffectFailedError
from instar.fsm.events import MutationAccepted, MutationRejected, TaskQueued
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.durable import make_below
from instar.store.paths import decode_path, parent_of
from instar.store.trees import Tree, read_tree, write_tree

from .files.open_beneath import OPEN_FOLDER
from .mending import Mended, mend
from .mutators.port import Proposal
from .protection import TOUCHES, protected_among
from .restoring.restore import check_plan, make_plan, write_plan
from .restoring.writing import Writing, write_all
from .runtime import Runtime
from .sandbox.choose import unconfined
from .sandbox.gate import NONE, run_gate
from .shell_executor import Captured
from .trees.patched import Patched, widened
from .workspace import Workspace

NAMED_MAX = 5
_COPY = "mutation-"
"""How the folder begins, in scratch, in which a process tries a patch; its number follows."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of a patch: why it was rejected, or the tree that it leads to."""

    reason: str | None
    tree: Tree | None = None
    gate: tuple[str, ...] = ()
    captured: Captured | None = None
    sandbox: str = NONE
    """What confined the gate, if it was run."""


def judge(runtime: Runtime, state: AgentState, task_seq: Seq, task: TaskQueued) -> MutationRejected | MutationAccepted:
    """Tries a queued patch in a copy, and decides.

    The workspace itself is not touched: an accepted mutation names the plan that the restore machinery then carries
    out, file by file against what the caller's rescan saw.
    """
    if (task.patch is None and task.repair is None) or state.tree is None:
        raise EffectFailedError(f"task {task_seq} names no patch; queue it with `instar mutate --patch FILE`")
    command = gate_command(runtime, task)
    current = read_tree(runtime.blobs, state.tree)
    patch, mended = task.patch, None
    if task.repair is None and patch is not None:
        verdict = _try(runtime, state, current, runtime.blobs.get(patch), command, task.source)
    else:
        verdict, mended = _mend(runtime, state, current, task_seq, task, command)
        patch = runtime.blobs.put(mended.patch) if mended.patch else None
    log = runtime.blobs.put(verdict.captured.output) if verdict.captured else None
    found = {"mutator": mended.mutator, "tried": mended.tried} if mended else {}
    if verdict.reason is not None or verdict.tree is None or patch is None:
        return MutationRejected(
            task=task_seq,
            patch=patch,
            reason=verdict.reason or "no tree came of it",
            gate=command,
            exit_code=verdict.captured.exit_code if verdict.captured else None,
            log=log,
            sandbox=verdict.sandbox,
            **found,  # type: ignore[arg-type]
        )
    plan = make_plan(current, verdict.tree)
    check_plan(runtime.workspace.root, plan, runtime.blobs)
    return MutationAccepted(
        task=task_seq,
        patch=patch,
        gate=command,
        log=log,
        sandbox=verdict.sandbox,
        plan=write_plan(runtime.blobs, plan),
        tree_before=state.tree,
        tree_after=write_tree(runtime.blobs, verdict.tree),
        runs=runtime.settings.mutation.gate_runs,
        **found,  # type: ignore[arg-type]
    )


def gate_command(runtime: Runtime, task: TaskQueued) -> tuple[str, ...]:
    """Gives the command that a patch must pass; ``{python}`` stands for this interpreter."""
    return _with_python(task.gate or runtime.settings.mutation.gate)


def _with_python(command: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.replace("{python}", sys.executable) for part in command)


def _try(
    runtime: Runtime, state: AgentState, current: Tree, patch: bytes, command: tuple[str, ...], source: str
) -> Verdict:
    refused = budget_refusal(state) or unconfined(runtime.settings.mutation, source)
    if refused:
        return Verdict(reason=refused)
    copy = _fresh_copy(runtime)
    try:
        patched_folder = copy / "patched"
        _write_copy(runtime, widened(current), patched_folder)
        refused = _apply(patched_folder, patch)
        if refused:
            return Verdict(reason=refused)
        patched = Patched(patched_folder, current, runtime.capture)
        refused = _out_of_bounds(state, patched)
        if refused:
            return Verdict(reason=refused)
        for path in patched.touched:
            if path in patched.tree.files:
                runtime.blobs.put(patched.content(path))
        return _run_gate(copy, runtime, patched.tree, command)
    finally:
        _remove(copy)


def _mend(
    runtime: Runtime, state: AgentState, current: Tree, task_seq: Seq, task: TaskQueued, command: tuple[str, ...]
) -> tuple[Verdict, Mended]:
    """Has the mutators find a patch; what they found is then tried like one that was given."""
    assert task.repair is not None
    _git()  # what is found could not be tried without it
    refused = budget_refusal(state)
    if refused:
        return Verdict(reason=refused), Mended()
    copy = _fresh_copy(runtime)

    def run(proposal: Proposal | None) -> Captured:
        return _run_in(copy, runtime, current, command, proposal)

    def barred(name: str) -> str | None:
        return unconfined(runtime.settings.mutation, name)

    asked = runtime.reader.get(task_seq).hash
    try:
        mended = mend(runtime, state, current, task.repair, asked, command, run, barred)
    finally:
        _remove(copy)
    if mended.patch is None:
        return Verdict(reason=mended.reason, gate=command, captured=mended.captured), mended
    return _try(runtime, state, current, mended.patch, command, mended.mutator), mended


def gate_on(runtime: Runtime, tree: Digest) -> Captured:
    """Runs the gate of the settings in a copy of a tree, as it is.

    Raises:
        ConfigError: it cannot run.
        BlobMissing, BlobCorrupt: the store lacks a part of the tree.
    """
    command = _with_python(runtime.settings.mutation.gate)
    copy = _fresh_copy(runtime)
    try:
        return _run_in(copy, runtime, read_tree(runtime.blobs, tree), command)
    finally:
        _remove(copy)


def _run_in(
    copy: Path, runtime: Runtime, tree: Tree, command: tuple[str, ...], proposal: Proposal | None = None
) -> Captured:
    """Says how a gate ended on a tree, with a proposal in it if there is one.

    Raises:
        ConfigError: it cannot run.
    """
    verdict = _run_gate(copy, runtime, tree, command, proposal)
    if verdict.captured is None:
        raise ConfigError(verdict.reason or "the gate cannot run")
    return verdict.captured


def _put_into(folder: Path, proposal: Proposal) -> None:
    """Writes a proposal over the file in a copy, by a way that follows no link; the file's mode stays."""
    name = decode_path(proposal.path.rpartition("/")[2])
    parent = folder / os.fsdecode(decode_path(parent_of(proposal.path)))
    fd = os.open(parent, OPEN_FOLDER)
    try:
        file = os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        with os.fdopen(file, "wb") as written:
            written.write(proposal.content)
    finally:
        os.close(fd)


def _fresh_copy(runtime: Runtime) -> Path:
    copy = runtime.workspace.scratch / f"{_COPY}{os.getpid()}"
    _remove(copy)
    return copy


def _remove(copy: Path) -> None:
    """Removes a copy, or what its gate put in its place: of a link, not what it leads to."""
    if copy.is_symlink() or copy.is_file():
        copy.unlink(missing_ok=True)
    shutil.rmtree(copy, ignore_errors=True)


def remove_copies(workspace: Workspace) -> None:
    """Removes the folders in which processes that died tried patches; the caller is the workspace's one worker."""
    for left in workspace.scratch.glob(f"{_COPY}*"):
        _remove(left)


def _write_copy(runtime: Runtime, tree: Tree, folder: Path) -> None:
    """Writes the files, links and empty folders of a tree into a new folder."""
    make_below(folder.parent, runtime.workspace.home)
    folder.mkdir()
    for path in sorted(Tree(tree.files, tree.folders).all_folders()):
        (folder / os.fsdecode(decode_path(path))).mkdir()
    places = [
        Writing(parent_of(path), decode_path(path.rpartition("/")[2]), path, entry)
        for path, entry in sorted(tree.files.items(), key=lambda item: parent_of(item[0]))
    ]
    fd = os.open(folder, OPEN_FOLDER)
    try:
        write_all(fd, runtime.blobs, places)
    finally:
        os.close(fd)


def _git() -> str:
    git = shutil.which("git")
    if git is None:
        raise ConfigError("`git` is not installed; it applies patches (git apply). Install it, e.g. apt install git.")
    return git


def _apply(folder: Path, patch: bytes) -> str | None:
    """Applies a unified diff strictly; gives the reason when it does not fit."""
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "LC_ALL": "C",
    }
    command = [_git(), "apply", "--whitespace=nowarn", "-"]
    result = subprocess.run(command, cwd=folder, input=patch, env=environ, capture_output=True, timeout=60)
    if result.returncode:
        text = result.stderr.decode("utf-8", "replace").strip()
        return f"the patch does not apply: {re.sub(r'^error: ', '', text)[:500]}"
    return None


def _out_of_bounds(state: AgentState, patched: Patched) -> str | None:
    """Says why what a patch made is not even tried."""
    if not patched.touched:
        return "the patch changes nothing"
    bounds = state.policy.mutation.protected
    protected = protected_among(patched.touched, bounds)
    if protected:
        return f"{TOUCHES}{', '.join(protected[:NAMED_MAX])}"
    left_out = [f"{path} ({reason})" for path, reason in patched.left_out().items()]
    if left_out:
        return f"the patch writes what no tree of this workspace holds: {', '.join(left_out[:NAMED_MAX])}"
    hidden = protected_among(patched.hidden(), bounds)
    if hidden:
        return f"the patch has ignored what a mutation may not touch: {', '.join(hidden[:NAMED_MAX])}"
    return None


def _run_gate(
    copy: Path, runtime: Runtime, tree: Tree, command: tuple[str, ...], proposal: Proposal | None = None
) -> Verdict:
    """Runs a gate as often as it has to pass, each time in a fresh copy of a tree; the first that fails ends it."""
    settings = runtime.settings.mutation
    for run in range(1, settings.gate_runs + 1):
        _remove(copy)
        _write_copy(runtime, tree, copy / "tree")
        if proposal is not None:
            _put_into(copy / "tree", proposal)
        (copy / "home").mkdir()
        try:
            ran = run_gate(
                command, folder=copy / "tree", home=copy / "home", workspace=runtime.workspace, settings=settings
            )
        except ConfigError as error:
            return Verdict(reason=f"the gate cannot run: {error}", gate=command)
        captured = ran.captured
        if not captured.passed:
            how = "timed out" if captured.timed_out else f"ended with {captured.exit_code}"
            which = f" at run {run} of {settings.gate_runs}" if settings.gate_runs > 1 else ""
            reason = f"the gate {how}{which}: {captured.tail(500)}"
            return Verdict(reason=reason, gate=command, captured=captured, sandbox=ran.sandbox)
    return Verdict(reason=None, tree=tree, gate=command, captured=captured, sandbox=ran.sandbox)


def patch_digest(runtime: Runtime, patch: bytes) -> Digest:
    """Keeps a patch in the store.

    Raises:
        ConfigError: it is no unified diff.
    """
    if not re.search(rb"^(diff --git |--- |\+\+\+ |GIT binary patch)", patch, re.M):
        raise ConfigError("the patch is no unified diff: give the output of `diff -u` or `git diff`")
    return runtime.blobs.put(patch)
