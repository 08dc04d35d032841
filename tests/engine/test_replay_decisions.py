"""Decisions are taken again from recorded facts: whoever rewrites a log, with every hash right, contradicts one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from instar.engine.planner_agent import STEPS_MAX, BuiltinPlanner
from instar.engine.replay import Level, replay
from instar.engine.replay.compare import difference
from instar.engine.replay.stretch import DIGEST_EVERY
from instar.fsm import events as e
from instar.fsm.decisions import progress_key
from instar.fsm.errors import ConfigError, LogCorrupt, ReplayDiverged
from instar.fsm.words import Seq, digest_of
from instar.store.log import DIGEST_EVERY as WRITTEN_EVERY
from instar.store.log import EventLog, Pending
from instar.store.reader import LogReader
from tests.engine.agents import code_only
from tests.engine.decided_log import Rows, Story, decided_log, forged, renumbered, write_rows

CYCLE, DIFFED, EMBEDDED, FLAGGED, GENERATED, TRAINED, REEMBEDDED, REWARDED, PLANNED = range(12, 21)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return decided_log(tmp_path_factory.mktemp("true"))


def at(seq: int, change: Callable[[dict[str, Any]], object]) -> Callable[[Rows], None]:
    """Changes one row."""

    def apply(rows: Rows) -> None:
        change(rows[seq - 1])

    return apply


def payload(seq: int, *path: str | int, to: Any) -> Callable[[Rows], None]:
    """Changes one value in a payload."""

    def apply(rows: Rows) -> None:
        inner = rows[seq - 1]["event"]
        for part in path[:-1]:
            inner = inner[part]
        assert inner[path[-1]] != to, "the probe changes nothing"
        inner[path[-1]] = to

    return apply


def column(seq: int, name: str, to: Any) -> Callable[[Rows], None]:
    def apply(rows: Rows) -> None:
        assert rows[seq - 1][name] != to, "the probe changes nothing"
        rows[seq - 1][name] = to

    return apply


def retyped(rows: Rows) -> None:
    """A feedback becomes a skipped input."""
    skipped = {"type": "InputSkipped", "source": "feedback", "subject": "x", "reason": "y", "excerpt": "", "tree": None}
    rows[4] |= {"type": "InputSkipped", "event": skipped}


def swapped(rows: Rows) -> Rows:
    """Two feedbacks change places."""
    for name in ("event", "type", "key"):
        rows[4][name], rows[5][name] = rows[5][name], rows[4][name]
    return rows


def twice(rows: Rows) -> Rows:
    """A feedback is there twice, and every reference was moved on."""
    renumbered(rows, 6, 1)
    return [*rows[:5], {**rows[4], "event": dict(rows[4]["event"])}, *rows[5:]]


def twice_and_counted(rows: Rows) -> Rows:
    """The same, and the cycle says that it took one more up."""
    rows = twice(rows)
    rows[CYCLE]["event"]["count"] += 1
    return rows


def left_out(rows: Rows) -> Rows:
    """A feedback is gone, and every reference was moved back."""
    renumbered(rows, 6, -1)
    return [*rows[:4], *rows[5:]]


def left_out_and_counted(rows: Rows) -> Rows:
    rows = left_out(rows)
    rows[CYCLE - 2]["event"]["count"] -= 1
    return rows


def plan_left_out(rows: Rows) -> Rows:
    """The first plan is gone."""
    renumbered(rows, PLANNED + 1, -1)
    return [*rows[: PLANNED - 1], *rows[PLANNED:]]


def drifted(rows: Rows) -> None:
    """The one measured shift is made small, and the state that followed is as the machine then has it."""
    for item in rows[EMBEDDED - 1]["event"]["items"]:
        if item["similarity"] is not None:
            item["similarity"] = 0.99


def seen_before(rows: Rows) -> None:
    rows[1]["event"]["seen"] = True


PROBES: dict[str, tuple[Callable[[Rows], Rows | None], int, str]] = {
    # name: what is changed, and the event and the field at which it is found
    "type": (retyped, CYCLE, "transition"),
    "key of a restore": (column(76, "key", "restored:7"), 76, "key"),
    "key of a command's outcome": (column(47, "key", None), 47, "key"),
    "key of a skipped log": (column(48, "key", "skipped:0"), 48, "key"),
    "key of an outcome": (column(PLANNED, "key", "k"), PLANNED, "key"),
    "cause of a cycle": (column(CYCLE, "cause", 10), CYCLE, "transition"),
    "cause of an outcome": (column(FLAGGED, "cause", 13), FLAGGED, "transition"),
    "cause of a signal": (column(3, "cause", 1), 3, "cause"),
    "cause of our own change": (column(60, "cause", 58), 60, "cause"),
    "cause of a snapshot": (column(21, "cause", 20), 21, "cause"),
    "cause of a rollback": (column(75, "cause", 73), 75, "cause"),
    "input": (payload(5, "input", to="something else"), EMBEDDED, "items[4].text"),
    "outcome reported": (payload(5, "outcome", to="skip"), EMBEDDED, "items[4].outcome"),
    "confidence reported": (payload(5, "confidence", to=0.9), EMBEDDED, "items[4].confidence"),
    "task type": (payload(5, "task_type", to="other"), DIFFED, "items[3].subject"),
    "answer": (payload(5, "output", to="os.right2"), REWARDED, "rewards[2].score"),
    "right answer": (payload(5, "reference", to="os.wrong2"), REWARDED, "rewards[2].score"),
    "path of a change": (payload(2, "path", to="rules_engine.py"), DIFFED, "items[0].subject"),
    "monitored": (payload(2, "monitored", to=False), 2, "monitored"),
    "seen": (seen_before, 2, "transition"),
    "span of a cycle": (payload(CYCLE, "span", "last", to=10), CYCLE, "transition"),
    "count of a cycle": (payload(CYCLE, "count", to=9), CYCLE, "transition"),
    "signal of a difference": (payload(DIFFED, "items", 1, "seq", to=4), DIFFED, "items.seq[1]"),
    "kind of a difference": (payload(DIFFED, "items", 1, "kind", to="failure"), DIFFED, "items[1].kind"),
    "space": (payload(EMBEDDED, "space", to=digest_of(b"x")), EMBEDDED, "space"),
    "meaning": (payload(EMBEDDED, "items", 0, "meaning_changed", to=False), EMBEDDED, "items[0].meaning_changed"),
    "unit": (payload(EMBEDDED, "items", 1, "unit", to="heuristics.py::other"), EMBEDDED, "items[1].unit"),
    "row of a vector": (payload(EMBEDDED, "items", 1, "row", to=7), EMBEDDED, "items.row"),
    "measured shift": (drifted, FLAGGED, "triggers[1].events[0]"),
    "value of a trigger": (payload(FLAGGED, "triggers", 0, "value", to=3.0), FLAGGED, "triggers[0].value"),
    "trigger file": (payload(FLAGGED, "content", to=digest_of(b"x")), FLAGGED, "content"),
    "data set trained on": (payload(TRAINED, "dataset", to=digest_of(b"x")), TRAINED, "dataset"),
    "base": (payload(TRAINED, "base", to=digest_of(b"x")), TRAINED, "base"),
    "replaceable": (payload(TRAINED, "replaceable", to=True), TRAINED, "replaceable"),
    "gain in confidence": (payload(TRAINED, "lineage", "confidence_gain", to=0.5), TRAINED, "lineage.confidence_gain"),
    "measured gain": (payload(TRAINED, "gain", "low", to=0.01), REWARDED, "reason"),
    "rows embedded again": (payload(REEMBEDDED, "rows", 0, to=[EMBEDDED, 12]), REEMBEDDED, "rows"),
    "verdict": (payload(34, "gain", "low", to=0.01), 35, "checkpoint"),
    "reason": (payload(REWARDED, "reason", to="it seemed good"), REWARDED, "reason"),
    "reward": (payload(REWARDED, "rewards", 0, "score", to=0.9), REWARDED, "rewards[0].score"),
    "reward of the retrain": (payload(REWARDED, "rewards", 9, "score", to=0.5), REWARDED, "rewards[9].score"),
    "reward left out": (at(REWARDED, lambda row: row["event"]["rewards"].pop(0)), REWARDED, "rewards[0].seq"),
    "plan": (payload(PLANNED, "steps", 0, "strategy", to="keep"), PLANNED, "steps[0].strategy"),
    "effect that failed": (payload(38, "effect", to="embed"), 38, "effect"),
    "last failure": (payload(38, "final", to=True), 38, "transition"),
    "patch tried": (payload(58, "patch", to=digest_of(b"x")), 58, "patch"),
    "gate": (payload(58, "gate", 2, to="true"), 58, "gate[2]"),
    "interpreter of the gate": (payload(56, "gate", 0, to="/bin/true"), 58, "gate[0]"),
    "tree that was mutated": (payload(58, "tree_before", to=digest_of(b"x")), 58, "tree_before"),
    "tree of a mutation": (payload(59, "tree", to=digest_of(b"x")), 59, "tree"),
    "protected path": (payload(60, "path", to="tests/test_it.py"), 60, "path.length"),
    "budget": (payload(72, "reason", to="the patch does not apply"), 72, "reason"),
    "target of a rollback": (payload(75, "target", to=11), 75, "checkpoint"),
    "memory after a rollback": (payload(75, "memory", to=[]), 75, "memory.length"),
    "tree of a rollback": (payload(76, "tree", to=digest_of(b"x")), 76, "tree"),
    "snapshot": (payload(21, "checkpoint", to=digest_of(b"base")), 21, "checkpoint"),
    "policy": (payload(1, "policy", "drift", "threshold", to=0.1), FLAGGED, "triggers[1].events[0]"),
    "order": (swapped, EMBEDDED, "items[4].text"),
    "extra event": (twice, CYCLE + 1, "transition"),
    "extra event, counted": (twice_and_counted, DIFFED + 1, "items.seq[4]"),
    "missing event": (left_out, CYCLE - 1, "transition"),
    "missing event, counted": (left_out_and_counted, DIFFED - 1, "items.seq[4]"),
    "missing plan": (plan_left_out, PLANNED + 1, "transition"),
}


def test_true_log_is_decided_again(log: EventLog) -> None:
    found = replay(log.reader, level=Level.DECISIONS)
    assert found.events == log.reader.head()
    assert found.untaken == {}
    assert found.decisions == {
        "changes": 3,
        "cycles": 10,
        "differences": 32,
        "failures": 1,
        "flags": 6,
        "mutations": 2,
        "outcomes of commands": 1,
        "plans": 8,
        "re-embeddings": 1,
        "restores": 2,
        "rewards": 24,
        "rollbacks": 1,
        "rows of memory": 35,
        "seeds": 2,
        "snapshots": 1,
        "verdicts": 8,
    }


def test_forger_who_changes_nothing_writes_the_same_log(log: EventLog, tmp_path: Path) -> None:
    assert replay(forged(log, tmp_path / "same", lambda rows: None)).head_hash == log.reader.head_hash()


@pytest.mark.parametrize("name", PROBES)
def test_rewritten_event_contradicts_a_decision(log: EventLog, tmp_path: Path, name: str) -> None:
    change, seq, field = PROBES[name]
    reader = forged(log, tmp_path / "forged", change)
    replay(reader, level=Level.DECODE)  # chain and shapes are right
    with pytest.raises(ReplayDiverged) as caught:
        replay(reader, level=Level.DECISIONS)
    assert (caught.value.seq, caught.value.field) == (seq, field)
    assert caught.value.expected != caught.value.actual
    assert caught.value.details["seq"] == seq


def test_time_of_the_asking_event_is_in_the_trigger_file(log: EventLog, tmp_path: Path) -> None:
    def later(rows: Rows) -> None:
        for row in rows[EMBEDDED - 1 :]:
            row["recorded_at_us"] += 2_000_000

    with pytest.raises(ReplayDiverged) as caught:
        replay(forged(log, tmp_path / "forged", later), level=Level.DECISIONS)
    assert (caught.value.seq, caught.value.field) == (FLAGGED, "content")


def test_our_own_change_cannot_be_passed_off_as_anothers(log: EventLog, tmp_path: Path) -> None:
    """A change without its cause would count as monitored where the policy says so."""

    def anothers(rows: Rows) -> None:
        rows[76]["cause"] = None
        rows[76]["event"]["monitored"] = True

    with pytest.raises(ReplayDiverged) as caught:
        replay(forged(log, tmp_path / "forged", anothers), level=Level.DECISIONS)
    assert (caught.value.seq, caught.value.field) == (77, "monitored")


def test_time_that_goes_back_is_found_in_the_chain(log: EventLog, tmp_path: Path) -> None:
    reader = forged(log, tmp_path / "forged", column(40, "recorded_at_us", 1_600_000_000_000_000))
    with pytest.raises(LogCorrupt) as caught:
        replay(reader, level=Level.CHAIN)
    assert (caught.value.seq, caught.value.field) == (40, "recorded_at_us")
    assert caught.value.details == {
        "seq": 40,
        "field": "recorded_at_us",
        "expected": caught.value.expected,
        "actual": 1_600_000_000_000_000,
    }


def test_any_change_before_a_training_shows_in_its_seed(log: EventLog, tmp_path: Path) -> None:
    """An actor is a fact that nothing else rests on; but the seed comes from a hash over all that lies before."""
    reader = forged(log, tmp_path / "forged", column(3, "actor", "somebody"), seeds=False)
    with pytest.raises(ReplayDiverged) as caught:
        replay(reader, level=Level.DECISIONS)
    assert (caught.value.seq, caught.value.field) == (TRAINED, "seed")


FREE: dict[str, Callable[[Rows], Rows | None]] = {
    "an actor": column(3, "actor", "somebody"),
    "text that no row quotes": payload(11, "output", to="another answer"),
    "a tail that was cut off": lambda rows: rows[:-7],
    "a key from outside": column(5, "key", "mine"),
}


@pytest.mark.parametrize("name", FREE)
def test_free_fact_is_found_by_an_anchor_alone(log: EventLog, tmp_path: Path, name: str) -> None:
    from instar.engine.bundles.anchor import check_anchor, make_anchor

    reader = forged(log, tmp_path / "forged", FREE[name])
    replay(reader, level=Level.DECISIONS)
    with pytest.raises(LogCorrupt):
        check_anchor(reader, make_anchor(log.reader))


def test_text_that_no_decision_reads_is_found_by_diffing_again(tmp_path: Path) -> None:
    from instar.engine.feedback_rows import check_feedback
    from instar.engine.reexecution.reexecute import reexecute
    from instar.engine.worker import Worker

    runtime = code_only(tmp_path / "agent")
    row = {"task_type": "find", "input": "x", "output": "the answer", "confidence": 0.9}
    asked = runtime.log.append(check_feedback(row)).seq
    Worker(runtime).run_once()
    reader = forged(runtime.log, tmp_path / "forged", payload(asked, "output", to="another answer"))
    replay(reader, level=Level.DECISIONS)
    assert [one.verdict for one in reexecute(reader, ["diff"]).findings] == ["differs"]
    assert [one.verdict for one in reexecute(runtime.reader, ["diff"]).findings] == ["same"]
    runtime.close()


def test_digest_that_is_left_out_is_found(log: EventLog, tmp_path: Path) -> None:
    assert DIGEST_EVERY == WRITTEN_EVERY
    reader = write_rows(tmp_path / "forged", _without_digest(log), refold=False)
    replay(reader, level=Level.TRANSITIONS)
    with pytest.raises(ReplayDiverged) as caught:
        replay(reader)
    assert (caught.value.seq, caught.value.field, caught.value.actual) == (64, "state_digest", None)


def _without_digest(log: EventLog) -> Rows:
    import msgspec

    from instar.store.reader import COLUMNS

    names = COLUMNS.split(", ")
    rows = [dict(zip(names, row, strict=True)) for row in log.reader.rows()]
    for row in rows:
        row["event"] = msgspec.json.decode(row["payload"])
        row["state_digest"] = None
    return rows


def test_reward_model_and_planner_that_are_not_here_are_named(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.outside(story.feedback(1), story.feedback(2))
    story.start()
    story.embed()
    story.flag()
    story.dataset(1)
    story.judge(model="somebody's")
    found = replay(story.log.reader, level=Level.DECISIONS)
    assert found.untaken == {'rewards: reward model "somebody\'s" is not installed here': 2}
    assert "rewards" not in found.decisions

    def foreign(rows: Rows) -> None:
        rows[-1]["event"]["planner"] = "theirs"

    found = replay(forged(story.log, tmp_path / "forged", foreign), level=Level.DECISIONS)
    assert found.untaken["plans: planner 'theirs' is not installed here"] == 1
    assert "plans" not in found.decisions


def about_to_train(folder: Path) -> Story:
    story = Story(folder)
    story.outside(*(story.feedback(n) for n in range(5)))
    story.start()
    story.embed()
    story.flag()
    story.dataset(40)
    return story


def test_verdict_of_a_foreign_model_is_still_decided_again(tmp_path: Path) -> None:
    """Only its scores are its own: what was scored, and what the gate made of a checkpoint, is not."""
    story = about_to_train(tmp_path)
    story.train(e.Interval(0.1, 0.05, 0.15))
    story.judge(model="theirs")
    rewarded = story.state.head - 1
    reader = forged(story.log, tmp_path / "forged", payload(rewarded, "reason", to="because"))
    with pytest.raises(ReplayDiverged, match="reason"):
        replay(reader, level=Level.DECISIONS)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda row: row["event"].update(step=4), "key"),
        (lambda row: row.update(key="training:0:3"), "key"),
        (lambda row: (row["event"].update(step=4), row.update(key=f"{row['key'][:-1]}4")), "step"),
    ],
)
def test_progress_of_a_training_is_that_of_a_tenth_under_its_key(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    story = about_to_train(tmp_path)
    asked = story.state.since
    one = Pending(e.TrainingProgressed(step=3, steps=25, loss=0.5), cause=asked, key=progress_key(asked, 3))
    (record,) = story.log.transact(lambda _: [one])
    story.train(e.Interval(0.1, 0.05, 0.15))
    replay(story.log.reader, level=Level.DECISIONS)
    with pytest.raises(ReplayDiverged) as caught:
        replay(forged(story.log, tmp_path / "forged", at(record.seq, change)), level=Level.DECISIONS)
    assert (caught.value.seq, caught.value.field) == (record.seq, field)


def test_cycle_may_leave_out_what_came_while_it_was_decided(tmp_path: Path) -> None:
    """Signals may be recorded between the look at the state and the record; what waited before may not be left out."""
    story = Story(tmp_path)
    story.outside(story.feedback(1), story.feedback(2))
    story.start()
    story.settle()
    came = story.outside(story.feedback(3), story.feedback(4), story.feedback(5))
    story.log.append(e.CycleStarted(entry="signals", span=e.Span(came[0], came[1]), count=2), cause=came[1])
    replay(story.log.reader, level=Level.DECISIONS)
    story.settle()

    (tmp_path / "other").mkdir()
    other = Story(tmp_path / "other")
    waited = other.outside(other.feedback(1))
    other.start()
    other.outside(other.feedback(2), other.feedback(3))
    other.settle()
    first = Seq(waited[0] + 2)
    other.log.append(e.CycleStarted(entry="signals", span=e.Span(first, first), count=1), cause=first)
    with pytest.raises(ReplayDiverged) as caught:
        replay(other.log.reader, level=Level.DECISIONS)
    assert caught.value.field == "count"


def test_cycle_takes_up_as_many_as_the_policy_lets_it(tmp_path: Path) -> None:
    story = Story(tmp_path)
    policy = replace(story.state.policy, cycle=replace(story.state.policy.cycle, signals_max=3))
    story.outside(e.PolicyChanged(policy=policy), *(story.feedback(n) for n in range(7)))
    story.start()
    assert story.state.cycle is not None
    assert story.state.cycle.count == 3
    replay(story.log.reader, level=Level.DECISIONS)


def test_log_of_the_real_loop_is_decided_again(tmp_path: Path) -> None:
    from instar.engine.feedback_rows import check_feedback
    from instar.engine.restoring.rollback import roll_back
    from instar.engine.tool_executor import execute
    from instar.engine.worker import Worker

    runtime = code_only(tmp_path / "agent")
    root = runtime.workspace.root
    (root / "heuristics.py").write_text("def score(a, b):\n    return a - b\n")
    rows = [{"task_type": "find", "input": f"do {n}", "output": "x", "reference": "y", "outcome": "fail"} for n in "ab"]
    runtime.log.transact(lambda _: [Pending(check_feedback(row)) for row in rows])
    Worker(runtime).run_once()
    execute(runtime, {"type": "shell", "command": "false"}, source="t")
    patch = "--- a/notes.txt\n+++ b/notes.txt\n@@ -1 +1 @@\n-first line\n+second\n"
    execute(runtime, {"type": "mutate", "patch": patch, "gate": "{python} -c pass"}, source="t")
    execute(runtime, {"type": "self_train"}, source="t")
    Worker(runtime).run_once()
    roll_back(runtime, 1)
    Worker(runtime).run_once()
    found = replay(runtime.reader, level=Level.DECISIONS)
    assert found.untaken == {}
    assert found.decisions["mutations"] == 1
    assert found.decisions["flags"] >= 2
    assert found.decisions["rollbacks"] == 1
    assert found.decisions["changes"] >= 3
    runtime.close()


def test_first_difference_is_named_by_its_path() -> None:
    one = e.PlanChosen(steps=(e.PlanStep(1, "a", "keep", "r"), e.PlanStep(2, "b", "keep", "r")), planner="p")
    other = replace(one, steps=(one.steps[0], e.PlanStep(2, "b", "retrain", "r")))
    found = difference(one, other)
    assert found == ("steps[1].strategy", "keep", "retrain")
    assert difference(one, one) is None
    shorter = difference(one, replace(one, steps=one.steps[:1]))
    assert shorter == ("steps.length", 2, 1)


def test_replay_runs_no_effect_and_says_so(log: EventLog) -> None:
    with pytest.raises(ConfigError, match="runs no effect"):
        replay(log.reader, level=Level.EFFECTS)


def test_erased_text_is_counted_and_the_rest_still_compared(tmp_path: Path) -> None:
    from instar.fsm.codec import encode_event
    from instar.fsm.erasure import remains_of

    story = Story(tmp_path)
    story.outside(story.feedback(1), story.feedback(2))
    story.start()
    story.settle()
    erased = []
    for record in [story.log.reader.get(2), story.log.reader.get(5), story.log.reader.get(6)]:
        remains = encode_event(remains_of(record.event, [Seq(2)])).decode()
        erased.append(
            e.PayloadErased(
                target=record.seq, payload_hash=record.payload_hash, remains=remains, reason="asked", blobs=()
            )
        )
    story.log.erase(erased)
    reader = LogReader(story.log.path)
    assert [row[10] is None for row in reader.rows(1, 6)] == [False, True, False, False, True, True]
    found = replay(reader, level=Level.DECISIONS)
    assert found.untaken == {"rewards: the outcome was erased": 1}
    assert found.decisions["rewards"] == 1
    assert found.decisions["erasures"] == 3


class EarlierStory(Story):
    """Plans as an earlier version did, whose plan held every task type."""

    def plan(self, planner: str = "builtin") -> None:
        state = self.state
        steps = BuiltinPlanner(steps_max=None).plan(state.standings, state.policy)
        self.answer(e.PlanChosen(steps=steps, planner=planner))


@pytest.mark.parametrize("kind", [Story, EarlierStory])
def test_plan_of_many_task_types_is_taken_again_as_its_version_took_it(tmp_path: Path, kind: type[Story]) -> None:
    story = kind(tmp_path)
    story.outside(*(replace(story.feedback(n, "pass"), task_type=f"ticket-{n}") for n in range(STEPS_MAX + 20)))
    while story.state.waiting:
        story.start()
        story.settle()
    chosen = (record.event for record in story.log.reader.read(types=[e.PlanChosen]))
    plans = [len(event.steps) for event in chosen if isinstance(event, e.PlanChosen)]
    assert plans[-1] == (STEPS_MAX if kind is Story else STEPS_MAX + 20)
    assert replay(story.log.reader, level=Level.DECISIONS).decisions["plans"] == len(plans)

    def turned(rows: Rows) -> None:
        steps = rows[-1]["event"]["steps"]
        steps[3]["task_type"], steps[4]["task_type"] = steps[4]["task_type"], steps[3]["task_type"]

    with pytest.raises(ReplayDiverged, match="steps"):
        replay(forged(story.log, tmp_path / "forged", turned), level=Level.DECISIONS)


def test_lesson_that_an_earlier_version_rewarded_is_scored_again(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.outside(*(replace(story.feedback(n, "fail"), source="taught:me") for n in range(2)))
    while story.state.waiting:
        story.start()
        story.settle()
    assert replay(story.log.reader, level=Level.DECISIONS).decisions["rewards"] == 2

    def better(rows: Rows) -> None:
        (row,) = [row for row in rows if row["event"].get("rewards")]
        row["event"]["rewards"][1]["score"] = 1.0

    with pytest.raises(ReplayDiverged, match="rewards"):
        replay(forged(story.log, tmp_path / "forged", better), level=Level.DECISIONS)
