"""The chain, verified many rows at a time: each row's place, time, hashes, and link to the row before it.

``whole`` looks at a chunk with as few steps of Python a row as there can be, and says yes or no; only where it says no
is each row looked at by itself, to name the first that does not fit and what of it. A test holds its text of a row to
``fsm.chain.link``.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from operator import itemgetter, le

from instar.fsm.chain import GENESIS, link
from instar.fsm.errors import LogCorrupt
from instar.fsm.words import ORIGIN, Digest, Seq, digest_of
from instar.store.reader import LogReader, Row

CHUNK = 500
"""Rows at a time: a few hundred KiB of text, which stay in the processor's cache."""

_TIME, _PAYLOAD, _PAYLOAD_HASH, _PREV, _HASH = map(itemgetter, (3, 10, 11, 12, 13))
_ADVICE = "Nothing from here on can be trusted; restore the log from a backup."


class Place:
    """Where in the chain a verification stands: the last row that it has verified."""

    __slots__ = ("at_us", "hash", "seq")

    def __init__(self, seq: Seq = ORIGIN, hash: Digest = GENESIS, at_us: int = 0) -> None:
        self.seq, self.hash, self.at_us = seq, hash, at_us

    def move(self, row: Row) -> None:
        """Goes on to a row that was verified."""
        self.seq, self.hash, self.at_us = row[0], row[13], row[3]


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


def whole(rows: list[Row], place: Place) -> list[bytes | None] | None:
    """Says whether every row of a chunk fits; gives the bytes of each payload if so, None for an erased one."""
    payloads, hashes = list(map(_PAYLOAD, rows)), list(map(_PAYLOAD_HASH, rows))
    contents: list[bytes | None]
    if None in payloads:  # of an erased payload only the hash is left; the chain runs over that
        contents = [None if payload is None else payload.encode() for payload in payloads]
        found = [
            held if content is None else digest_of(content) for content, held in zip(contents, hashes, strict=True)
        ]
    else:
        encoded: list[bytes] = [payload.encode() for payload in payloads]
        contents, found = [*encoded], [sha256(content).hexdigest() for content in encoded]
    if found != hashes or not _in_order(rows, place):
        return None
    owns = list(map(_HASH, rows))
    previous = list(map(_PREV, rows))
    if previous[0] != place.hash or previous[1:] != owns[:-1] or linked(rows) != owns:
        return None
    return contents


def linked(rows: list[Row]) -> list[str]:
    """Hashes each row as ``fsm.chain.link`` does, from its own columns; all texts first, which is faster."""
    texts = [
        f"{prev}\n{seq}\n{kind}\n{version}\n{at_us}\n{cycle}\n{'' if cause is None else cause}\n{actor}\n{before}\n"
        f"{after}\n{'' if key is None else key}\n{payload_hash}\n{digest or ''}"
        for (
            seq,
            kind,
            version,
            at_us,
            cycle,
            cause,
            actor,
            before,
            after,
            key,
            _,
            payload_hash,
            prev,
            _,
            digest,
        ) in rows
    ]
    return [sha256(text.encode()).hexdigest() for text in texts]


def _in_order(rows: list[Row], place: Place) -> bool:
    """Says whether the rows follow each other without a gap, in time too."""
    if rows[0][0] != place.seq + 1 or [row[0] for row in rows] != list(range(place.seq + 1, place.seq + 1 + len(rows))):
        return False
    times = list(map(_TIME, rows))
    return place.at_us <= times[0] and all(map(le, times, times[1:]))


def check_row(row: Row, place: Place) -> bytes | None:
    """Verifies one row by itself and goes on to it; gives the bytes of its payload, None for an erased one.

    Raises:
        LogCorrupt: it does not fit; the error names the field.
    """
    seq, kind, version, at_us, cycle, cause, actor, before, after, key, payload, payload_hash, prev, own, digest = row
    if seq != place.seq + 1:
        raise missing(Seq(place.seq + 1), seq)
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


def _altered(seq: Seq, field: str, expected: str, actual: str, what: str) -> LogCorrupt:
    return LogCorrupt(
        f"event {seq} was altered: {what} {expected[:16]}…, the log holds {actual[:16]}…. {_ADVICE}",
        seq=seq,
        field=field,
        expected=expected,
        actual=actual,
    )
