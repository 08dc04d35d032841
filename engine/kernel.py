"""The mutation kernel: a patch is applied in a copy of the tree, its gate runs there, and a verdict is reached.

What a mutation may not touch (tests, configuration, the gate itself) is refused before anything runs. The patch is
applied by ``git apply``, which neither needs nor looks at a repository here.
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
from instar.store.trees import Tree, changes, decode_path, read_tree, write_tree

from .protection import TOUCHES, protected_among
from .restoring.restore import check_plan, make_plan, write_plan
from .runtime import Runtime
from .shell_executor import Captured, Limits, run_captured
from .trees.capture import Capture
from .trees.ignore import Ignore
from .trees.stat_cache import StatCache

SANDBOX = "rlimits"


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of a patch: why it was rejected, or the tree that it leads to."""

    reason: str | None
    tree: Tree | None = None
    gate: tuple[str, ...] = ()
    captured: Captured | None = None


def judge(runtime: Runtime, state: AgentState, task_seq: Seq, task: TaskQueued) -> MutationRejected | MutationAccepted:
    """Tries a queued patch in a copy, and decides.

    The workspace itself is not touched: an accepted mutation names the plan that the restore machinery then carries
    out, file by file against what the caller's rescan saw.
    """
    if task.patch is None or state.tree is None:
        raise EffectFailedError(f"task {task_seq} names no patch; queue it with `instar mutate --patch FILE`")
    command = gate_command(runtime, task)
    current = read_tree(runtime.blobs, state.tree)
    verdict = _try(runtime, state, current, runtime.blobs.get(task.patch), command)
    log = runtime.blobs.put(verdict.captured.output) if verdict.captured else None
    if verdict.reason is not None or verdict.tree is None:
        return MutationRejected(
            task=task_seq,
            patch=task.patch,
            reason=verdict.reason or "no tree came of it",
            gate=command,
            exit_code=verdict.captured.exit_code if verdict.captured else None,
            log=log,
            sandbox=SANDBOX,
        )
    plan = make_plan(current, verdict.tree)
    check_plan(runtime.workspace.root, plan, runtime.blobs)
    return MutationAccepted(
        task=task_seq,
        patch=task.patch,
        gate=command,
        log=log,
        sandbox=SANDBOX,
        plan=write_plan(runtime.blobs, plan),
        tree_before=state.tree,
        tree_after=write_tree(runtime.blobs, verdict.tree),
    )


def gate_command(runtime: Runtime, task: TaskQueued) -> tuple[str, ...]:
    """Gives the command that a patch must pass; ``{python}`` stands for this interpreter."""
    chosen = task.gate or runtime.settings.mutation.gate
    return tuple(part.replace("{python}", sys.executable) for part in chosen)


def _try(runtime: Runtime, state: AgentState, current: Tree, patch: bytes, command: tuple[str, ...]) -> Verdict:
    refused = budget_refusal(state)
    if refused:
        return Verdict(reason=refused)
    copy = runtime.workspace.scratch / f"mutation-{os.getpid()}"
    shutil.rmtree(copy, ignore_errors=True)
    try:
        tree_folder = copy / "tree"
        _write_copy(runtime, current, tree_folder)
        refused = _apply(tree_folder, patch)
        if refused:
            return Verdict(reason=refused)
        mutated = _captured_tree(runtime, current, tree_folder)
        refused = _touches_protected(state, current, mutated)
        if refused:
            return Verdict(reason=refused)
        return _run_gate(runtime, tree_folder, command, mutated, copy / "home")
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _write_copy(runtime: Runtime, tree: Tree, folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in tree.folders:
        (folder / os.fsdecode(decode_path(path))).mkdir(parents=True, exist_ok=True)
    for path, entry in tree.files.items():
        target = folder / os.fsdecode(decode_path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        content = runtime.blobs.get(entry.blob)
        if entry.kind == "link":
            target.symlink_to(os.fsdecode(content))
        else:
            target.write_bytes(content)
            target.chmod(entry.mode | 0o600)


def _apply(folder: Path, patch: bytes) -> str | None:
    """Applies a unified diff strictly; gives the reason when it does not fit."""
    git = shutil.which("git")
    if git is None:
        raise ConfigError("`git` is not installed; it applies patches (git apply). Install it, e.g. apt install git.")
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "LC_ALL": "C",
    }
    command = [git, "apply", "--whitespace=nowarn", "-"]
    result = subprocess.run(command, cwd=folder, input=patch, env=environ, capture_output=True, timeout=60)
    if result.returncode:
        text = result.stderr.decode("utf-8", "replace").strip()
        return f"the patch does not apply: {re.sub(r'^error: ', '', text)[:500]}"
    return None


def _captured_tree(runtime: Runtime, current: Tree, folder: Path) -> Tree:
    ignore = Ignore(patterns=runtime.settings.watch.ignore)
    cache = StatCache(folder.parent / "stat-cache")
    tree = Capture(folder, runtime.blobs, ignore, cap_bytes=runtime.settings.watch.cap_bytes, cache=cache).scan()
    # What was never captured stays unmanaged, and modes that the copy had to widen are as they were.
    files = {
        path: current.files[path] if path in current.files and current.files[path].blob == entry.blob else entry
        for path, entry in tree.files.items()
    }
    return Tree(files, tree.folders, current.unmanaged)


def _touches_protected(state: AgentState, current: Tree, mutated: Tree) -> str | None:
    touched = [change.path for change in changes(current, mutated)]
    if not touched:
        return "the patch changes nothing"
    protected = protected_among(touched, state.policy.mutation.protected)
    if protected:
        return f"{TOUCHES}{', '.join(protected[:5])}"
    return None


def _run_gate(runtime: Runtime, folder: Path, command: tuple[str, ...], mutated: Tree, home: Path) -> Verdict:
    home.mkdir()
    limits = Limits(
        timeout_s=runtime.settings.mutation.timeout_s,
        memory_bytes=runtime.settings.mutation.memory_bytes,
        open_files=1024,
    )
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    try:
        captured = run_captured(command, cwd=folder, limits=limits, environ=environ)
    except ConfigError as error:
        return Verdict(reason=f"the gate cannot run: {error}", gate=command)
    if not captured.passed:
        how = "timed out" if captured.timed_out else f"ended with {captured.exit_code}"
        return Verdict(reason=f"the gate {how}: {captured.tail(500)}", gate=command, captured=captured)
    return Verdict(reason=None, tree=mutated, gate=command, captured=captured)


def patch_digest(runtime: Runtime, patch: bytes) -> Digest:
    """Keeps a patch in the store.

    Raises:
        ConfigError: it is no unified diff.
    """
    if not re.search(rb"^(diff --git |--- |\+\+\+ |GIT binary patch)", patch, re.M):
        raise ConfigError("the patch is no unified diff: give the output of `diff -u` or `git diff`")
    return runtime.blobs.put(patch)
