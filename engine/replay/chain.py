"""The chain, verified many rows at a time: each row's place, time, hashes, and link to the row before it.

``whole`` compares whole columns, with as few steps of Python a row as there can be, and says yes or no; only where it
says no is each row looked at by itself, to name the first that does not fit and what of it. A test holds its text of a
row to ``fsm.chain.link``.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from instar.fsm.chain import GENESIS, link
from instar.fsm.errors import LogCorrupt
from instar.fsm.words import ORIGIN, Digest, Seq, digest_of
from instar.store.columns import Columns
from instar.store.reader import LogReader, Row

CHUNK = 1024
"""Rows at a time: a few hundred KiB of text, which stay in the processor's cache."""

_ADVICE = "Nothing from here on can be trusted; restore the log from a backup."


class Place:
    """Where in the chain a verification stands: the last row that it has verified."""

    __slots__ = ("at_us", "hash", "seq")

    def __init__(self, seq: Seq = ORIGIN, hash: Digest = GENESIS, at_us: int = 0) -> None:
        self.seq, self.hash, self.at_us = seq, hash, at_us

    def move(self, row: Row) -> None:
        """Goes on to a row that was verified."""
        self.seq, self.hash, self.at_us = row[0], row[13], row[3]

    def go_behind(self, columns: Columns) -> None:
        """Goes on to the last row of a stretch that was verified."""
        self.seq = Seq(columns.first + len(columns.kinds) - 1)
        self.hash, self.at_us = Digest(columns.hashes[-64:]), int(columns.times[-1])


def place_before(reader: LogReader, first: Seq) -> Place:
    """Gives the place before a row; what stands there is taken as it is.

    Raises:
        LogCorrupt: there is no row before it.
    """
    if first == 1:
        return Place()
    place = Place()
    for row in reader.rows(first - 1, first - 1):
        place.move(row)
        return place
    raise LogCorrupt(
        f"event {first - 1} is missing. Restore the log from a backup.", seq=first - 1, field="seq", expected=first - 1
    )


def chunks(reader: LogReader, first: Seq, last: Seq) -> Iterator[list[Row]]:
    """Gives the rows from ``first`` to ``last``, both included, some hundreds at a time."""
    return reader.chunks(first, last, chunk_max=CHUNK)


def whole(columns: Columns, place: Place) -> bool:
    """Says whether every row of a stretch fits, its payload too, and each is in the state that the one before it left.

    What is computed here holds no comma, so that two joined columns are equal only if each of their values is.
    """
    count = len(columns.kinds)
    hashes = [sha256(payload).hexdigest() for payload in columns.payloads]
    seqs = [*map(str, range(columns.first, columns.first + count))]
    befores = [columns.befores.partition(",")[0], *columns.afters[:-1]]
    follow = (
        columns.first == place.seq + 1
        and columns.seqs == ",".join(seqs)
        and columns.payload_hashes == ",".join(hashes)
        and columns.befores == ",".join(befores)
        and f"{columns.prev_hashes},{columns.hashes[-64:]}" == f"{place.hash},{columns.hashes}"
        and _in_time(columns.times, place.at_us)
    )
    return follow and columns.hashes == ",".join(linked(columns, seqs, befores, hashes))


def linked(columns: Columns, seqs: list[str], befores: list[str], hashes: list[str]) -> list[str]:
    """Hashes each row as ``fsm.chain.link`` does, from its own columns.

    Args:
        columns: the rows.
        seqs: their positions.
        befores: the state in front of each.
        hashes: the hash of each payload.
    """
    of = columns
    previous = of.prev_hashes.split(",")
    fields = (previous, seqs, of.kinds, of.versions, of.times, of.cycles, of.causes, of.actors, befores, of.afters)
    texts = map("\n".join, zip(*fields, of.keys, hashes, of.digests, strict=True))
    return [sha256(text.encode()).hexdigest() for text in texts]


def _in_time(times: list[str], at_us: int) -> bool:
    """Says whether no row was recorded before the one in front of it."""
    try:
        numbers = [at_us, *map(int, times)]
    except ValueError:
        return False
    return numbers == sorted(numbers)


def check_row(row: Row, place: Place) -> bytes | None:
    """Verifies one row by itself and goes on to it; gives the bytes of its payload, None for an erased one.

    Raises:
        LogCorrupt: it does not fit; the error names the field.
    """
    seq, kind, version, at_us, cycle, cause, actor, before, after, key, payload, payload_hash, prev, own, digest = row
    if seq != place.seq + 1:
        raise missing(Seq(place.seq + 1), seq)
    for field, value, kinds in (("recorded_at_us", at_us, int), ("payload", payload, str | None)):
        if not isinstance(value, kinds):  # a database of ours holds no such value
            raise LogCorrupt(f"event {seq} was altered: its {field} is {value!r:.40}. {_ADVICE}", seq=seq, field=field)
    content = None if payload is None else payload.encode()
    if content is not None and digest_of(content) != payload_hash:
        raise _altered(seq, "payload_hash", digest_of(content), payload_hash, "its payload hashes to")
    if prev != place.hash:
        raise _altered(seq, "prev_hash", place.hash, prev, "the row before it has the hash")
    chained = link(
        prev_hash=prev,
        seq=seq,
        kind=kind,
        version=version,
        recorded_at_us=at_us,
        cycle=cycle,
        cause=cause,
        actor=actor,
        state_before=before,
        state_after=after,
        key=key,
        payload_hash=payload_hash,
        state_digest=digest,
    )
    if chained != own:
        raise _altered(seq, "hash", chained, own, "its columns hash to")
    if at_us < place.at_us:
        raise LogCorrupt(
            f"event {seq} was recorded before the event in front of it: {at_us} µs after {place.at_us} µs. {_ADVICE}",
            seq=seq,
            field="recorded_at_us",
            expected=place.at_us,
            actual=at_us,
        )
    place.move(row)
    return content


def missing(expected: Seq, found: Seq | None) -> LogCorrupt:
    """Says that a row is not where it should be."""
    then = f"the next row is {found}" if found is not None else "the log ends there"
    return LogCorrupt(
        f"event {expected} is missing: {then}. Restore the log from a backup.",
        seq=expected,
        field="seq",
        expected=expected,
        actual=found,
    )


def _altered(seq: Seq, field: str, expected: str, actual: str | None, what: str) -> LogCorrupt:
    return LogCorrupt(
        f"event {seq} was altered: {what} {expected[:16]}…, the log holds {str(actual)[:16]}…. {_ADVICE}",
        seq=seq,
        field=field,
        expected=expected,
        actual=actual,
    )
