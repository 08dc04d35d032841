"""Verifies one range of the log at one level, from a state and a hash in front of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from instar.engine.uncollected import uncollected
from instar.fsm.codec import decode_event
from instar.fsm.errors import IllegalTransition, InstarError, ReplayDiverged
from instar.fsm.evolve import evolve
from instar.fsm.state import FORM, AgentState, encode_state, form_of, state_digest
from instar.fsm.words import Digest, Seq
from instar.store.columns import columns_of, read_columns
from instar.store.reader import LogReader, Row

from .chain import CHUNK, Place, check_row, chunks, missing, whole
from .findings import Failure, RangeFound
from .levels import Level
from .stretch import DIGEST_EVERY, fold_stretch, readable

if TYPE_CHECKING:
    from .decisions import Decider

MARK_EVERY: Final = 2048
_SETTLED_BYTES: Final = 16 << 20

Watch = Callable[[Row, AgentState], None]


class Folding:
    """Verifies rows in order; holds how far it has come.

    Args:
        reader: the log.
        level: how deep to look.
        state: the state in front of the first row.
        place: the row in front of it.
        watch: called with each row and the state after it.
    """

    def __init__(
        self, reader: LogReader, level: Level, state: AgentState, place: Place, watch: Watch | None = None
    ) -> None:
        self.reader = reader
        self.state = state
        self.place = place
        self.events = self.transitions = self.digests = 0
        self.marks: dict[Seq, AgentState] = {state.head: state}
        """States along the way, so that the one at an earlier event need not be folded from afar."""
        self._level = level
        self._digests = level.includes(Level.DIGESTS)
        self._watch = watch
        self._decider = _decider(reader) if level.includes(Level.DECISIONS) else None

    def run(self, first: Seq, last: Seq) -> RangeFound:
        """Verifies the rows from ``first`` to ``last``; a row that does not fit ends it, and is in what was found."""
        began = self.state
        began_hash = self.place.hash
        failure = None
        try:
            # The columns of a stretch are large blocks. Once a larger one was freed, the C library takes them from its
            # heap; until then it asks the kernel for each, which hands it out page by page.
            bytes(_SETTLED_BYTES)
            with uncollected():
                for begin in range(first, last + 1, CHUNK):
                    self._take(Seq(begin), Seq(min(last, begin + CHUNK - 1)))
            if self.place.seq != last:
                raise missing(Seq(self.place.seq + 1), None)
        except InstarError as error:
            failure = Failure.of(error)
        folds = self._level.includes(Level.TRANSITIONS)
        decider = self._decider
        return RangeFound(
            first=first,
            last=last,
            began_digest=state_digest(began) if folds else Digest(""),
            began_hash=began_hash,
            last_hash=self.place.hash,
            ended=encode_state(self.state).decode() if folds else "",
            events=self.events,
            transitions=self.transitions,
            digests=self.digests,
            decisions=dict(+decider.taken) if decider else {},
            untaken=dict(+decider.untaken) if decider else {},
            claims=tuple(decider.claims) if decider else (),
            failure=failure,
        )

    def _take(self, first: Seq, last: Seq) -> None:
        """Verifies some hundred rows: all at once, and where something does not fit, or is not known, one by one."""
        by_row = self._decider is not None or self._watch is not None
        if not by_row and self._take_stretch(first, last):
            self.events += last - first + 1
            return
        for rows in chunks(self.reader, first, last):
            self._take_rows(rows)

    def _take_stretch(self, first: Seq, last: Seq) -> bool:
        """Verifies rows all at once; says whether they fit, and goes on behind them only if they do."""
        columns = read_columns(self.reader, first, last)
        if columns is None or not whole(columns, self.place):
            return False
        if self._level.includes(Level.TRANSITIONS):
            folded = fold_stretch(self.state, columns, digests=self._digests)
            if folded is None:
                return False
            self.state = folded.state
            self.transitions += folded.transitions
            self.digests += folded.digests
        elif self._level.includes(Level.DECODE) and not readable(columns):
            return False
        self.place.go_behind(columns)
        return True

    def _take_rows(self, rows: list[Row]) -> None:
        columns = columns_of(rows)
        if columns is not None and whole(columns, self.place):
            self.place.go_behind(columns)
            self._fold(rows, [*columns.payloads])
        else:
            # Something does not fit: row by row, so that the first that does not is named, whatever it is.
            for row in rows:
                content = check_row(row, self.place)
                self._fold([row], [content])
        self.events += len(rows)

    def _fold(self, rows: list[Row], contents: list[bytes | None]) -> None:
        if self._level.includes(Level.TRANSITIONS):
            self._fold_each(rows, contents)
        elif self._level.includes(Level.DECODE):
            for row, content in zip(rows, contents, strict=True):
                decode_event(row[1], row[2], self._remains(row) if content is None else content)

    def _fold_each(self, rows: list[Row], contents: list[bytes | None]) -> None:
        """Folds rows one by one, and compares each with the state before and after it."""
        state, decider, watch = self.state, self._decider, self._watch
        try:
            for row, content in zip(rows, contents, strict=True):
                seq, kind, version, at_us, cycle, cause, _, before, after, _, _, _, _, _, digest = row
                event = decode_event(kind, version, self._remains(row) if content is None else content)
                folded = evolve(state, event, seq=seq, cause=cause, at_us=at_us)
                current = folded.cycle or state.cycle
                if (
                    after != folded.machine
                    or before != state.machine
                    or cycle != (current.number if current is not None else 0)
                ):
                    raise _apart(row, state, folded)
                self._compare_digest(seq, folded, digest)
                if folded.since != state.since:
                    self.transitions += 1
                if decider is not None:
                    decider.check(state, row, event)
                if watch is not None:
                    watch(row, folded)
                state = folded
        except IllegalTransition as error:
            accepted = f"one that state {state.machine} accepts ({error})"
            kind = rows[state.head + 1 - rows[0][0]][1]
            raise ReplayDiverged(state.head + 1, "transition", accepted, kind) from error
        finally:
            self.state = state
        if decider is not None and rows and state.head // MARK_EVERY != rows[0][0] // MARK_EVERY:
            self.marks[state.head] = state

    def _compare_digest(self, seq: Seq, state: AgentState, digest: str | None) -> None:
        if not self._digests or (digest is None and seq % DIGEST_EVERY):
            return
        expected = state_digest(state, (form_of(digest) if digest else 0) or FORM)
        if expected != digest:
            raise ReplayDiverged(seq, "state_digest", expected, digest)
        self.digests += 1

    def _remains(self, row: Row) -> bytes:
        return self.reader.remains(row[0]).encode()


def _apart(row: Row, state: AgentState, folded: AgentState) -> ReplayDiverged:
    """Names the first column in which a row and the fold part."""
    seq, _, _, _, cycle, _, _, before, after, *_ = row
    if before != state.machine:
        return ReplayDiverged(seq, "state_before", str(state.machine), before)
    if after != folded.machine:
        return ReplayDiverged(seq, "state_after", str(folded.machine), after)
    current = folded.cycle or state.cycle
    return ReplayDiverged(seq, "cycle", current.number if current else 0, cycle)


def _decider(reader: LogReader) -> Decider:
    from .decisions import Decider

    return Decider(reader)
