"""Search in the vector memory: the rows nearest to a text, in the active space, as far as they were not rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from instar.engine.embedding.models import active_space
from instar.engine.runtime import Runtime
from instar.fsm.errors import ConfigError
from instar.store.memory_row import Hit
from instar.store.row_filter import RowFilter

K_MAX = 1000

Moment = str | datetime
"""An ISO time, UTC where it names no zone."""


class Filter(Struct, frozen=True, kw_only=True):
    """Which rows a search may give; what is None admits every row.

    Names are whole names; one that ends in ``*`` admits every name that begins so. Times are when a row was taken into
    memory, microseconds since 1970 UTC, both included.
    """

    kinds: list[str] | None = None
    task_types: list[str] | None = None
    units: list[str] | None = None
    since_us: int | None = None
    until_us: int | None = None


EVERYTHING = Filter()


class Found(Struct, frozen=True, kw_only=True):
    """A row of memory, and how near it is to what was asked.

    Attributes:
        reference: names the row itself, for ``why`` and ``taint``.
        event: the signal that it stands for.
        unit: a path, a unit of code such as ``scraper.py::fetch``, or a task type.
        text: the beginning of what was embedded; of a feedback, of what was asked.
        similarity: cosine, in -1..1.
        at_us: when it was taken into memory, microseconds since 1970 UTC.
    """

    reference: str
    event: int
    kind: str
    unit: str
    text: str
    task_type: str | None
    outcome: str | None
    similarity: float
    at_us: int


def filter_of(
    *,
    kinds: Sequence[str] | None = None,
    task_types: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Filter:
    """Makes a filter of what a user gives.

    Raises:
        ConfigError: a time is no ISO time.
    """
    return Filter(
        kinds=_listed(kinds),
        task_types=_listed(task_types),
        units=_listed(units),
        since_us=None if since is None else moment_us(since),
        until_us=None if until is None else moment_us(until),
    )


def search(runtime: Runtime, text: str, k: int = 10, wanted: Filter = EVERYTHING) -> list[Found]:
    """Finds the ``k`` rows nearest to a text.

    Raises:
        ConfigError: the text is empty or cannot be embedded, or ``k`` is out of its range.
    """
    return [found(hit) for hit in nearest(runtime, text, k, wanted)]


def check_asked(text: object, k: object) -> None:
    """Refuses a question that is none, before it is asked here or of a worker.

    Raises:
        ConfigError: the text is empty or none, or ``k`` is out of its range.
    """
    if not isinstance(text, str):
        raise ConfigError(f"the search text is {type(text).__name__}: give a text, a str")
    if not text.strip():
        raise ConfigError("the search text is empty: say what to look for")
    if not isinstance(k, int) or not 1 <= k <= K_MAX:
        raise ConfigError(f"k is {k!r}; it must be a whole number in 1 … {K_MAX}")


def nearest(runtime: Runtime, text: str, k: int, wanted: Filter) -> list[Hit]:
    """Finds the ``k`` rows nearest to a text, as memory holds them; raises what ``search`` does."""
    check_asked(text, k)
    state = runtime.state
    space = active_space(state)
    vectors, failures = runtime.models.embed_each(space, [text])
    if failures[0] is not None:
        raise ConfigError(f"the search text cannot be embedded: {failures[0]}")
    runtime.memory.catch_up(runtime.reader, runtime.blobs)
    rows = RowFilter(
        kinds=wanted.kinds,
        task_types=wanted.task_types,
        units=wanted.units,
        since_us=wanted.since_us,
        until_us=wanted.until_us,
        within=state.memory,
    )
    return runtime.memory.search_each(space, vectors, k, rows)[0]


def found(hit: Hit) -> Found:
    """Tells a row as a user reads it."""
    row = hit.row
    return Found(
        reference=f"memory:{row.seq}.{row.item}",
        event=row.signal,
        kind=row.kind,
        unit=row.unit,
        text=row.text,
        task_type=row.task_type,
        outcome=row.outcome,
        similarity=round(hit.similarity, 6),
        at_us=row.at_us,
    )


def moment_us(moment: Moment) -> int:
    """Gives a time as microseconds since 1970 UTC.

    Raises:
        ConfigError: it is no ISO time.
    """
    try:
        time = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment.strip())
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        return int(time.timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{moment!r} is no time: write it as 2026-01-31 or 2026-01-31T18:30:00+01:00") from error


def _listed(names: Sequence[str] | None) -> list[str] | None:
    if isinstance(names, str):
        raise ConfigError(f"{names!r} must be a list of names: write [{names!r}]")
    return None if names is None else list(names)
