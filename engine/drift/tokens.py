"""Drift of source without a syntax tree: Python that does not parse, other languages, settings.

Tokens are compared, so layout and comments do not count; where indentation carries meaning, its changes are tokens too.
JSON and TOML are compared by their values.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Final

from instar.engine.differences import sequence_diff

from .measure import graded
from .result import Drift

LEAST: Final = 0.33
"""What a changed token counts at least."""
_HASH: Final = frozenset(
    """
    .py .pyi .pyw .sh .bash .zsh .yaml .yml .toml .ini .cfg .conf .rb .pl .r .mk .cmake .tf
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
_SLASHES: Final = frozenset(
    """
    .js .mjs .ts .jsx .tsx .java .c .h .cc .cpp .hpp .cs .go .rs .swift .kt .scala .php .css .scss .proto
    .dart
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
_DASHES: Final = frozenset(
    """
    .sql .lua .hs .elm
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
_INDENTED: Final = frozenset(
    """
    .py .pyi .pyw .yaml .yml
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
SUFFIXES: Final = _HASH | _SLASHES | _DASHES | {".json"}
_STRING: Final = r"\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
_REST: Final = (
    r"[A-Za-z_]\w*|\d[\w.]*|[^\w\s]{2}(?<=[=<>!&|+\-*/:]=|&&|\|\||=>|->|\+\+|--|<<|>>|\*\*|//|::)|[^\w\s]|\w+"
)
_COMMENTS: Final = {"hash": r"#[^\n]*", "slashes": r"//[^\n]*|/\*.*?\*/", "dashes": r"--[^\n]*"}
SHOWN: Final = 4
TEXT_MAX: Final = 48


def compare(before: str, after: str, suffix: str, why: str) -> Drift:
    """Says how far a source drifted by its tokens.

    Args:
        before: the last version.
        after: the new version.
        suffix: of its file, with the dot; it says how comments look.
        why: the reason for not going by syntax, told with the others.
    """
    if (same := _same_values(before, after, suffix)) is not None and same:
        return Drift(drift=0.0, similarity=1.0, changed=False, how="tokens", because=("the same values",))
    left, right = list(tokens(before, suffix)), list(tokens(after, suffix))
    found = sequence_diff.changes(left, right)
    if not found:
        return Drift(drift=0.0, similarity=1.0, changed=False, how="tokens", because=(why, "layout or comments only"))
    count = sum(change.a_high - change.a_low + change.b_high - change.b_low for change in found)
    drift = graded(LEAST, count / max(1, len(left) + len(right)))
    told = [
        f"{_shown(left[change.a_low : change.a_high])} → {_shown(right[change.b_low : change.b_high])}"
        for change in found[:SHOWN]
    ]
    more = [f"and {len(found) - SHOWN} more places"] if len(found) > SHOWN else []
    size = f"{count} of {len(left) + len(right)} tokens"
    return Drift(
        drift=drift,
        similarity=round(1.0 - drift, 6),
        changed=True,
        how="tokens",
        because=(why, *told, *more, size),
    )


def tokens(text: str, suffix: str) -> Iterator[str]:
    """Cuts a source into tokens, comments left out."""
    style = "hash" if suffix in _HASH else "dashes" if suffix in _DASHES else "slashes" if suffix in _SLASHES else ""
    comment = _COMMENTS.get(style)
    pattern = re.compile("|".join([f"({_STRING})", f"({comment})" if comment else "((?!))", _REST]), re.DOTALL)
    if suffix not in _INDENTED:
        yield from _cut(pattern, text)
        return
    depths = [0]
    for line in text.expandtabs().splitlines():
        found = list(_cut(pattern, line))
        if not found:
            continue
        depth = len(line) - len(line.lstrip())
        if depth > depths[-1]:
            depths.append(depth)
            yield "indent"
        while depth < depths[-1]:
            depths.pop()
            yield "dedent"
        yield from found


def _cut(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    for found in pattern.finditer(text):
        string, comment = found.group(1), found.group(2)
        if comment is None:
            yield f'"{string[1:-1]}"' if string and string[0] == "'" and '"' not in string else found.group()


def _same_values(before: str, after: str, suffix: str) -> bool | None:
    """Compares the values of settings, or gives None where there are none to compare."""
    try:
        match suffix:
            case ".json":
                return bool(
                    json.dumps(json.loads(before), sort_keys=True) == json.dumps(json.loads(after), sort_keys=True)
                )
            case ".toml":
                return repr(_sorted(tomllib.loads(before))) == repr(_sorted(tomllib.loads(after)))
    except (ValueError, RecursionError):
        return None
    return None


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return sorted((key, _sorted(one)) for key, one in value.items())
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def _shown(found: list[str]) -> str:
    text = " ".join(found)
    return (text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…") or "nothing"
