"""Appends: the log is held, each request decides, and what they all record is one durable commit.

Threads of one process that append at the same time share a commit, each with its own outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from instar.fsm.errors import InstarError, LogUnavailable, PositionConflict
from instar.fsm.events import BlobsCollected, PayloadErased
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState, encode_state, state_digest
from instar.fsm.words import Digest, Seq

from .blobs import BlobStore
from .clock import Clock
from .collecting import erased_in, freed
from .combining import Combiner, Request
from .drafting import Draft, Pending
from .failpoints import failpoint
from .head import Head
from .ports import STAGED, Batch, Journal
from .presence import Presence
from .reader import LogReader

SNAPSHOT_EVERY = 256

Decide = Callable[[AgentState], Sequence[Pending]]
_LARGE = frozenset({PayloadErased, BlobsCollected})
"""Events that do more in their transaction than stand in the log."""


class _Append(Request):
    """One call of ``append`` or ``transact``, waiting for its turn."""

    __slots__ = ("decide", "error", "expect", "one", "records")

    def __init__(self, decide: Decide | None, expect: Seq | None, one: Pending | None = None) -> None:
        super().__init__()
        self.decide, self.expect, self.one = decide, expect, one
        self.records: Sequence[Recorded] = ()
        self.error: Exception | None = _CUT_OFF


_CUT_OFF = LogUnavailable(
    "the append was cut off before its end was seen. Read the log, or append again under the same key."
)


class Appender:
    """Appends to one log; safe to share between threads.

    Args:
        journal: makes a batch durable.
        reader: reads the log.
        blobs: what events name.
        presence: knows what was collected.
        head: where the log stands.
        clock: where recorded times come from.
        actor: who appends.
    """

    def __init__(
        self,
        journal: Journal,
        reader: LogReader,
        blobs: BlobStore,
        presence: Presence,
        head: Head,
        *,
        clock: Clock,
        actor: str,
    ) -> None:
        self._journal, self._reader, self._blobs = journal, reader, blobs
        self._presence, self._head = presence, head
        self._now_us, self._actor = clock.now_us, actor
        self.waiting: Combiner[_Append] = Combiner(self._serve)

    def append(self, one: Pending, expect: Seq | None) -> Recorded:
        """Records one event; raises as ``transact`` does."""
        return self._submit(_Append(None, expect, one))[0]

    def transact(self, decide: Decide, expect: Seq | None) -> list[Recorded]:
        """Decides under the lock what to record, and records all of it or nothing."""
        return list(self._submit(_Append(decide, expect)))

    def _submit(self, request: _Append) -> Sequence[Recorded]:
        self.waiting.submit(request)
        error = request.error
        if error is not None:
            raise LogUnavailable(str(error)) if error is _CUT_OFF else error
        return request.records

    def _serve(self, group: Sequence[_Append]) -> None:
        """Records what a group of threads wants, in one commit; each has its own outcome."""
        try:
            if len(group) > 1 or not self._append_alone(group[0]):
                self._commit(group)
        except Exception as error:
            if len(group) > 1 and isinstance(error, InstarError):
                for request in group:  # one may be too large for the disk; the others need not fail with it
                    self._serve([request])
                return
            for request in group:
                request.error = error

    def _append_alone(self, request: _Append) -> bool:
        """Records a single event in one step, if there is nothing else to do with it and nobody else appended.

        Whatever stands in the way is looked at again under the lock, and said there.
        """
        one = request.one
        if one is None or one.key is not None or request.expect is not None or type(one.event) in _LARGE:
            return False
        draft = self.draft()
        if (draft.state.head + 1) % SNAPSHOT_EVERY == 0 or self._blobs.any_waiting():
            return False
        try:
            self._presence.check((one.event,))
            records = draft.add_all((one,))
        except InstarError:
            return False
        failpoint("log.decided")
        if not self._journal.append(draft.rows[0]):
            return False
        self._head.move(draft.state, draft.digest, draft.last_us)
        request.records, request.error = records, None
        return True

    def _commit(self, group: Sequence[_Append]) -> None:
        with self.held():
            failpoint("log.locked")
            draft = self.draft()
            failed: dict[int, Exception] = {}
            if not self._add_together(draft, group):
                alone = len(group) == 1
                failed = {id(request): error for request in group if (error := self._decide(draft, request, alone))}
            failpoint("log.decided")
            if failed and draft.staged:
                raise failed[id(group[0])]  # so that nothing of it stays
            if draft.rows or draft.staged:
                self.write(draft)
        for request in group:
            request.error = failed.get(id(request))

    def _add_together(self, draft: Draft, group: Sequence[_Append]) -> bool:
        """Drafts single events as one batch, if all of them are that and all are accepted."""
        pending = [request.one for request in group if request.one and not request.one.key and request.expect is None]
        if len(pending) < len(group):
            return False
        try:
            self._presence.check(one.event for one in pending)
            records = draft.add_all(pending)
        except Exception:
            return False  # each by itself, so that the others need not fail
        for request, record in zip(group, records, strict=True):
            request.records = (record,)
        return True

    def draft(self) -> Draft:
        """Begins a draft at the head."""
        return Draft(*self._head.known(), now_us=self._now_us, actor=self._actor, known=self._reader.by_key)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the log against every other writer, with what they recorded taken in."""
        with self._journal.exclusive(self._head.state.head) as rows:
            if rows:
                self._head.take_in(rows)
            yield

    def _decide(self, draft: Draft, request: _Append, alone: bool) -> Exception | None:
        try:
            if request.expect is not None and request.expect != draft.state.head:
                raise PositionConflict(f"the log is at event {draft.state.head}, not at {request.expect}: read again")
            pending = (request.one,) if request.one else request.decide(draft.state) if request.decide else ()
            self._presence.check(one.event for one in pending)
            if alone and len(pending) >= 2 * STAGED and not any(type(one.event) in _LARGE for one in pending):
                draft.stage_by(self._journal.stage)
            request.records = draft.add_all(pending)
        except Exception as error:
            return error
        return None

    def write(self, draft: Draft, doomed: Sequence[Digest] = ()) -> None:
        """Makes a draft durable, with the blobs that wait for it, while the log is held."""
        waiting = self._blobs.waiting() if self._blobs.any_waiting() else {}
        state = draft.state
        snapshot = None
        if self._head.state.head // SNAPSHOT_EVERY != state.head // SNAPSHOT_EVERY:
            snapshot = (state.head, state_digest(state), encode_state(state).decode())
        blobs = [(digest, *content) for digest, content in waiting.items()]
        erased = erased_in(draft.rows)
        rewritten = freed(self._reader, self._blobs, {*erased, *doomed}) if erased or doomed else ()
        erases = any(row[1] == PayloadErased.__name__ for row in draft.rows)
        self._journal.write(Batch(draft.rows, blobs, snapshot, rewritten, doomed, erases))
        if waiting:
            self._blobs.settled(list(waiting))
        self._head.move(state, draft.digest, draft.last_us)

    def store_waiting(self) -> None:
        """Makes blobs durable ahead of the event that will name them: a whole tree need not be in memory at once."""
        with self.held():
            waiting = self._blobs.waiting()
            if waiting:
                self._journal.write(Batch((), [(digest, *content) for digest, content in waiting.items()], None))
                self._blobs.settled(list(waiting))
