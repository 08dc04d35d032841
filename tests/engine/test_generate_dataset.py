from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from instar.engine.dataset.heard import Again, folded
from instar.engine.dataset.log_failures import LogFailure
from instar.engine.dataset.near_duplicates import near_duplicates
from instar.engine.dataset.past import Past
from instar.engine.generate_dataset import Dataset, Row, corpus, generate
from instar.fsm.events import (
    AnyEvent,
    ChangeObserved,
    EmbeddedItem,
    FeedbackReceived,
    MutationAccepted,
    MutationApplied,
    RollbackFinished,
    SignalEmbedded,
)
from instar.fsm.policy import Policy, RetrainPolicy
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq, State, held_out, split_of
from tests.store.memory_blobs import MemoryBlobs

NONE_HELD_OUT = Policy(retrain=RetrainPolicy(heldout_share=0.0, validation_share=0.0))
NO_DIGEST = Digest("0" * 64)


def record(seq: int, event: AnyEvent, cause: int | None = None) -> Recorded:
    return Recorded(
        seq=Seq(seq),
        recorded_at_us=seq,
        cycle=0,
        cause=Seq(cause) if cause is not None else None,
        actor="test",
        state_before=State.IDLE,
        state_after=State.IDLE,
        key=None,
        event=event,
        payload_hash=NO_DIGEST,
        prev_hash=NO_DIGEST,
        hash=NO_DIGEST,
        state_digest=None,
    )


def records(*events: AnyEvent | tuple[AnyEvent, int]) -> list[Recorded]:
    pairs = [event if isinstance(event, tuple) else (event, None) for event in events]
    return [record(seq, event, cause) for seq, (event, cause) in enumerate(pairs, 1)]


def past_of(events: Sequence[Recorded], policy: Policy) -> tuple[Past, Again]:
    """Gives what a log told, and what reads it again."""
    past = Past(policy)
    for one in events:
        past.take(one)
    return past, lambda seqs: [one for one in events if one.seq in seqs]


def told(asked: str, **fields: Any) -> FeedbackReceived:
    return FeedbackReceived(**{"task_type": "scrape", "input": asked, **fields})


def built(
    *events: AnyEvent | tuple[AnyEvent, int],
    policy: Policy = NONE_HELD_OUT,
    logs: Sequence[LogFailure] = (),
    blobs: MemoryBlobs | None = None,
) -> Dataset:
    return generate(*past_of(records(*events), policy), blobs or MemoryBlobs(), logs, policy)


def pairs(rows: Iterable[Row]) -> list[tuple[str, str]]:
    return [(row.input, row.output) for row in rows]


# ---- tasks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [{"outcome": "fail"}, {"outcome": "skip"}, {"outcome": "pass", "reward": 0.49}, {"confidence": 0.69}],
)
def test_poor_outcome_with_a_reference_is_a_row(fields: dict[str, Any]) -> None:
    dataset = built(told("get it", output="no", reference="use the url", **fields))
    assert pairs(dataset.train) == [("get it", "use the url")]
    (row,) = dataset.train
    assert (row.type, row.events, row.group, row.split) == ("task", (1,), "use the url", "train")
    assert dataset.sources == {"task": 1}
    assert dataset.left_out == {}


@pytest.mark.parametrize("fields", [{}, {"confidence": 0.7}, {"reward": 0.5}])
def test_good_outcome_is_no_row_and_no_loss(fields: dict[str, Any]) -> None:
    dataset = built(told("get it", output="yes", reference="yes", **fields))
    assert (dataset.train, dataset.heldout, dataset.left_out) == ([], [], {})


def test_failure_without_a_known_good_output_is_left_out_and_counted() -> None:
    dataset = built(told("get it", output="no", outcome="fail"), told("more", outcome="skip"))
    assert dataset.train == []
    assert dataset.left_out == {"no known good output": 2}


def test_answer_that_passed_later_is_the_known_good_output() -> None:
    passed = told("get it", output="yes", outcome="pass", source="user")
    (row,) = built(told("Get  it", output="no", outcome="fail"), passed).train
    assert (row.input, row.output, row.events, row.negatives) == ("Get  it", "yes", (1, 2), ("no",))
    assert row.verified_by == "agreement"


@pytest.mark.parametrize(
    ("fields", "verified_by"),
    [
        ({"source": "user"}, "agreement"),
        ({"source": "shell", "exit_code": 0}, "test"),
        ({"source": "shell", "exit_code": 1}, None),
        ({"source": "agent", "reward": 0.9}, None),
        ({}, None),
    ],
)
def test_pass_by_the_agents_own_word_verifies_nothing(fields: dict[str, Any], verified_by: str | None) -> None:
    dataset = built(told("get it", outcome="fail"), told("get it", **{"output": "yes", **fields}))
    assert [row.verified_by for row in dataset.train] == ([verified_by] if verified_by else [])
    assert dataset.left_out == ({} if verified_by else {"not verified": 1})


def test_reference_told_with_another_feedback_is_a_correction() -> None:
    dataset = built(told("get it", outcome="fail"), told("get it", outcome="fail", reference="use the url"))
    assert [(row.verified_by, row.events) for row in dataset.train] == [("correction", (1, 2))]


@pytest.mark.parametrize("fields", [{"confidence": 0.2}, {"reward": 0.1}, {"outcome": "skip"}, {"output": " "}])
def test_doubtful_answer_is_no_known_good_output(fields: dict[str, Any]) -> None:
    doubted = told("get it", **{"output": "maybe", "source": "user", **fields})
    dataset = built(told("get it", output="no", outcome="fail"), doubted)
    assert dataset.train == []


def test_reference_is_worth_more_than_an_answer_that_passed() -> None:
    dataset = built(
        told("get it", output="no", outcome="fail"),
        told("get it", output="yes", outcome="pass", source="user"),
        told("get it", output="oh", outcome="fail", reference="use the url"),
    )
    assert pairs(dataset.train) == [("get it", "use the url")]
    assert dataset.train[0].events == (1, 3)


def test_two_answers_that_passed_and_differ_tell_nothing() -> None:
    answers = [told("get it", output=output, source="user") for output in ("yes", "another")]
    dataset = built(told("get it", outcome="fail"), *answers)
    assert dataset.train == []
    assert dataset.left_out == {"no known good output": 1}


def test_contradicting_references_are_left_out_and_counted() -> None:
    dataset = built(
        told("get it", outcome="fail", reference="a"),
        told("GET it", outcome="fail", reference="b"),
        told("other", outcome="fail", reference="c"),
    )
    assert pairs(dataset.train) == [("other", "c")]
    assert dataset.left_out == {"contradiction": 2}


def test_near_duplicates_are_merged() -> None:
    dataset = built(
        told("get it", outcome="fail", output="x", reference="Use the URL"),
        told(" GET\tit ", outcome="fail", output="y", reference="use  the url"),
    )
    (row,) = dataset.train
    assert (row.input, row.output, row.events, row.negatives) == ("get it", "Use the URL", (1, 2), ("x", "y"))
    assert dataset.left_out == {"duplicate": 1}


def test_identity_is_left_out_and_counted() -> None:
    dataset = built(told("echo", outcome="fail", reference="Echo"))
    assert (dataset.train, dataset.left_out) == ([], {"input equals output": 1})


def test_negative_never_equals_the_known_good_output() -> None:
    dataset = built(
        told("get it", outcome="fail", output="USE the url", reference="use the url"),
        told("get it", outcome="fail", output="nonsense", reference="use the url"),
        told("get it", outcome="skip", output="unsaid", reference="use the url"),
    )
    assert dataset.train[0].negatives == ("nonsense",)


def test_secrets_are_redacted_everywhere() -> None:
    dataset = built(
        told(
            "log in with password=hunter2",
            outcome="fail",
            output="token=abc123def",
            reference="use api_key=zzz999yyy",
            group="secret=ggg888fff",
        )
    )
    content = dataset.to_jsonl()
    assert content.count(b"[redacted:") == 4
    for secret in (b"hunter2", b"abc123", b"zzz999", b"ggg888"):
        assert secret not in content


# ---- failed embeddings ---------------------------------------------------------------------------------------------


def embedded(seq: int, **fields: Any) -> SignalEmbedded:
    item = EmbeddedItem(**{"seq": Seq(seq), "kind": "feedback", "unit": "scrape", "text": "x", "row": None, **fields})
    return SignalEmbedded(space=NO_DIGEST, items=(item,), vectors=None, dim=0)


@pytest.mark.parametrize("fields", [{"failure": "no vector"}, {"confidence": 0.3}])
def test_signal_that_could_not_be_embedded_well_is_a_row(fields: dict[str, Any]) -> None:
    dataset = built(told("get it", output="yes", reference="yes"), embedded(1, **fields))
    (row,) = dataset.train
    assert (row.type, row.events, row.output) == ("failed_embedding", (1, 2), "yes")
    assert built(told("get it", reference="yes"), embedded(1, confidence=0.9)).train == []


def test_failed_task_that_also_failed_to_embed_stays_a_task() -> None:
    dataset = built(told("get it", outcome="fail", reference="yes"), embedded(1, failure="no vector"))
    assert dataset.sources == {"task": 1}


# ---- code ----------------------------------------------------------------------------------------------------------

BAD = b"import os\n\ndef rule(x):\n    return x - 1\n\ndef other():\n    return 'token=abc123def'\n"
GOOD = BAD.replace(b"x - 1", b"x + 1")
ACCEPTED = MutationAccepted(
    task=Seq(1),
    patch=NO_DIGEST,
    gate=("pytest",),
    log=None,
    sandbox="bwrap",
    plan=NO_DIGEST,
    tree_before=NO_DIGEST,
    tree_after=NO_DIGEST,
)
APPLIED = MutationApplied(task=Seq(1), tree=NO_DIGEST)
ROLLED_BACK = RollbackFinished(started=Seq(1), tree=NO_DIGEST, checkpoint=None)


def change(
    blobs: MemoryBlobs, before: bytes | None, after: bytes | None, path: str = "rules.py", monitored: bool = True
) -> ChangeObserved:
    return ChangeObserved(
        path=path,
        change="modified",
        before=blobs.put(before) if before is not None else None,
        after=blobs.put(after) if after is not None else None,
        tree=NO_DIGEST,
        monitored=monitored,
        size=0,
    )


@pytest.mark.parametrize(("verdict", "verified_by"), [(APPLIED, "test"), (ROLLED_BACK, "correction")])
def test_verified_correction_pairs_the_changed_unit_only(verdict: AnyEvent, verified_by: str) -> None:
    blobs = MemoryBlobs()
    dataset = built(ACCEPTED, verdict, (change(blobs, BAD, GOOD), 2), blobs=blobs)
    assert pairs(dataset.train) == [("def rule(x):\n    return x - 1", "def rule(x):\n    return x + 1")]
    (row,) = dataset.train
    assert (row.type, row.events, row.group, row.verified_by) == ("code_diff", (3,), "rules.py", verified_by)


def test_mutation_without_a_gate_is_left_out() -> None:
    blobs = MemoryBlobs()
    ungated = replace(ACCEPTED, gate=())
    dataset = built(ungated, APPLIED, (change(blobs, BAD, GOOD), 2), (change(blobs, BAD, GOOD), 1), blobs=blobs)
    assert (dataset.train, dataset.left_out) == ([], {"unverified change": 2})


def test_plain_edit_is_left_out_and_counted() -> None:
    blobs = MemoryBlobs()
    dataset = built(told("x"), change(blobs, BAD, GOOD), (change(blobs, BAD, GOOD), 1), blobs=blobs)
    assert (dataset.train, dataset.left_out) == ([], {"unverified change": 2})


def test_change_that_teaches_nothing_is_counted_by_reason() -> None:
    blobs = MemoryBlobs()
    lost = change(MemoryBlobs(), b"def a(): pass", b"def a(): return 1")
    dataset = built(
        ROLLED_BACK,
        (change(blobs, BAD, GOOD, monitored=False), 1),
        (change(blobs, b"a", b"b", path="x.txt"), 1),
        (change(blobs, None, GOOD), 1),
        (change(blobs, b"def broken(:", GOOD), 1),
        (change(blobs, b"\xff", GOOD), 1),
        (change(blobs, GOOD, GOOD + b"# a comment\n"), 1),
        (lost, 1),
        blobs=blobs,
    )
    assert dataset.train == []
    assert dataset.left_out == {
        "restored, but not monitored": 1,
        "no Python": 1,
        "added, deleted or unreadable file": 4,
        "version lost": 2,
    }


def test_mutation_that_was_undone_teaches_only_the_undoing() -> None:
    blobs = MemoryBlobs()
    applied: list[AnyEvent | tuple[AnyEvent, int]] = [ACCEPTED, APPLIED, (change(blobs, GOOD, BAD), 2)]
    dataset = built(*applied, ROLLED_BACK, (change(blobs, BAD, GOOD), 4), blobs=blobs)
    assert pairs(dataset.train) == [("def rule(x):\n    return x - 1", "def rule(x):\n    return x + 1")]
    assert dataset.left_out == {"undone later": 1}


# ---- logs ----------------------------------------------------------------------------------------------------------


def failure(message: str, **fields: Any) -> LogFailure:
    known = {"template": message, "level": "ERROR", "path": "system/a.log", "line": 1, "count": 3}
    return LogFailure(**{**known, "message": message, **fields})


def test_logged_failure_needs_a_known_good_output_of_its_own() -> None:
    logs = [failure("scrape failed"), failure("bad", input="get page", reference="use https")]
    dataset = built(logs=logs)
    assert pairs(dataset.train) == [("get page", "use https")]
    assert (dataset.train[0].type, dataset.train[0].events) == ("log", ())
    assert dataset.left_out == {"no known good output": 1}


def test_log_that_contradicts_feedback_drops_both() -> None:
    dataset = built(told("get it", outcome="fail", reference="a"), logs=[failure("get it", reference="b")])
    assert (dataset.train, dataset.left_out) == ([], {"contradiction": 2})


# ---- the split -----------------------------------------------------------------------------------------------------

HELD = next(f"group {n}" for n in range(100) if held_out(f"group {n}", 0.5))
FREE = next(f"group {n}" for n in range(100) if not held_out(f"group {n}", 0.5))
LEARNED = ("train", "memory")
HALF = Policy(retrain=RetrainPolicy(heldout_share=0.5, validation_share=0.0))
THIRDS = Policy(retrain=RetrainPolicy(heldout_share=0.5, validation_share=0.2))


def test_held_out_pairs_are_passes_too_train_rows_failures_only() -> None:
    dataset = built(
        told("a", outcome="pass", output="x", reference="x", group=HELD),
        told("b", outcome="fail", output="?", reference="y", group=HELD),
        told("c", outcome="pass", output="z", reference="z", group=FREE),
        told("d", outcome="fail", output="?", reference="w", group=FREE),
        policy=HALF,
    )
    assert pairs(dataset.heldout) == [("a", "x"), ("b", "y")]
    assert pairs(dataset.train) == [("d", "w")]
    assert {row.split for row in dataset.heldout} == {"heldout"}
    assert [(row.input, row.split) for row in dataset.memory] == [("c", "memory")]
    assert corpus(dataset) == ["w", "x", "y", "z"]


def test_answer_that_passed_is_not_its_own_reference() -> None:
    dataset = built(told("a", outcome="pass", output="x", group=HELD), policy=HALF)
    assert dataset.heldout == []


@pytest.mark.parametrize("second", ["Same question", "the same question!", "the same questions"])
def test_input_that_would_stand_on_both_sides_stays_where_it_was_told_first(second: str) -> None:
    first = "the same question" if "the" in second else "same question"
    failed, again = (told(text, outcome="fail", reference="x") for text in (first, second))
    dataset = built(replace(failed, group=FREE), replace(again, group=HELD), policy=HALF)
    assert (pairs(dataset.train), dataset.heldout) == ([(first, "x")], [])
    assert dataset.left_out == {"input in both splits": 1}
    dataset = built(replace(failed, group=HELD), replace(again, group=FREE), policy=HALF)
    assert (pairs(dataset.heldout), dataset.train) == ([(first, "x")], [])


def test_capital_letter_does_not_cut_a_group_in_two() -> None:
    words = [f"answer {n}" for n in range(40)]
    events = [
        told(f"{spelt} {n}?", outcome="fail", reference=spelt)
        for n, word in enumerate(words)
        for spelt in (word, word.upper(), word.title())
    ]
    dataset = built(*events, policy=HALF)
    left = {folded(row.output) for row in dataset.train}
    right = {folded(row.output) for row in dataset.heldout}
    assert left
    assert right
    assert not left & right


def test_answer_that_becomes_known_later_does_not_rename_an_older_group() -> None:
    events = [told("a", outcome="fail"), told("b", outcome="fail", reference="C  c")]
    later = told("a", outcome="pass", output="c c", source="user")
    assert [row.group for row in built(*events).train] == ["C  c"]
    assert [(row.input, row.group) for row in built(*events, later).train] == [("a", "C  c"), ("b", "C  c")]


# ---- the whole -----------------------------------------------------------------------------------------------------

texts = st.sampled_from(
    ["a", "A ", "b", "c c", "C  c", "d", "password=hunter2", "where is my new card", "Where is my new cards?", ""]
)
feedbacks = st.builds(
    FeedbackReceived,
    task_type=st.sampled_from(["scrape", "plan"]),
    input=texts,
    output=texts,
    reference=st.none() | texts,
    outcome=st.sampled_from(["pass", "fail", "skip"]),
    confidence=st.none() | st.sampled_from([0.1, 0.9]),
    reward=st.none() | st.sampled_from([0.1, 0.9]),
    group=st.none() | st.sampled_from(["g1", "g2", "g3", "g4"]),
    source=st.sampled_from(["agent", "user"]),
)
failures = st.builds(failure, texts, reference=st.none() | texts)


@given(st.lists(feedbacks, max_size=14), st.lists(failures, max_size=3))
def test_dataset_keeps_its_promises_whatever_is_told(events: list[FeedbackReceived], logs: list[LogFailure]) -> None:
    dataset = built(*events, policy=THIRDS, logs=logs)
    rows = dataset.rows
    said = {
        folded(text.replace("hunter2", "[redacted:password]"))
        for one in events
        for text in (one.output, one.reference or "")
    }
    said |= {folded((one.reference or "").replace("hunter2", "[redacted:password]")) for one in logs}
    assert all(folded(row.output) in said for row in rows), "an output was invented"
    assert all(row.input and row.output and folded(row.input) != folded(row.output) for row in rows)
    sides = {"memory": "train"}
    assert all(
        split_of(row.group, 0.5, 0.2) == sides.get(row.split, row.split)
        or (row.split in LEARNED and row.group.startswith("input:"))  # what began with a taught example is learned
        for row in rows
    )
    near = near_duplicates([row.input for row in rows])
    assert all(sides.get(rows[i].split, rows[i].split) == sides.get(rows[j].split, rows[j].split) for i, j, _ in near)
    assert all(row.verified_by and (row.events or row.type == "log") for row in rows)
    assert len({folded(row.input) for row in rows}) == len(rows)
    assert all(folded(wrong) != folded(row.output) for row in rows for wrong in row.negatives)
    assert b"hunter2" not in dataset.to_jsonl()
    assert dataset.to_jsonl() == built(*events, policy=THIRDS, logs=logs).to_jsonl()
    again = Dataset.parse(dataset.to_jsonl())
    assert (again.rows, again.sources) == (rows, dataset.sources)
    assert sum(dataset.sources.values()) == len(dataset.train)


@given(st.lists(feedbacks, max_size=14))
def test_every_poor_outcome_is_in_a_row_or_counted(events: list[FeedbackReceived]) -> None:
    dataset = built(*events, policy=NONE_HELD_OUT)
    poor = [one for one in events if one.outcome != "pass" or one.reward == 0.1 or one.confidence == 0.1]
    assert not [row for row in dataset.rows if row.split in ("heldout", "validation")]
    assert len(dataset.train) + sum(dataset.left_out.values()) == len(poor)


@given(st.lists(feedbacks, max_size=10), feedbacks)
def test_row_stays_where_it_is_when_the_log_grows(events: list[FeedbackReceived], later: FeedbackReceived) -> None:
    before, after = built(*events, policy=THIRDS), built(*events, later, policy=THIRDS)
    # Until a checkpoint was trained from it, one more question may change what a task type is grouped by.
    assume(all(after.grouping.get(kind, by) == by for kind, by in before.grouping.items()))
    split = {folded(row.input): row.split for row in before.rows}
    for row in after.rows:
        was = split.get(folded(row.input), row.split)
        if folded(row.input) == folded(later.input):
            continue  # what is told of an input anew may contradict what stood, and leave another telling of it
        if "memory" not in (was, row.split) and row.split != was:
            assert row.split == "train", "what was learned never judges"
            assert later.confidence is not None, "what judges stays, until the agent says how sure it is"


def test_file_is_one_json_object_a_line_with_seeds_fields() -> None:
    dataset = built(told("Task failed to scrape", outcome="fail", reference="Rewritten task with URL fix"))
    (line,) = dataset.to_jsonl().splitlines()
    assert line.startswith(b'{"input":"Task failed to scrape","output":"Rewritten task with URL fix","type":"task"')
    assert msgspec.json.decode(line)["events"] == [1]
