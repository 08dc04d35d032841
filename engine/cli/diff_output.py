"""What differs between two points of the log, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instar.engine.differences.checkpoint_diff import CheckpointDiff
    from instar.engine.differences.memory_diff import MemoryDiff, MemoryRows
    from instar.engine.differences.state_diff import StateDiff, ValueChange
    from instar.engine.differences.tree_diff import CodeDiff, PathChange
    from instar.fsm.events import PlanStep
    from instar.fsm.rewards import Standing

_PATHS_MAX = 40
_UNITS_MAX = 6
_STEPS_MAX = 8
MARKS = {"added": "A", "modified": "M", "deleted": "D", "mode": "m", "unmanaged": "?"}


def lines_of(found: StateDiff, code: list[str] | None = None) -> Iterator[str]:
    """Says what differs, by subject, and at last what does not.

    Args:
        found: the difference.
        code: lines on the code in place of one for each path.
    """
    from instar.store.clock import iso

    a, b = found.a, found.b
    distance = b.seq - a.seq
    way = f"{abs(distance)} event{'s' * (abs(distance) != 1)} {'on' if distance >= 0 else 'back'}"
    last = "the folder now, after event" if found.standing else "event"
    yield f"event {a.seq} ({iso(a.at_us)[:19]}Z) → {last} {b.seq} ({iso(b.at_us)[:19]}Z): {way}"
    sections = {
        "code": code_lines(found.code) if code is None else code,
        "checkpoint": _checkpoint(found.checkpoint),
        "memory": _memory(found.memory),
        "rewards": [_standing(one.task_type, one.before, one.after) for one in found.rewards],
        "policy": _values(found.policy),
        "snapshots": _values(found.snapshots, "event "),
        "plan": _plan(found.plan_before, found.plan_after),
        "machine": _values(found.machine),
        "budgets": _values(found.budgets),
        "waiting": _values(found.waiting),
    }
    for name, lines in sections.items():
        for number, line in enumerate(lines):
            yield f"{name if number == 0 else '':<12}{line}".rstrip()
    equal = [name for name, lines in sections.items() if not lines]
    if equal:
        yield f"{'the same':<12}{'everything' if len(equal) == len(sections) else ', '.join(equal)}"


def code_lines(code: CodeDiff) -> list[str]:
    """Counts what differs in the code, and lists each path."""
    if code.before == code.after:
        return []
    counts: dict[str, int] = {}
    for one in code.paths:
        counts[one.change] = counts.get(one.change, 0) + 1
    added, removed = code.lines
    told = ", ".join(f"{count} {change}" for change, count in sorted(counts.items())) or "folders alone"
    lines = [f"{told}; +{added} −{removed} lines; tree {_name(code.before)} → {_name(code.after)}"]
    lines += [_path(one) for one in code.paths[:_PATHS_MAX]]
    if len(code.paths) > _PATHS_MAX:
        lines.append(f"  … and {len(code.paths) - _PATHS_MAX} more; --json lists all")
    return lines


def _path(one: PathChange) -> str:
    counted = "" if one.lines_added is None else f"+{one.lines_added} −{one.lines_removed}"
    from instar.engine.differences.git_names import shown

    units = [*one.units_changed, *(f"+{name}" for name in one.units_added), *(f"−{name}" for name in one.units_removed)]
    more = f" and {len(units) - _UNITS_MAX} more" if len(units) > _UNITS_MAX else ""
    meaning = "" if one.meaning_changed or one.change == "mode" else "the same meaning"
    rest = "  ".join(part for part in (counted, ", ".join(units[:_UNITS_MAX]) + more, meaning, one.note) if part)
    return f"  {MARKS[one.change]} {shown(one.path)}  {rest}".rstrip()


def _checkpoint(one: CheckpointDiff) -> list[str]:
    lines = []
    if one.before != one.after:
        moved = len(one.changed) + len(one.added)
        tensors = f"{moved} of {one.tensors} tensors ({one.bytes_changed / 1e6:.1f} of {one.bytes_all / 1e6:.1f} MB)"
        lines.append(f"{_name(one.before)} → {_name(one.after)}: {one.note or f'{tensors} changed'}")
        if len(one.lineage) > 1:
            lines.append("  lineage " + " → ".join(_name(name) for name in one.lineage))
        elif one.before and one.after:
            lines.append("  neither was trained from the other")
    for training in one.trainings:
        gain = training.gain
        told = f"{training.gain_of} {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        lines.append(
            f"  event {training.seq}: {_name(training.checkpoint)} from {_name(training.base)}, {told}, "
            f"{training.verdict or 'not judged'}"
        )
    return lines


def _memory(memory: MemoryDiff) -> list[str]:
    lines = []
    if memory.added.rows or memory.hidden.rows:
        told = [
            f"{_rows(rows)} {verb}" for verb, rows in (("added", memory.added), ("hidden", memory.hidden)) if rows.rows
        ]
        lines.append("; ".join(told))
    if memory.space_before != memory.space_after:
        again = ", ".join(f"{one.rows} rows embedded again by event {one.seq}" for one in memory.reembedded)
        lines.append(f"space {_name(memory.space_before)} → {_name(memory.space_after)}{again and ': '}{again}")
    return lines


def _rows(rows: MemoryRows) -> str:
    return f"{rows.rows} rows ({', '.join(f'{count} {kind}' for kind, count in rows.kinds.items())})"


def _standing(task_type: str, before: Standing | None, after: Standing | None) -> str:
    return f"{task_type}: {_stands(before)} → {_stands(after)}"


def _stands(standing: Standing | None) -> str:
    if standing is None:
        return "none"
    return f"{standing.mean:.3f} ({standing.passes} pass, {standing.fails} fail, {standing.skips} skip)"


def _plan(before: tuple[PlanStep, ...], after: tuple[PlanStep, ...]) -> list[str]:
    if before == after:
        return []
    if not after:
        return [f"none; {len(before)} steps before"]
    strategies = {step.task_type: step.strategy for step in before}
    lines = []
    for step in after[:_STEPS_MAX]:
        was = strategies.get(step.task_type)
        mark = "" if was == step.strategy else f" (was {was})" if was else " (new)"
        lines.append(f"{step.rank}. {step.task_type}: {step.strategy}{mark}")
    if len(after) > _STEPS_MAX:
        lines.append(f"… and {len(after) - _STEPS_MAX} more")
    return lines


def _values(found: tuple[ValueChange, ...], unit: str = "") -> list[str]:
    return [f"{one.name}: {_value(one.before, unit)} → {_value(one.after, unit)}" for one in found]


def _value(value: Any, unit: str) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    text = str(value)
    return _name(text) if len(text) == 64 and text.isalnum() else unit + text


def _name(digest: str | None) -> str:
    return digest[:12] if digest else "none"
