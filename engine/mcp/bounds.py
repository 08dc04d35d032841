"""Holds a result to a size that a client can take, and says what was cut."""

from __future__ import annotations

import json
from typing import Any

CHARS_MAX = 60_000
"""The longest result, in characters of JSON; some 15,000 tokens of a language model."""
_STEPS = ((200, 8000), (100, 4000), (50, 2000), (25, 1000), (10, 500), (5, 250), (2, 100), (1, 50))
"""The most entries of a list and characters of a text, tried one after another."""
_CUTS_MAX = 20


def as_text(whole: Any) -> str:
    """Writes JSON that any client can read: half a character, which no UTF-8 holds, as its escape."""
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def fit(whole: dict[str, Any], chars_max: int = CHARS_MAX) -> dict[str, Any]:
    """Cuts lists, objects and texts until a result fits; ``cut`` then names each place, what is left and of how much.

    Args:
        whole: a result of plain values.
        chars_max: how long its JSON may be.
    """
    whole = _sound(whole)
    if len(as_text(whole)) <= chars_max:
        return whole
    for entries_max, text_max in _STEPS:
        cuts: list[dict[str, Any]] = []
        shorter: dict[str, Any] = _cut(whole, "", entries_max, text_max, cuts)
        shorter["cut"] = cuts[:_CUTS_MAX]
        if len(cuts) > _CUTS_MAX:
            shorter["cut"].append({"more_places": len(cuts) - _CUTS_MAX})
        if len(as_text(shorter)) <= chars_max:
            return shorter
    told: dict[str, Any] = {name: whole[name] for name in ("schema_version", "ok", "verb") if name in whole}
    return {**told, "data": None, "cut": [{"at": "data", "kept": 0, "of": len(as_text(whole))}]}


def _cut(value: Any, at: str, entries_max: int, text_max: int, cuts: list[dict[str, Any]]) -> Any:
    match value:
        case str() if len(value) > text_max:
            cuts.append({"at": at, "kept": text_max, "of": len(value), "unit": "characters"})
            return value[:text_max] + "…"
        case list():
            if len(value) > entries_max:
                cuts.append({"at": at, "kept": entries_max, "of": len(value), "unit": "entries"})
            return [
                _cut(one, f"{at}[{index}]", entries_max, text_max, cuts)
                for index, one in enumerate(value[:entries_max])
            ]
        case dict():
            limit = max(entries_max, 40)  # what is a struct has fewer, and stays whole
            if len(value) > limit:
                cuts.append({"at": at, "kept": limit, "of": len(value), "unit": "entries"})
            names = list(value)[:limit]
            inside = f"{at}." if at else ""
            return {name: _cut(value[name], f"{inside}{name}", entries_max, text_max, cuts) for name in names}
    return value


def _sound(value: Any) -> Any:
    """Gives plain values whose texts are all UTF-8."""
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
        case list() | tuple():
            return [_sound(one) for one in value]
        case dict():
            return {_sound(str(name)): _sound(one) for name, one in value.items()}
    return value
