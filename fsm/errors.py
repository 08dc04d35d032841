"""The tree of errors. Each message says what happened, where, and what to do next.

::

    InstarError
    ├── ConfigError            a setting or an argument that cannot be used
    ├── InputRefused           a signal from outside that is malformed
    ├── IllegalTransition      an event that the machine does not accept in its state
    ├── PositionConflict       the log moved on since the writer decided
    ├── LogError
    │   ├── LogMissing         no workspace here
    │   │   └── LogLost        there was one, and its log is gone
    │   ├── LogForeign         a file that is no log of ours, or from a newer version
    │   ├── LogUnavailable     the disk is full, read-only or locked
    │   └── LogCorrupt         a row that does not fit its hash, its order or its neighbours
    ├── UnknownEvent           a type or version that no decoder knows
    ├── BlobMissing            a named blob is not in the store
    │   ├── BlobCollected      it was collected on purpose, as an event says
    │   └── BlobErased         it was erased on request, as an event says
    ├── BlobCorrupt            a blob does not hash to its name
    ├── ReplayDiverged         the fold lands elsewhere than the log says
    ├── Diverged               the workspace changed since a plan was made
    ├── RollbackRefused        a rollback that would lose what is not stored
    ├── GateFailed             a mutation or a promotion did not pass its gate
    ├── AnchorForeign          an anchor of another workspace
    ├── SignatureInvalid       a signature that was not made by the key, or not over this text
    ├── WorkerBusy             another worker holds the workspace, or its stream
    ├── ServiceError           the worker that embeds, searches and answers is gone, or cannot
    ├── FolderCopied           the folder is a copy of another one that records into the same stream
    ├── EffectSuspended        a worker that was told to end put its effect off; the next one goes on
    └── EffectFailedError      an effect could not be done (also recorded as the event EffectFailed)
        ├── EffectCancelled    somebody had it ended
        └── ExtensionFailed    what another package offers raised an error, or gave what is no answer
"""

from __future__ import annotations

from typing import Any, Final

_SHOWN_CHARS: Final = 300
"""How much of a value a message quotes; its details hold it whole."""


class InstarError(Exception):
    """The base of every error that Instar raises on purpose. ``exit_code`` is what the command line returns."""

    exit_code = 1

    @property
    def details(self) -> dict[str, Any]:
        """The parts of the message that a program may want."""
        return {}


class ConfigError(InstarError):
    """A setting or an argument that cannot be used."""

    exit_code = 2


class InputRefused(InstarError):
    """A signal from outside that is malformed; nothing of it was recorded as a signal."""

    exit_code = 2


class IllegalTransition(InstarError):
    """An event that the machine does not accept in its present state."""

    exit_code = 4


class PositionConflict(InstarError):
    """The log moved on since the writer decided: read again, decide again."""

    exit_code = 4


class LogError(InstarError):
    """Something is wrong with the event log as a whole."""


class LogMissing(LogError):
    """There is no workspace here."""


class LogLost(LogMissing):
    """There is a workspace here, and its log is gone or was emptied; a new one would hide that.

    A process that has the log open hears of it at its next append or question, also where it was moved or replaced.
    """

    exit_code = 3


class LogForeign(LogError):
    """The file is no log of ours, or was written by a newer version."""

    exit_code = 3


class LogUnavailable(LogError):
    """The log cannot be written or read now: disk full, read-only, locked. Nothing was recorded.

    Attributes:
        in_doubt: a commit was asked for and not answered, so that it may be recorded all the same.
    """

    def __init__(self, message: str = "", *, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt


class LogCorrupt(LogError):
    """A row does not fit its hash, its order or its neighbours.

    Attributes:
        seq: the first row that does not fit, where one can be named.
        field: which of its columns.
        expected: what should stand there.
        actual: what the log holds.
    """

    exit_code = 3

    def __init__(
        self, message: str, *, seq: int | None = None, field: str = "", expected: Any = None, actual: Any = None
    ) -> None:
        super().__init__(message)
        self.seq, self.field, self.expected, self.actual = seq, field, expected, actual

    @property
    def details(self) -> dict[str, Any]:
        """Which row, which column, and what it should hold; empty where none can be named."""
        if self.seq is None:
            return {}
        return {"seq": self.seq, "field": self.field, "expected": self.expected, "actual": self.actual}


class UnknownEvent(InstarError):
    """No decoder knows this event type or version."""

    exit_code = 3


class BlobMissing(InstarError):
    """A named blob is not in the store."""

    exit_code = 3


class BlobCollected(BlobMissing):
    """A named blob was taken out of the store by a collection; nothing is damaged, but there is no way back to it.

    Attributes:
        seq: the event of the collection.
    """

    exit_code = 4

    def __init__(self, message: str, seq: int) -> None:
        super().__init__(message)
        self.seq = seq

    @property
    def details(self) -> dict[str, Any]:
        """Which event collected it."""
        return {"collected_by": self.seq}


class BlobErased(BlobMissing):
    """A named blob was erased on request; nothing is damaged, but there is no way back to it.

    Attributes:
        seq: the event of the erasure.
    """

    exit_code = 4

    def __init__(self, message: str, seq: int) -> None:
        super().__init__(message)
        self.seq = seq

    @property
    def details(self) -> dict[str, Any]:
        """Which event erased it."""
        return {"erased_by": self.seq}


class BlobCorrupt(InstarError):
    """A blob does not hash to its name."""

    exit_code = 3


class ReplayDiverged(InstarError):
    """The fold lands elsewhere than the log says.

    Attributes:
        seq: the first event at which log and fold part.
        field: what differs there.
        expected: what the fold gives.
        actual: what the log holds.
        by: whose answer that rests on, where it is code of another package, and what else would explain it.
    """

    exit_code = 4

    def __init__(self, seq: int, field: str, expected: Any, actual: Any, by: str = "") -> None:
        super().__init__(
            f"replay diverged at event {seq}: {field} should be {_shown(expected)}, the log holds {_shown(actual)}. "
            f"{by}Look at it with `instar show {seq}`; nothing was changed."
        )
        self.seq, self.field, self.expected, self.actual, self.by = seq, field, expected, actual, by

    @property
    def details(self) -> dict[str, Any]:
        """Which event, which field, and what it should hold; ``by`` where that is an answer of another package."""
        found = {"seq": self.seq, "field": self.field, "expected": self.expected, "actual": self.actual}
        return {**found, "by": self.by} if self.by else found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


class Diverged(InstarError):
    """The workspace changed since a plan was made."""

    exit_code = 4


class RollbackRefused(InstarError):
    """A rollback that would lose bytes which are not in the store, or that leads nowhere."""

    exit_code = 4


class GateFailed(InstarError):
    """A mutation or a promotion did not pass its gate; ``event`` is the position that says so in the log."""

    exit_code = 5

    def __init__(self, message: str, *, event: int | None = None) -> None:
        super().__init__(message)
        self.event = event

    @property
    def details(self) -> dict[str, Any]:
        """Names the event."""
        return {} if self.event is None else {"seq": self.event}


class AnchorForeign(InstarError):
    """An anchor is of another workspace, so it says nothing about this log."""

    exit_code = 4


class SignatureInvalid(InstarError):
    """A signature was not made by the key, or not over this text."""

    exit_code = 3


class WorkerBusy(InstarError):
    """Another worker holds this workspace; ``elsewhere`` if it is one of another folder, on the same stream."""

    exit_code = 4

    def __init__(self, message: str, *, elsewhere: bool = False) -> None:
        super().__init__(message)
        self.elsewhere = elsewhere


class ServiceError(InstarError):
    """The worker that embeds, searches and answers is gone, or cannot do what it was asked."""


class FolderCopied(InstarError):
    """The folder was copied with the name of its log in it: both would record into that."""

    exit_code = 4


class EffectFailedError(InstarError):
    """An effect could not be done; the loop records it as the event ``EffectFailed``."""


class EffectSuspended(InstarError):
    """A worker that was told to end put its effect off. Nothing is recorded: the state still owes it."""


class EffectCancelled(EffectFailedError):
    """Somebody had an effect ended; the loop records that, and nothing tries it again by itself."""


class ExtensionFailed(EffectFailedError):
    """What another package offers (``ARCHITECTURE.md``, Ports) raised an error, or gave what is no answer."""
