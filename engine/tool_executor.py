"""Executes tasks: ``{"type": "self_train"}``, a mutation, or a shell command with captured output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from posixpath import normpath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from instar.fsm.decisions import shell_key
from instar.fsm.errors import ConfigError, EffectFailedError, InputRefused
from instar.fsm.events import FeedbackReceived, Repair, TaskQueued
from instar.fsm.record import Recorded
from instar.fsm.words import Digest
from instar.store.locate import locate_model

from .extensions import BUILTIN, TRAINERS, claims_of
from .feedback_rows import TEXT_CHARS_MAX, Name, recordable
from .kernel import patch_digest
from .redact import redact
from .repair import chosen_mutators
from .runtime import Runtime
from .shell_executor import INTERRUPTED, TERMINATED, Captured, Terminated, raised_sigterm
from .training.probes import probe_file
from .training.recipe import Recipe

OUTPUT_CHARS = 4000
TRIES_MAX = 100_000
WORD_BYTES_MAX = 128 * 1024
COMMAND_BYTES_MAX = 1024 * 1024
NOT_RUN = 127
"""How a shell says that there is no such program, or that it cannot be run."""
_QUOTED = re.compile(r"\\.|'[^']*'|" r'"(?:\\.|[^"\\])*"', re.S)
"""Where an operator is none: after a backslash, and within quotation marks."""
_OPERATOR = re.compile(r"&&|\|\||\$\(|[|&;<>()`\n]")


class SelfTrain(Struct, tag="self_train", forbid_unknown_fields=True):
    """Asks for a retrain, with some parts of the recipe otherwise than configured; or for weights to be judged."""

    note: str = ""
    recipe: dict[str, float | int | str] = {}
    weights: str = ""
    """Weights that are judged in place of trained ones: a folder, a package or a hub name, or ``checkpoint:PREFIX``."""


class Mutate(Struct, tag="mutate", forbid_unknown_fields=True):
    """Proposes a patch (a unified diff), with the gate command that it must pass; or asks for one that passes it."""

    patch: str | None = None
    gate: str | list[str] | None = None
    note: str = ""
    repair: bool = False
    """The mutators are to find the patch."""
    paths: list[str] = []
    """Of a repair: the files and folders that may be changed; the monitored files by default."""
    mutators: list[str] = []
    """Of a repair: who is asked; ``mutators.enabled`` by default."""
    tries: Annotated[int, Meta(ge=1, le=TRIES_MAX)] | None = None
    """Of a repair: how many proposals are tried; ``mutators.tries`` by default."""


class Shell(Struct, tag="shell", forbid_unknown_fields=True):
    """Runs a command in the workspace; a failure is feedback."""

    command: str | list[str]
    """A line for ``/bin/sh``, or words that are run as they stand, without a shell."""
    timeout_s: float = 600.0
    task_type: Name = "shell"


Task = SelfTrain | Mutate | Shell


class Executed(Struct, frozen=True, kw_only=True):
    """What became of a task.

    Attributes:
        event: the TaskQueued that holds it.
        feedback: of a shell command, the FeedbackReceived that says how it ended.
        captured: of a shell command, its exit code and output.
    """

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
            f"task refused: {error}. Known types: self_train, mutate (patch or repair, gate), shell (command, "
            "timeout_s)."
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


def gate_words(gate: str | list[str] | None) -> tuple[str, ...]:
    """Splits a gate's command line into words, as a shell would; no shell runs it.

    Raises:
        InputRefused: it cannot be split, or holds what only a shell obeys: run without one, ``true && false`` passes.
    """
    if gate is None:
        return ()
    _require_short("the gate", (gate,) if isinstance(gate, str) else gate)  # splitting a text takes the square of it
    if not isinstance(gate, str):
        return tuple(gate)
    if found := _OPERATOR.search(_QUOTED.sub("", gate.strip())):
        raise InputRefused(
            f"the gate holds {found[0]!r}, which only a shell obeys, and a gate runs without one: quote it if it is "
            "meant as it stands, or name the shell: sh -c '…'"
        )
    try:
        return tuple(shlex.split(gate))
    except ValueError as error:
        raise InputRefused(f"the gate cannot be split into words: {error}. Close the quotation.") from error


def _require_short(what: str, words: Sequence[str]) -> None:
    """Refuses what cannot be run for its size."""
    sizes = [len(word.encode()) for word in words] or [0]
    if max(sizes) >= WORD_BYTES_MAX or sum(sizes) > COMMAND_BYTES_MAX:
        raise InputRefused(
            f"task refused: {what} has {sum(sizes):,} bytes, {max(sizes):,} of them in one word: Linux runs none "
            "with 128 KiB in a word, and this engine none over 1 MiB in all. Write the text into a file, and name that."
        )


def _shell_words(shell: Shell) -> tuple[str, ...]:
    """Gives the program and its arguments that a shell task means.

    Raises:
        InputRefused: there is nothing to run, or it cannot be run.
    """
    line = shell.command if isinstance(shell.command, str) else None
    words = tuple(shell.command) if line is None else ("/bin/sh", "-c", line)
    if not (line if line is not None else "".join(words[:1])).strip():
        raise InputRefused("task refused: the command is empty; give a line for /bin/sh, or a program and arguments")
    _require_short("the command", words)
    if any("\0" in word for word in words):
        raise InputRefused("task refused: the command holds a NUL, which no command can; leave it out")
    if not shell.timeout_s > 0:
        raise InputRefused(f"task refused: timeout_s is {shell.timeout_s}; give a number of seconds over 0")
    return words


def execute(runtime: Runtime, task: Mapping[str, Any], *, source: str) -> Executed:
    """Queues or runs a task.

    Args:
        runtime: the workspace.
        task: such as ``{"type": "self_train"}``.
        source: who asks.

    Raises:
        InputRefused: the task is malformed, its recipe cannot be trained with, or its gate needs a shell.
        ConfigError: the patch is no unified diff, a mutator is not known, weights cannot be taken, or the configured
            probes cannot be read.
    """
    match parse_task(task):
        case SelfTrain() as training:
            record = runtime.log.append(_training(runtime, training, source))
            return Executed(type="self_train", event=record.seq)
        case Mutate() as mutation:
            event = _mutation(runtime, mutation, source)
            return Executed(type="mutate", event=runtime.log.append(event).seq)
        case Shell() as shell:
            return _run_shell(runtime, shell, source)


def _mutation(runtime: Runtime, asked: Mutate, source: str) -> TaskQueued:
    """Gives the order to try a patch, or to find one.

    Raises:
        InputRefused: it names both or neither, a path outside the workspace, or a gate that needs a shell.
        ConfigError: the patch is no unified diff, or a mutator is not known or not configured.
    """
    gate, note = gate_words(asked.gate), recordable(asked.note)
    if (asked.patch is None) != asked.repair:
        raise InputRefused("task refused: a mutation names a patch, or asks for a repair, and not both")
    if asked.patch is not None:
        if asked.paths or asked.mutators or asked.tries is not None:
            raise InputRefused("task refused: paths, mutators and tries belong to a repair; this names a patch")
        return TaskQueued(
            task="mutate", source=source, note=note, patch=patch_digest(runtime, asked.patch.encode()), gate=gate
        )
    for path in asked.paths:
        if not path.strip("/") or path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise InputRefused(f"task refused: {path!r} is no path in the workspace; give one relative to its root")
    for name in asked.mutators:
        if ":" in name and name not in runtime.settings.mutators.enabled:
            raise InputRefused(
                f"task refused: {name!r} names code to be run; put it into mutators.enabled, and ask again"
            )
    chosen_mutators(runtime.settings.mutators, asked.mutators)
    tries = asked.tries or runtime.settings.mutators.tries
    paths = dict.fromkeys(normpath(path) for path in asked.paths)
    repair = Repair(paths=tuple(paths), mutators=tuple(asked.mutators), tries=tries)
    return TaskQueued(task="mutate", source=source, note=note, gate=gate, repair=repair)


def _training(runtime: Runtime, asked: SelfTrain, source: str) -> TaskQueued:
    """Gives the order to train, or to judge what was trained elsewhere.

    Raises:
        InputRefused: it names both a recipe and weights, or the recipe cannot be trained with.
        ConfigError: the weights cannot be taken, or the workspace has no model to judge them by.
    """
    task = training_task(runtime, source=source, note=asked.note, recipe=asked.recipe)
    if not asked.weights:
        return task
    if asked.recipe:
        raise InputRefused("task refused: a recipe says how to train, and weights are judged as they are: give one")
    return replace(task, checkpoint=_weights(runtime, asked.weights))


def _weights(runtime: Runtime, name: str) -> Digest:
    """Takes weights into the store, or finds the ones that lie there.

    Raises:
        InputRefused: they are active already.
        ConfigError: there are none of that name, they are no safetensors, or the model gives no sound vectors.
        BlobMissing: they lay in the store, and were collected.
    """
    from .embedding.checkpoint_names import checkpoint_called
    from .embedding.models import active_space
    from .embedding.soundness import refuse_unsound

    active = active_space(runtime.state)
    if name.startswith("checkpoint:"):
        found = checkpoint_called(runtime.reader, runtime.state, name)
        runtime.models.folder(found)
    else:
        refuse_unsound(locate_model(name))
        found = runtime.models.import_weights(name)
    if found == active:
        raise InputRefused(f"task refused: {name} is what is active already, checkpoint {found[:12]}")
    return found


def training_task(runtime: Runtime, *, source: str, note: str, recipe: Mapping[str, float | int | str]) -> TaskQueued:
    """Gives the order to train.

    Raises:
        InputRefused: the recipe cannot be trained with.
        ConfigError: the configured probes cannot be measured on; the training would fail by them.
    """
    probe_file(runtime.workspace.root, runtime.settings.training.probes)
    try:
        trainer = Recipe.from_dict(recipe).trainer
    except ValueError as error:
        raise InputRefused(f"the recipe cannot be used: {error}. docs/training.md lists its parts.") from error
    if trainer not in (BUILTIN, runtime.settings.plugins.trainer) and not claims_of(TRAINERS, trainer):
        raise InputRefused(
            f"task refused: no package offers the trainer {trainer!r}: install one, or name its code in plugins.trainer"
        )
    return TaskQueued(task="self_train", source=recordable(source), note=recordable(note), recipe=dict(recipe))


def _run_shell(runtime: Runtime, shell: Shell, source: str) -> Executed:
    command, executor = _shell_words(shell), runtime.executor
    note = "" if executor.name == BUILTIN else f"run by {executor.name}"
    queued = runtime.log.append(
        TaskQueued(task="shell", source=recordable(source), command=_written(command), note=note)
    )
    try:
        with raised_sigterm():
            captured = executor.run(command, runtime.workspace.root, shell.timeout_s)
    except (ConfigError, EffectFailedError) as error:
        captured = _unfinished(command, NOT_RUN, str(error))
    except BaseException as error:  # Ctrl-C above all: the command was killed, and its outcome is that
        code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        _record_outcome(runtime, queued, shell, _unfinished(command, code, "interrupted before it ended"))
        raise
    feedback = _record_outcome(runtime, queued, shell, captured)
    return Executed(type="shell", event=queued.seq, feedback=feedback.seq, captured=captured)


def _unfinished(command: tuple[str, ...], exit_code: int, why: str) -> Captured:
    return Captured(command=command, exit_code=exit_code, output=why.encode(), timed_out=False, duration_s=0.0)


def _written(command: tuple[str, ...]) -> tuple[str, ...]:
    """Gives the words of a command as they may be recorded: a secret may span two (``--token …``)."""
    line = shlex.join(command)
    told = redact(line)
    if told == line:
        return _shortened(command)
    alone = tuple(redact(word) for word in command)
    if redact(shlex.join(alone)) == shlex.join(alone):
        return _shortened(alone)
    try:
        return _shortened(tuple(shlex.split(told)))
    except ValueError:  # a quotation mark went with the secret
        return _shortened((told,))


def _shortened(words: tuple[str, ...]) -> tuple[str, ...]:
    """Leaves out what is too much for an event: words may be as long in all as one text."""
    if sum(map(len, words)) <= TEXT_CHARS_MAX:
        return words
    kept, room = list[str](), TEXT_CHARS_MAX
    for number, word in enumerate(words):
        if len(word) > room:
            left = sum(map(len, words[number:])) - room
            return (*kept, f"{word[:room]}… [{left} characters left out]")
        kept.append(word)
        room -= len(word)
    return tuple(kept)


def _record_outcome(runtime: Runtime, queued: Recorded, shell: Shell, captured: Captured) -> Recorded:
    asked = shell.command if isinstance(shell.command, str) else shlex.join(shell.command)
    event = FeedbackReceived(
        task_type=shell.task_type,
        input=recordable(asked),
        output=redact(captured.tail(OUTPUT_CHARS)),
        outcome="pass" if captured.passed else "fail",
        source="shell",
        exit_code=captured.exit_code,
        log=runtime.blobs.put(redact(captured.output.decode("utf-8", "replace")).encode()),
    )
    return runtime.log.append(event, cause=queued.seq, key=shell_key(queued.seq))
