"""Appends: the log is held, each request decides, and what they all record is one durable commit.

Threads and processes that append at the same time share a commit, each with its own outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from instar.fsm.codec import encode_event
from instar.fsm.errors import InstarError, LogUnavailable, PositionConflict
from instar.fsm.events import BlobsCollected, PayloadErased
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState, encode_state, state_digest
from instar.fsm.words import Digest, Seq, digest_of

from .asked import draft_asked, names_nothing, record_of
from .asked import request as request_for
from .asking import Asking
from .blobs import BlobStore
from .clock import Clock
from .collecting import erased_in, freed
from .combining import Combiner, Request
from .drafting import DIGEST_EVERY, Draft, Pending
from .failpoints import failpoint
from .head import Head
from .lock import is_of_the_system
from .ports import STAGED, Batch, Journal
from .presence import Presence
from .reader import LogReader
from .slots import Answer, Asked, Fate

SNAPSHOT_EVERY = 256
SNAPSHOT_BYTES = 64 * 1024
"""Of a larger state fewer are saved, by its size: else those of an agent with many task types outgrow its events."""

Decide = Callable[[AgentState], Sequence[Pending]]
_LARGE = frozenset({PayloadErased, BlobsCollected})
"""Events that do more in their transaction than stand in the log."""
_LARGE_NAMES = frozenset(kind.__name__ for kind in _LARGE)


class _Append(Request):
    """One call of ``append`` or ``transact``, waiting for its turn."""

    __slots__ = ("decide", "error", "expect", "one", "records")

    def __init__(self, decide: Decide | None, expect: Seq | None, one: Pending | None = None) -> None:
        super().__init__()
        self.decide, self.expect, self.one = decide, expect, one
        self.records: Sequence[Recorded] = ()
        self.error: Exception | None = _UNSEEN

    def plain(self) -> Pending | None:
        """Gives the event if it is a single one and there is nothing else to it."""
        one = self.one
        if one is None or one.key is not None or self.expect is not None or type(one.event) in _LARGE:
            return None
        return one


_UNSEEN = LogUnavailable()
"""Stands for no outcome yet. It is never raised: an exception that is raised again keeps each traceback."""


def _cut_off() -> LogUnavailable:
    return LogUnavailable(
        "the append was cut off before its end was seen. Read the log, or append again under the same key."
    )


class Appender:
    """Appends to one log; safe to share between threads.

    Args:
        journal: makes a batch durable.
        reader: reads the log.
        blobs: what events name.
        presence: knows what was collected or erased.
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
        self._took = False
        """Events of other processes are in the commit."""
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
            raise _cut_off() if error is _UNSEEN else error
        return request.records

    def _serve(self, group: Sequence[_Append], *, others: bool = True) -> None:
        """Records what a group of threads wants, in one commit; each has its own outcome.

        Args:
            group: the requests.
            others: records with them what other processes ask for.
        """
        self._took = False
        try:
            if len(group) > 1 or not others:
                self._commit(group, others)
            elif not self._append_alone(group[0]) and not self._append_asking(group[0]):
                self._commit(group)
        except BaseException as error:
            self._journal.let_go()  # an exception of a signal's handler may have cut off what gives it back
            if not isinstance(error, InstarError) and not is_of_the_system(error):
                raise  # a signal's handler did, maybe after the commit: tried again, it might be recorded twice
            in_doubt = isinstance(error, LogUnavailable) and error.in_doubt  # tried again, it might be recorded twice
            if not in_doubt and (self._took or len(group) > 1):
                for request in group:  # one may be too large for the disk; the others need not fail with it
                    self._serve([request], others=False)
                return
            for request in group:
                request.error = error if len(group) == 1 else LogUnavailable(str(error), in_doubt=True)

    def _append_alone(self, request: _Append) -> bool:
        """Records a single event in one step, if there is nothing else to do with it and nobody else appended.

        Whatever stands in the way is looked at again under the lock, and said there.
        """
        asking, one = self._journal.asking, request.plain()
        if one is None or asking is None or not asking.alone:
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

    def _append_asking(self, request: _Append) -> bool:
        """Records a single event, or lets the process record it that holds the log, if there is nothing else to it.

        If it raises, the log may be held.
        """
        asking, one = self._journal.asking, request.plain()
        if one is None or asking is None or self._blobs.any_waiting() or not names_nothing(one.event):
            return False
        payload, head = encode_event(one.event), self._head.state.head
        answer = asking.ask(request_for(one, payload, self._actor, self._now_us()))
        if answer.fate is Fate.SERVED:
            failpoint("log.answered")
            record = record_of(answer, one, digest_of(payload), self._actor)
            if answer.seq % DIGEST_EVERY == 0:  # a slot has no room for the digest of a state
                record = self._reader.get(answer.seq)
            request.records = (record,)
            request.error = None
            return True
        if answer.fate is Fate.OPEN or not self._found(request, answer, digest_of(payload), head):
            self._commit([request])
        asking.release()
        return True

    def _found(self, request: _Append, answer: Answer, payload_hash: Digest, head: Seq) -> bool:
        """Looks in the log for an event whose slot does not say whether it was recorded, while the log is held.

        Raises:
            LogUnavailable: an equal event was recorded since; whether it is this one, nobody can tell.
        """
        with self.held():
            if answer.fate is Fate.TAKEN:
                there = answer.seq <= self._head.state.head
                record = self._reader.get(answer.seq) if there else None
            else:
                equal = "SELECT 1 FROM events WHERE seq > ? AND payload_hash = ? AND actor = ?"
                if self._reader.query(equal, (head, payload_hash, self._actor)):
                    raise _cut_off()
                record = None
        if record is None or record.hash != answer.hash:
            return False
        self._journal.checkpoint()  # who recorded it may have died before it was on the disk
        request.records, request.error = (record,), None
        return True

    def _commit(self, group: Sequence[_Append], others: bool = True) -> None:
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
            asking = self._took_in(draft) if others else None
            in_doubt = self._written(draft) if draft.rows or draft.staged else None
            if in_doubt is None and asking is not None:
                asking.served()
        if in_doubt is not None:
            self._settle(in_doubt, draft)
        for request in group:
            request.error = failed.get(id(request))

    def _written(self, draft: Draft) -> LogUnavailable | None:
        """Makes a draft durable; gives the error that leaves it open whether it is."""
        try:
            self.write(draft)
        except LogUnavailable as error:
            if not error.in_doubt:
                raise
            return error
        return None

    def _settle(self, in_doubt: LogUnavailable, draft: Draft) -> None:
        """Looks whether a commit that was not answered was made. Whoever holds the log can tell: none is pending.

        Raises:
            LogUnavailable: it was not; or that cannot be found out now, and it stays in doubt.
        """
        last = draft.state.head
        try:
            with self.held():
                there = last <= self._head.state.head and self._reader.get(last).hash == draft.digest
        except InstarError:
            raise in_doubt from None
        if not there:
            raise LogUnavailable(
                f"the connection to {self._reader.place.name} broke in an append, of which nothing was recorded: "
                "append again."
            ) from in_doubt

    def _took_in(self, draft: Draft) -> Asking | None:
        """Drafts what other processes ask for; None if that is nothing."""
        asking = self._journal.asking
        if asking is None or draft.staged or any(row[1] in _LARGE_NAMES for row in draft.rows):
            return None
        drafted: list[tuple[Asked, Recorded]] = []
        seen: set[int] = set()
        while asked := asking.asked(seen):  # more may have come meanwhile
            drafted += draft_asked(draft, asked)
        if not drafted:
            return None
        self._took = True
        asking.take(drafted)
        return asking

    def _add_together(self, draft: Draft, group: Sequence[_Append]) -> bool:
        """Drafts single events as one batch, if all of them are that and all are accepted."""
        pending = [request.one for request in group if request.one and not request.one.key and request.expect is None]
        if len(pending) < len(group):
            return False
        try:
            self._presence.check(one.event for one in pending)
            records = draft.add_all(pending)
        except Exception as error:
            if draft.rows or (len(group) == 1 and not isinstance(error, InstarError)):
                raise  # a signal's handler raised it: drafted once more, they would be recorded twice
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
        try:
            with self._journal.exclusive(self._head.state.head) as rows:
                if rows:
                    self._head.take_in(rows)
                yield
        except GeneratorExit:
            raise  # dropped, maybe long after it was cut off: the log may be held anew
        except BaseException:
            self._journal.let_go()
            raise

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
        snapshot = self._saved(state)
        blobs = [(digest, *content) for digest, content in waiting.items()]
        erased = erased_in(draft.rows)
        rewritten = freed(self._reader, self._blobs, {*erased, *doomed}) if erased or doomed else ()
        erases = any(row[1] == PayloadErased.__name__ for row in draft.rows)
        try:
            self._journal.write(Batch(draft.rows, blobs, snapshot, rewritten, doomed, erases))
        except PositionConflict:
            self._head.check()  # nobody appends past the lock: the log may be another one since
            raise
        if waiting:
            self._blobs.settled(list(waiting))
        if erased:
            self._presence.gone(erased)
        self._head.move(state, draft.digest, draft.last_us)

    def _saved(self, state: AgentState) -> tuple[Seq, Digest, str] | None:
        """Gives the state that is saved with a draft which leads to it; None where none is due."""
        before = self._head.state.head
        if before // SNAPSHOT_EVERY == state.head // SNAPSHOT_EVERY:
            return None
        content = encode_state(state)
        apart = SNAPSHOT_EVERY * -(-len(content) // SNAPSHOT_BYTES)
        if before // apart == state.head // apart:
            return None
        return state.head, state_digest(state), content.decode()

    def save_head(self) -> None:
        """Saves the state at the head."""
        with self.held():
            state = self._head.state
            self._journal.write(Batch((), (), (state.head, state_digest(state), encode_state(state).decode())))

    def store_waiting(self) -> None:
        """Makes blobs durable ahead of the event that will name them: a whole tree need not be in memory at once."""
        with self.held():
            waiting = self._blobs.waiting()
            if waiting:
                self._journal.write(Batch((), [(digest, *content) for digest, content in waiting.items()], None))
                self._blobs.settled(list(waiting))
