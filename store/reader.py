"""Reading the log: rows and events, by position, type, key or time, and the state at any of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from instar.fsm.codec import decode_event
from instar.fsm.errors import LogCorrupt
from instar.fsm.events import PayloadErased
from instar.fsm.evolve import evolve
from instar.fsm.record import Recorded
from instar.fsm.state import FORM, AgentState, decode_state
from instar.fsm.words import ORIGIN, Digest, Seq, State, digest_of

from .place import Place, place_of
from .ports import Row, Source
from .sqlite_source import APPLICATION_ID, SCHEMA_HEAD, SqliteSource

__all__ = ["APPLICATION_ID", "COLUMNS", "SCHEMA_HEAD", "LogReader", "Row", "apply", "decode_row"]

COLUMNS = (
    "seq, type, version, recorded_at_us, cycle, cause, actor, state_before, state_after, key, payload, payload_hash, "
    "prev_hash, hash, state_digest"
)
CHUNK = 2000
_ASKED_MAX = 500
_BEYOND = 2**62
"""Behind any event there can be, and no more than a database can be asked for."""
PAYLOAD = 10
"""Where the payload stands in a row; None there where it was erased."""

_LAST_ERASURE = "SELECT coalesce(max(seq + 0), 0) FROM events WHERE type = 'PayloadErased'"
"""By the index of erasures: for the greatest ``seq`` itself SQLite would read back through the log at each effect."""


def decode_row(row: Row) -> Recorded:
    """Decodes one row of the log, in the order of ``COLUMNS``, its payload there.

    Raises:
        LogCorrupt: a column does not hold what it should.
        UnknownEvent: the payload cannot be read.
    """
    seq, kind, version, at_us, cycle, cause, actor, before, after, key, payload, payload_hash, prev, own, digest = row
    try:
        return Recorded(
            seq=seq,
            recorded_at_us=at_us,
            cycle=cycle,
            cause=cause,
            actor=actor,
            state_before=State(before),
            state_after=State(after),
            key=key,
            event=decode_event(kind, version, payload.encode()),
            payload_hash=payload_hash,
            prev_hash=prev,
            hash=own,
            state_digest=digest,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise LogCorrupt(
            f"a column of event {seq} does not hold what it should ({error}): restore the log from a backup."
        ) from error


def apply(state: AgentState, record: Recorded) -> AgentState:
    """Folds one recorded event."""
    return evolve(state, record.event, seq=record.seq, cause=record.cause, at_us=record.recorded_at_us)


class LogReader:
    """Reads one log; safe to share between threads, never blocks a writer.

    Args:
        where: the SQLite file, or the place of any log.

    Raises:
        LogMissing: there is no log.
        LogForeign: it is no log of ours, or of a newer version.
        LogUnavailable: it cannot be reached.
    """

    def __init__(self, where: Path | Place) -> None:
        self.place = place_of(where)
        self.path = self.place.path
        self._source = _open(self.place)
        self._all = self._source.all

    @property
    def schema(self) -> str:
        """The Alembic revision of the log."""
        return self._source.schema

    def close(self) -> None:
        """Closes the connection."""
        self._source.close()

    def head(self) -> Seq:
        """The position of the last event; 0 for an empty log."""
        return Seq(self._all("SELECT coalesce(max(seq), 0) FROM events")[0][0])

    def head_hash(self) -> Digest | None:
        """The hash of the last event."""
        rows = self._all("SELECT hash FROM events ORDER BY seq DESC LIMIT 1")
        return rows[0][0] if rows else None

    def changed_token(self) -> int:
        """A number that changes when another connection commits; cheap to poll."""
        return self._source.changed_token()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Gives every row of a query of one's own, whose parameters are written ``?``; it can change nothing."""
        return self._all(sql, parameters)

    def rows(
        self,
        first: int = 1,
        last: int | None = None,
        types: Sequence[str] = (),
        *,
        holding: str = "",
        chunk_max: int = CHUNK,
    ) -> Iterator[Row]:
        """Yields raw rows in order of position, in chunks, so that no read transaction stays open."""
        for chunk in self.chunks(first, last, types, holding=holding, chunk_max=chunk_max):
            yield from chunk

    def chunks(
        self,
        first: int = 1,
        last: int | None = None,
        types: Sequence[str] = (),
        *,
        holding: str = "",
        chunk_max: int = CHUNK,
    ) -> Iterator[list[Row]]:
        """Yields raw rows as ``rows`` does, ``chunk_max`` at a time; the last chunk may hold fewer, none is empty."""
        where = f" AND type IN ({', '.join('?' * len(types))})" if types else ""
        sought: tuple[str, ...] = ()
        if holding:
            where += " AND (payload IS NULL OR payload LIKE ? ESCAPE '!')"
            literal = re.sub("[!%_]", r"!\g<0>", holding)
            sought = (f"%{literal}%",)
        upper = last if last is not None else _BEYOND
        first = min(first, _BEYOND)
        while True:
            chunk = self._all(
                f"SELECT {COLUMNS} FROM events WHERE seq >= ? AND seq <= ?{where} ORDER BY seq LIMIT {chunk_max}",
                (first, upper, *types, *sought),
            )
            if chunk:
                yield chunk
            if len(chunk) < chunk_max:
                return
            first = chunk[-1][0] + 1

    def read(
        self,
        first: int = 1,
        last: int | None = None,
        types: Sequence[type] = (),
        *,
        holding: str = "",
        chunk_max: int = CHUNK,
    ) -> Iterator[Recorded]:
        """Yields decoded events from ``first`` to ``last``, both included, of all types or of the given ones.

        Args:
            first: the position to begin with.
            last: the position to end with; the head by default.
            types: the types; none means all.
            holding: leaves out, unread, most of those whose canonical JSON does not hold this text; whoever asks looks
                at what comes all the same.
            chunk_max: how many are read at once; few where few are wanted.
        """
        names = [kind.__name__ for kind in types]
        for row in self.rows(first, last, names, holding=holding, chunk_max=chunk_max):
            yield self.decode(row)

    def at(self, seqs: Collection[int]) -> Iterator[Recorded]:
        """Yields the decoded events at some positions, in order; those beyond the head are left out."""
        order = sorted(seqs)
        for start in range(0, len(order), _ASKED_MAX):
            part = order[start : start + _ASKED_MAX]
            places = ", ".join("?" * len(part))
            for row in self._all(f"SELECT {COLUMNS} FROM events WHERE seq IN ({places}) ORDER BY seq", tuple(part)):
                yield self.decode(row)

    def decode(self, row: Row) -> Recorded:
        """Decodes one row; the event of an erased payload is what is left of it.

        Raises:
            LogCorrupt: the payload is gone and no event says that it was erased.
        """
        if row[PAYLOAD] is None:
            row = (*row[:PAYLOAD], self.remains(row[0]), *row[PAYLOAD + 1 :])
        return decode_row(row)

    def remains(self, seq: int) -> str:
        """Gives what is left of an event whose payload was erased: canonical JSON of the same type.

        Raises:
            LogCorrupt: no event says that it was erased.
        """
        for _, payload in self._erasures(seq):
            erased = decode_event("PayloadErased", PayloadErased.VERSION, payload.encode())
            if isinstance(erased, PayloadErased):
                return erased.remains
        raise LogCorrupt(
            f"the payload of event {seq} is gone, and no event says that it was erased. Restore the log from a backup."
        )

    def tail(self, count: int, types: Sequence[type] = (), *, before: int | None = None) -> list[Recorded]:
        """Gives the last ``count`` events, or the last before a position, oldest first."""
        where = f" AND type IN ({', '.join('?' * len(types))})" if types else ""
        end = before if before is not None else 2**62
        rows = self._all(
            f"SELECT {COLUMNS} FROM events WHERE seq < ?{where} ORDER BY seq DESC LIMIT ?",
            (end, *(kind.__name__ for kind in types), count),
        )
        return [self.decode(row) for row in reversed(rows)]

    def get(self, seq: int) -> Recorded:
        """Gives one event.

        Raises:
            LogCorrupt: there is no such position.
        """
        rows = self._all(f"SELECT {COLUMNS} FROM events WHERE seq = ?", (seq,))
        if not rows:
            raise LogCorrupt(f"there is no event {seq} in {self.path}; the head is {self.head()}")
        return self.decode(rows[0])

    def by_key(self, key: str) -> Recorded | None:
        """Gives the event that was recorded under an idempotency key."""
        rows = self._all(f"SELECT {COLUMNS} FROM events WHERE key = ?", (key,))
        return self.decode(rows[0]) if rows else None

    def erased(self, seq: int) -> Seq | None:
        """The position of the event that erased a payload last; None if it stands."""
        return next((erasure for erasure, _ in self._erasures(seq)), None)

    def erasures_at_head(self) -> list[PayloadErased]:
        """The erasures that nothing was recorded after: who made them may have died before all files were gone."""
        found: list[PayloadErased] = []
        seq = self.head()
        while seq and self._all("SELECT 1 FROM events WHERE seq = ? AND type = 'PayloadErased'", (seq,)):
            event = self.get(seq).event
            if isinstance(event, PayloadErased):
                found.append(event)
            seq = Seq(seq - 1)
        return found

    def last_erasure(self) -> Seq:
        """The last event by which a payload was erased; 0 for none. What was read before it may hold what is gone."""
        return Seq(self._all(_LAST_ERASURE)[0][0])

    def _erasures(self, seq: int) -> list[Row]:
        """The erasures of an event that were not erased themselves, the latest first."""
        return self._all(
            "SELECT seq, payload FROM events WHERE type = 'PayloadErased' AND cause = ? AND payload IS NOT NULL "
            "ORDER BY seq DESC",
            (seq,),
        )

    def at_time(self, at_us: int) -> Seq:
        """The position of the last event recorded at or before a time; 0 if there was none."""
        return Seq(self._all("SELECT coalesce(max(seq), 0) FROM events WHERE recorded_at_us <= ?", (at_us,))[0][0])

    def blob(self, digest: str) -> bytes | None:
        """Gives the compressed content of a blob that is kept in the database."""
        rows = self._all("SELECT content FROM blobs WHERE digest = ?", (digest,))
        return rows[0][0] if rows else None

    def blobs(self, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """Gives the stored form of those of some blobs that are kept in the database."""
        found: dict[Digest, bytes] = {}
        for first in range(0, len(digests), _ASKED_MAX):
            asked = digests[first : first + _ASKED_MAX]
            found.update(self._all(f"SELECT digest, content FROM blobs WHERE digest IN ({_marks(asked)})", asked))
        return found

    def blob_known(self, digest: str) -> bool:
        """Says whether a blob is kept in the database."""
        return bool(self._all("SELECT 1 FROM blobs WHERE digest = ?", (digest,)))

    def any_blobs(self) -> bool:
        """Says whether any blob is kept in the database."""
        return bool(self._all("SELECT size FROM blobs LIMIT 1"))

    def blobs_known(self, digests: Sequence[Digest]) -> set[Digest]:
        """Says which of some blobs are kept in the database."""
        known: set[Digest] = set()
        for first in range(0, len(digests), _ASKED_MAX):
            asked = digests[first : first + _ASKED_MAX]
            rows = self._all(f"SELECT digest FROM blobs WHERE digest IN ({_marks(asked)})", asked)
            known.update(row[0] for row in rows)
        return known

    def snapshot_before(self, seq: int | None) -> AgentState:
        """Gives the nearest saved state of the present form that matches its digest; else the empty state.

        Args:
            seq: the position that it may not be behind; the head for None.
        """
        end = "?" if seq is not None else "(SELECT coalesce(max(seq), 0) FROM events)"
        for _, digest, content in self._all(
            f"SELECT seq, digest, state FROM state_snapshots WHERE seq <= {end} ORDER BY seq DESC LIMIT 4",
            () if seq is None else (seq,),
        ):
            if digest == f"{FORM}:{digest_of(content.encode())}":
                return decode_state(content.encode())
        return AgentState()

    def saved_states(self) -> list[tuple[int, str, str]]:
        """The position, digest and JSON of every saved state."""
        rows = self._all("SELECT seq, digest, state FROM state_snapshots ORDER BY seq")
        return [(seq, digest, content) for seq, digest, content in rows]

    def saved_state(self, seq: int) -> str:
        """The JSON of the state that was saved at a position; nothing if none was."""
        rows = self._all("SELECT state FROM state_snapshots WHERE seq = ?", (seq,))
        return rows[0][0] if rows else ""

    def stored_blobs(self) -> list[tuple[Digest, int]]:
        """The digest and size of every blob that is kept in the database."""
        return [(digest, size) for digest, size in self._all("SELECT digest, size FROM blobs ORDER BY digest")]

    def stored_forms(self) -> list[tuple[Digest, int, int, bytes]]:
        """Of every blob that is kept in the database: digest, size, stored bytes, and the first bytes of its form."""
        rows = self._all("SELECT digest, size, length(content), substr(content, 1, 33) FROM blobs ORDER BY digest")
        return [(digest, size, stored, bytes(head)) for digest, size, stored, head in rows]

    def cursor(self, name: str) -> tuple[Seq, Digest] | None:
        """How far a follower has come, and the seal of that; None if it never began."""
        rows = self._all("SELECT seq, hash FROM cursors WHERE name = ?", (name,))
        return (rows[0][0], rows[0][1]) if rows else None

    def cursors(self) -> list[tuple[str, Seq, Digest]]:
        """Every follower, how far it has come, and the seal of that; none in a log of the first schema."""
        if self.schema == "0001":
            return []
        return [(name, seq, sealed) for name, seq, sealed in self._all("SELECT name, seq, hash FROM cursors")]

    def saved_digests(self) -> list[tuple[int, str]]:
        """The positions and digests of all saved states."""
        return [(seq, digest) for seq, digest in self._all("SELECT seq, digest FROM state_snapshots ORDER BY seq")]

    def state_at(self, seq: int | None = None) -> AgentState:
        """Folds the log up to a position (the head by default), from the nearest state snapshot."""
        return self.state_after(self.snapshot_before(seq) if seq is None or seq > ORIGIN else AgentState(), seq)

    def states_at(self, seqs: Iterable[int]) -> Iterator[AgentState]:
        """Folds the log up to some positions, in order, each from the one before it or a nearer saved state."""
        state = AgentState()
        for seq in sorted(set(seqs)):
            saved = self.snapshot_before(seq)
            state = self.state_after(saved if saved.head > state.head else state, seq)
            yield state

    def state_after(self, state: AgentState, seq: int | None = None) -> AgentState:
        """Folds what follows a state, up to a position (the head by default)."""
        for record in self.read(state.head + 1, seq):
            state = apply(state, record)
        return state


def _marks(asked: Sequence[object]) -> str:
    return ", ".join("?" * len(asked))


def _open(place: Place) -> Source:
    if place.url is None:
        return SqliteSource(place.path)
    from .postgres_source import PostgresSource

    return PostgresSource(place)
