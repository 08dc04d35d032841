"""What a signal changed: a file against its last version, an output against its reference.

Meaning comes from the syntax (``units``), not from the size of a diff and not from a distance of embeddings: on real
edits both run against the truth, since cosmetic edits are the larger ones. The text of a difference is at once what a
reader sees and what is embedded, so it says first what changed, and it holds no secrets.
"""

from __future__ import annotations

import logging
import re
from typing import Final

from msgspec.structs import replace

from instar.fsm.events import DiffItem, FeedbackReceived
from instar.fsm.rows import outcome_diff
from instar.fsm.words import Seq

from .differences import sequence_diff
from .differences.byte_likeness import SAME, likeness
from .differences.units import Delta, delta, units
from .drift import Drift
from .drift.python import compare_or_none as python_drift
from .drift.result import KEPT
from .redact import redact

PYTHON_SUFFIXES: Final = (".py", ".pyi", ".pyw")
TEXT_CHARS_MAX = 200_000
LINE_CHARS_MAX = 2_000
NAMES_MAX = 12
FIELD_CHARS_MAX = 20_000
PYTHON_BYTES_MAX = 4 * 1024 * 1024
"""Python source above this is compared by lines: reading its syntax would take minutes."""

_TOKEN: Final = re.compile(r"\w+|[^\w\s]")
_log = logging.getLogger("instar.diff_engine")


def diff_change(
    seq: Seq, path: str, before: bytes | None, after: bytes | None, *, by_drift: bool = True
) -> tuple[DiffItem, str]:
    """Compares two versions of a file; None stands for a file that is not there, or whose bytes were not captured.

    Python that parses gives a ``code_diff`` with its units, other text a ``text_diff``, anything else, or neither
    version captured, a ``binary_diff``. A file that appears or vanishes always changes meaning.

    Args:
        seq: where the change stands.
        path: the file.
        before: its bytes until now.
        after: its bytes from now on.
        by_drift: measure Python by its drift; else by the size of what changed, as before version 3 of the event.

    Returns:
        The difference, and its text: a line that names what changed, then a unified diff without secrets.
    """
    old, new = _decoded(before), _decoded(after)
    if old is None or new is None or (before is None and after is None):
        return _binary(seq, path, before, after)
    compared = _compare_units(path, old, new)
    left, right = _lines(old), _lines(new)
    found = sequence_diff.changes(left, right)
    there = before is not None and after is not None
    drift = python_drift(old, new) if compared and there and by_drift else None
    if compared:
        alike, meaning = compared.similarity, compared.meaning_changed
        if drift is not None:
            alike, meaning = drift.similarity, drift.changed
            compared = replace(compared, changed=_drifted(compared.changed, drift))
    else:
        removed = sum(change.a_high - change.a_low for change in found)
        added = sum(change.b_high - change.b_low for change in found)
        alike = 1.0 - (removed + added) / (len(left) + len(right)) if left or right else 1.0
        meaning = _told(left) != _told(right)
    item = DiffItem(
        seq=seq,
        kind="code_diff" if compared else "text_diff",
        subject=path,
        similarity=round(alike, 6) if there else 0.0,
        meaning_changed=meaning or not there,
        lines_added=sum(change.b_high - change.b_low for change in found),
        lines_removed=sum(change.a_high - change.a_low for change in found),
        units_changed=compared.changed if compared else (),
        units_added=compared.added if compared else (),
        units_removed=compared.removed if compared else (),
        because=drift.because if drift else (),
        drifts=_drifts(compared, drift) if compared and drift else {},
    )
    headers = (
        f"--- {f'a/{path}' if before is not None else '/dev/null'}",
        f"+++ {f'b/{path}' if after is not None else '/dev/null'}",
    )
    body = _unified(left, right, found)
    return item, _capped([_summary(item, compared), *headers, *body] if found else [_summary(item, compared)])


def _drifted(changed: tuple[str, ...], drift: Drift) -> tuple[str, ...]:
    """Leaves out the definitions of another form that mean what they meant, and what stands inside of them."""
    kept = {unit.name for unit in drift.units if unit.what in KEPT}
    return tuple(name for name in changed if name.partition(".<locals>.")[0] not in kept)


def _drifts(compared: Delta, drift: Drift) -> dict[str, float]:
    known = {*compared.changed, *compared.added}
    return {unit.name: unit.drift for unit in drift.units if unit.name in known and unit.what != "added"}


def diff_output(seq: Seq, feedback: FeedbackReceived) -> tuple[DiffItem, str]:
    """Compares an output with its reference, token by token; case and layout do not count.

    A failed or skipped task without a reference is a ``failure`` of similarity 0; a passed one has nothing that could
    differ, so its similarity is 1.
    """
    fields = [("task", feedback.task_type), ("input", feedback.input), ("output", feedback.output)]
    alike = 0.0
    if feedback.reference is not None:
        fields.append(("reference", feedback.reference))
        alike = token_similarity(feedback.output, feedback.reference)
    if feedback.outcome != "pass":
        fields.append(("outcome", feedback.outcome))
    text = "\n".join(f"{name}: {_cut(value, FIELD_CHARS_MAX)}" for name, value in fields if value.strip())
    return outcome_diff(seq, feedback, alike), redact(text)


def token_similarity(output: str, reference: str) -> float:
    """Gives 1 − the share of words and signs, of both texts together, that differ; 1 exactly when none does."""
    return sequence_diff.similarity(_tokens(output), _tokens(reference))


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.casefold()[:TEXT_CHARS_MAX])


def _decoded(content: bytes | None) -> str | None:
    """Reads UTF-8; None for what is no text."""
    if content is None:
        return ""
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _compare_units(path: str, old: str, new: str) -> Delta | None:
    """Compares by syntax, or gives None where one side has none: no Python, too large, or it does not parse."""
    if not path.endswith(PYTHON_SUFFIXES):
        return None
    if max(len(old), len(new)) > PYTHON_BYTES_MAX:
        _log.warning("%s compared by lines: over %d characters", path, PYTHON_BYTES_MAX)
        return None
    left, right = units(old), units(new)
    if any(unit.kind == "text" for side in (left, right) for unit in side.values()):
        _log.warning("%s compared by lines: one version does not parse", path)
        return None
    return delta(left, right)


def _lines(text: str) -> list[str]:
    """Splits at line feeds, as git does; a last line without one is marked, so that it differs from one with."""
    if not text:
        return []
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    else:
        lines[-1] += "\n\\ No newline at end of file"
    return lines


def _told(lines: list[str]) -> list[str]:
    ends = (line.partition("\n")[0].rstrip() for line in lines)
    return [line for line in ends if line]


def _summary(item: DiffItem, compared: Delta | None) -> str:
    if not compared:
        return f"{item.subject}: {item.lines_added} lines added, {item.lines_removed} removed"
    moved = {name for pair in compared.renamed for name in pair}
    told = [
        f"{verb} {_names([name for name in names if name not in moved])}"
        for verb, names in (
            ("changed", item.units_changed),
            ("added", item.units_added),
            ("removed", item.units_removed),
        )
        if any(name not in moved for name in names)
    ]
    if compared.renamed:
        told.append(f"renamed {_names([f'{old} to {new}' for old, new in compared.renamed])}")
    return f"{item.subject}: {'; '.join(told) or 'layout, comments or local names only'}"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more


def _unified(left: list[str], right: list[str], found: list[sequence_diff.Change]) -> list[str]:
    """Writes hunks with three lines of context, until there is more than a reader or a model could take."""
    lines: list[str] = []
    chars = 0
    for span, group in sequence_diff.hunks(found, len(left), len(right)):
        if chars > TEXT_CHARS_MAX:
            break  # _capped notes what is missing
        start = len(lines)
        lines.append(f"@@ -{_range(span.a_low, span.a_high)} +{_range(span.b_low, span.b_high)} @@")
        a = span.a_low
        for change in group:
            lines += (f" {line}" for line in left[a : change.a_low])
            lines += (f"-{line}" for line in left[change.a_low : change.a_high])
            lines += (f"+{line}" for line in right[change.b_low : change.b_high])
            a = change.a_high
        lines += (f" {line}" for line in left[a : span.a_high])
        chars += sum(map(len, lines[start:]))
    return lines


def _range(low: int, high: int) -> str:
    """Writes a span of lines as unified diffs do: counted from 1, the line before for an empty span."""
    size = high - low
    return f"{low + 1}" if size == 1 else f"{low + 1 if size else low},{size}"


def _capped(lines: list[str]) -> str:
    kept: list[str] = []
    chars = 0
    for line in lines:
        chars += min(len(line), LINE_CHARS_MAX) + 1
        if chars > TEXT_CHARS_MAX:
            kept.append(f"… diff cut here: more than {TEXT_CHARS_MAX} characters; both versions are in the store")
            break
        kept.append(line)
    # Redaction comes before long lines are cut, lest half of a secret stays.
    return "\n".join(_cut(line, LINE_CHARS_MAX) for line in redact("\n".join(kept)).split("\n")) + "\n"


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}… [{len(text) - chars} characters more]"


def _binary(seq: Seq, path: str, before: bytes | None, after: bytes | None) -> tuple[DiffItem, str]:
    """Compares bytes: similarity is the share, of both sides together, that lies in the common ends."""
    alike = 0.0 if before is None or after is None else likeness(before, after)
    item = DiffItem(
        seq=seq,
        kind="binary_diff",
        subject=path,
        similarity=alike,
        meaning_changed=alike < SAME,
    )
    return item, f"{path}: binary, {_size(before)} before, {_size(after)} after\n"


def _size(content: bytes | None) -> str:
    return "nothing captured" if content is None else f"{len(content)} bytes"
