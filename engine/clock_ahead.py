"""Whether the log's last event has a time yet to come: a clock stood wrong, and recorded times never go back."""

from __future__ import annotations

from instar.store.clock import iso
from instar.store.reader import LogReader

AHEAD_MIN_S = 60.0
"""The clocks of machines that record into one stream may differ by less than that."""
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def ahead_s(reader: LogReader, now_us: int) -> float:
    """Says by how many seconds the head's time lies in the future; 0 if that is nothing to speak of."""
    head = reader.head()
    return ahead_of(reader.get(head).recorded_at_us if head else 0, now_us)


def ahead_of(last_us: int, now_us: int) -> float:
    """As ``ahead_s``, of the time that was recorded last."""
    ahead = (last_us - now_us) / 1_000_000
    return ahead if ahead >= AHEAD_MIN_S else 0.0


def told(ahead: float, now_us: int) -> str:
    """Says what a time in the future means and what can be done."""
    last = iso(now_us + round(ahead * 1_000_000))
    return (
        f"the last event has the time {last}, {span(ahead)} from now: the clock was ahead when it was recorded, or is "
        "behind now. Until then every event gets that same time, so hourly budgets (retrain, mutation) do not refresh, "
        "a time names no event among them (name it by its number), and `instar gc` keeps them for longer. If the "
        "clock is wrong now, set it; else wait, and raise `per_hour_max` under [policy.retrain] and "
        "[policy.mutation] meanwhile"
    )


def span(seconds: float) -> str:
    """Writes a length of time in its two largest units."""
    left, parts = round(seconds), []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}{'s' * (count > 1)}")
    return " ".join(parts[:2]) or f"{left} s"
