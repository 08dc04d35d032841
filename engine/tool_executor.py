"""Executes tasks: ``{"type": "self_train"}``, a mutation, or a shell command with captured output."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from instar.fsm.decisions import shell_key
from instar.fsm.errors import InputRefused
from instar.fsm.events import FeedbackReceived, TaskQueued
from instar.fsm.record import Recorded

from .feedback_rows import Name
from .kernel import patch_digest
from .redact import redact
from .runtime import Runtime
from .shell_executor import Captured, Limits, run_captured
from .training.recipe import Recipe

OUTPUT_CHARS = 4000


class SelfTrain(Struct, tag="self_train", forbid_unknown_fields=True):
    """Asks for a retrain, with some parts of the recipe otherwise than configured."""

    note: str = ""
    recipe: dict[str, float | int | str] = {}


class Mutate(Struct, tag="mutate", forbid_unknown_fields=True):
    """Proposes a patch (a unified diff), with the gate command that it must pass."""

    patch: str
    gate: str | list[str] | None = None
    note: str = ""


class Shell(Struct, tag="shell", forbid_unknown_fields=True):
    """Runs a command in the workspace; a failure is feedback."""

    command: str | list[str]
    timeout_s: float = 600.0
    task_type: Name = "shell"


Task = SelfTrain | Mutate | Shell


class Executed(Struct, frozen=True, kw_only=True):
    """What became of a task: the event that holds it, and for a shell command how it ended."""

    type: Literal["self_train", "mutate", "shell"]
    event: int
    feedback: int | None = None
    captured: Captured | None = None


def parse_task(task: Mapping[str, Any]) -> Task:
    """Reads a task.

    Raises:
        InputRefused: its type is not known, a field is missing, unknown or of another type, or a text is no UTF-8.
    """
    _check_text("the task", task)
    try:
        return msgspec.convert(dict(task), Task)  # type: ignore[no-any-return]
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise InputRefused(
            f"task refused: {error}. Known types: self_train, mutate (patch, gate), shell (command, timeout_s)."
        ) from error


def _check_text(name: str, value: object) -> None:
    """Refuses a text that can neither be recorded nor run, before anything is done with the others."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise InputRefused(
                    f"task refused: {name} holds {value[error.start]!a}, half a character, which no UTF-8 can "
                    'hold. Decode bytes with errors="replace" or "backslashreplace", and give that.'
                ) from error
        case Mapping():
            for key, inner in value.items():
                _check_text(name, key)
                _check_text(str(key), inner)
        case list() | tuple():
            for inner in value:
                _check_text(name, inner)


def words(command: str | list[str] | None) -> tuple[str, ...]:
    """Splits a command line as a POSIX shell would."""
    if command is None:
        return ()
    try:
        return tuple(shlex.split(command)) if isinstance(command, str) else tuple(command)
    except ValueError as error:
        raise InputRefused(f"the command cannot be split into words: {error}") from error


def execute(runtime: Runtime, task: Mapping[str, Any], *, source: str) -> Executed:
    """Queues or runs a task.

    Args:
        runtime: the workspace.
        task: such as ``{"type": "self_train"}``.
        source: who asks.

    Raises:
        InputRefused: the task is malformed, or its recipe cannot be trained with.
        ConfigError: there is no such program, or the patch is no unified diff.
    """
    match parse_task(task):
        case SelfTrain(note=note, recipe=recipe):
            record = runtime.log.append(training_task(source=source, note=note, recipe=recipe))
            return Executed(type="self_train", event=record.seq)
        case Mutate() as mutation:
            patch = patch_digest(runtime, mutation.patch.encode())
            event = TaskQueued(task="mutate", source=source, note=mutation.note, patch=patch, gate=words(mutation.gate))
            return Executed(type="mutate", event=runtime.log.append(event).seq)
        case Shell() as shell:
            return _run_shell(runtime, shell, source)


def training_task(*, source: str, note: str, recipe: Mapping[str, float | int | str]) -> TaskQueued:
    """Gives the order to train.

    Raises:
        InputRefused: the recipe cannot be trained with.
    """
    try:
        Recipe.from_dict(recipe)
    except ValueError as error:
        raise InputRefused(f"the recipe cannot be used: {error}. docs/training.md lists its parts.") from error
    return TaskQueued(task="self_train", source=source, note=note, recipe=dict(recipe))


def _run_shell(runtime: Runtime, shell: Shell, source: str) -> Executed:
    command = words(shell.command)
    queued = runtime.log.append(TaskQueued(task="shell", source=source, command=command))
    captured = run_captured(command, cwd=runtime.workspace.root, limits=Limits(timeout_s=shell.timeout_s))
    feedback = _record_outcome(runtime, queued, shell, command, captured)
    return Executed(type="shell", event=queued.seq, feedback=feedback.seq, captured=captured)


def _record_outcome(
    runtime: Runtime, queued: Recorded, shell: Shell, command: tuple[str, ...], captured: Captured
) -> Recorded:
    event = FeedbackReceived(
        task_type=shell.task_type,
        input=redact(shlex.join(command)),
        output=redact(captured.tail(OUTPUT_CHARS)),
        outcome="pass" if captured.passed else "fail",
        source="shell",
        exit_code=captured.exit_code,
        log=runtime.blobs.put(redact(captured.output.decode("utf-8", "replace")).encode()),
    )
    return runtime.log.append(event, cause=queued.seq, key=shell_key(queued.seq))
