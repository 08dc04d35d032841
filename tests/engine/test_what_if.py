"""Another policy over recorded facts: which decisions would have been others, and what rests on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from instar.engine.what_if import Otherwise, WhatIf, parse, what_if
from instar.engine.what_if.overrides import Overrides
from instar.fsm.errors import ConfigError
from instar.fsm.policy import Policy
from instar.fsm.words import Seq
from instar.store.log import EventLog
from tests.engine.agents import code_only, instar
from tests.engine.decided_log import POLICY, Story, decided_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return decided_log(tmp_path_factory.mktemp("true"))


def ask(log: EventLog, *pairs: str) -> WhatIf:
    return what_if(log.reader, parse(pairs))


def found(told: WhatIf, decision: str) -> list[Otherwise]:
    return [one for one in told.otherwise if one.decision == decision]


def seqs(told: WhatIf, decision: str) -> list[int]:
    return [one.seq for one in found(told, decision)]


def test_recorded_policy_decides_as_it_did(log: EventLog) -> None:
    flat: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(POLICY).items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {}
    told = what_if(log.reader, flat)
    assert told.otherwise == []
    assert told.affected == ()
    assert told.standings == {}
    assert told.to_run == {}
    assert told.decisions == {
        "batch": 10,
        "failure": 1,
        "flag": 7,
        "mutation": 2,
        "plan": 8,
        "promotion": 2,
        "retrain": 6,
    }
    assert told.state == log.state


def test_cycle_that_would_not_have_been_flagged_takes_its_retrain_with_it(log: EventLog) -> None:
    told = ask(log, "drift.threshold=0.3")
    (flag,) = found(told, "flag")
    assert flag.seq == 66
    assert flag.was == "flagged: semantic_drift 0.40 against 0.70"
    assert flag.would_be == "not flagged"
    assert flag.facts == "1 units drifted, 0 answers unsure"
    assert flag.facts_at == (60,)
    assert flag.undone == (67, 68, 69, 70)
    assert set(flag.then) == {67, 68, 69, 70}
    assert not flag.to_run
    assert 14 in seqs(told, "trigger")  # still flagged, on less


def test_cycle_that_would_have_been_flagged_needs_a_run(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.outside(story.feedback(1, "pass", confidence=0.8))
    story.start()
    story.settle()
    told = ask(story.log, "drift.threshold=0.9")
    (flag,) = told.otherwise
    assert (flag.seq, flag.was) == (5, "not flagged")
    assert flag.would_be == "flagged: semantic_drift 0.80 against 0.90"
    assert flag.to_run.startswith("a data set would have to be built")
    assert told.to_run == {flag.to_run: 1}
    assert flag.then == ()


def test_promotion_that_the_gate_would_refuse_taints_what_came_of_it(log: EventLog) -> None:
    told = ask(log, "gate.gain_min=0.06")
    (promotion,) = found(told, "promotion")
    assert promotion.seq == 19
    assert promotion.was == "promoted: the whole interval lies above 0"
    assert promotion.would_be == "rejected: the interval does not lie above 0.06"
    assert promotion.facts == "held-out gain +0.1000 [+0.0500, +0.1500] over 20 pairs"
    assert promotion.facts_at == (17,)
    assert {19, 24, 34}.issubset(promotion.then)  # embedded in its space; trained from it
    assert 14 not in promotion.then
    assert told.affected == promotion.then or set(promotion.then) <= set(told.affected)
    # The retrain counts as failed, so that the plan no longer takes it for a success.
    assert all(one.conditional for one in told.otherwise if one.seq in promotion.then and one is not promotion)


def test_candidate_that_would_have_been_promoted_needs_a_run(log: EventLog) -> None:
    (promotion,) = found(ask(log, "gate.gain_min=-0.1"), "promotion")
    assert (promotion.seq, promotion.would_be) == (35, "promoted: the whole interval lies above -0.1")
    assert promotion.to_run == "memory would have to be embedded again in the space of another checkpoint"


def test_retrain_that_would_not_have_been_leaves_the_rest_to_the_next_one(log: EventLog) -> None:
    """40 rows are too few; 60 are enough, since nothing was learned before."""
    told = ask(log, "retrain.rows_min=50")
    (retrain,) = found(told, "retrain")
    assert (retrain.seq, retrain.was) == (16, "trained")
    assert retrain.would_be == "not trained: fewer than 50 rows that are new, or nothing to train"
    assert retrain.facts == "40 rows to learn, the last training had 0"
    assert retrain.undone == (17, 18, 19)
    assert seqs(told, "promotion") == []  # there was nothing to judge


def test_budget_is_counted_as_the_other_policy_would_have_spent_it(log: EventLog) -> None:
    (retrain,) = found(ask(log, "retrain.per_hour_max=1"), "retrain")
    assert (retrain.seq, retrain.would_be) == (33, "not trained: the budget of 1 retrains an hour is used up")
    assert seqs(ask(log, "retrain.per_hour_max=1 retrain.rows_min=50"), "retrain") == [16]


def test_retrain_that_would_have_been_counts_as_learned(tmp_path: Path) -> None:
    story = Story(tmp_path)
    for number in range(2):
        story.outside(story.feedback(number))
        story.start()
        story.embed()
        story.flag()
        story.dataset(3, f"d{number}")
        story.judge()
    told = ask(story.log, "retrain.rows_min=2")
    (retrain,) = found(told, "retrain")  # the second data set holds nothing that is new then
    assert (retrain.was, retrain.would_be) == (
        "not trained: fewer than 4 rows that are new, or nothing to train",
        "trained",
    )
    assert told.to_run == {"a training would have to be run": 1}


def test_failure_budget_says_which_failure_would_have_been_the_last(log: EventLog) -> None:
    (failure,) = found(ask(log, "cycle.failures_max=1"), "failure")
    assert (failure.seq, failure.was, failure.would_be) == (38, "starts another cycle", "given up: starts no cycle")
    assert 39 in failure.then  # the cycle that took it up


def test_smaller_batches_would_have_to_be_run(log: EventLog) -> None:
    told = ask(log, "cycle.signals_max=5")
    assert seqs(told, "batch") == [12, 89]
    assert found(told, "batch")[0].would_be == "5 signals taken up"
    assert told.to_run == {"a cycle of other signals would have to be diffed and embedded": 2}


def test_files_that_would_not_be_monitored_raise_no_flag(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.outside(story.change("heuristics.py", "a", "b"))
    story.start()
    story.embed(similarity=0.9)
    story.settle()
    told = ask(story.log, "monitored=other.py,more.py")
    assert [(one.seq, one.decision, one.was, one.would_be) for one in told.otherwise] == [
        (2, "monitored", "monitored", "not monitored"),
        (5, "flag", "flagged: code_mutation 2.00 against 1.00", "not flagged"),
    ]
    assert told.policy == {"monitored": (POLICY.monitored, ("other.py", "more.py"))}


def test_monitored_files_that_a_restore_wrote_raise_no_flag_either(log: EventLog) -> None:
    told = ask(log, 'monitored=["notes.txt","heuristics.py"]')
    assert seqs(told, "monitored") == [60, 77]  # the changes that the mutation and the rollback made
    assert not seqs(told, "flag")


def test_change_that_would_be_new_again_is_named(tmp_path: Path) -> None:
    story = Story(tmp_path)
    first, second = story.change("a.py", "1", "2"), story.change("b.py", "1", "2")
    story.outside(first, second)
    again = story.change("a.py", "1", "2")
    assert again.seen
    story.outside(again)
    told = ask(story.log, "cycle.judged_max=1")
    (seen,) = told.otherwise
    assert (seen.seq, seen.was, seen.would_be) == (4, "seen before, not taken up", "new, taken up")
    assert seen.to_run == "a change would have to be diffed and embedded"


def test_mutation_budget_and_protection(log: EventLog) -> None:
    refused = found(ask(log, "mutation.per_hour_max=0"), "mutation")
    assert [(one.seq, one.was) for one in refused] == [(58, "accepted")]
    assert refused[0].would_be == "refused: the budget of 0 mutations an hour is used up"
    assert {58, 59, 60}.issubset(refused[0].then)
    tried = ask(log, "mutation.per_hour_max=5")
    assert [(one.seq, one.was, one.would_be) for one in tried.otherwise] == [(72, "refused: no budget", "tried")]
    assert tried.to_run == {"a patch would have to be tried behind its gate": 1}
    (protected,) = found(ask(log, "mutation.protected=notes.txt"), "mutation")
    assert (protected.seq, protected.facts) == (58, "touches notes.txt")
    assert protected.would_be == "refused: the patch touches what a mutation may not: notes.txt"


def test_mutation_that_would_no_longer_be_protected_is_to_be_tried(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.outside(story.mutation())
    story.start()
    story.reject("the patch touches what a mutation may not: tests/a.py")
    story.judge()
    (tried,) = ask(story.log, "mutation.protected=pyproject.toml").otherwise
    assert (tried.was, tried.would_be) == ("refused: protected", "tried")
    assert ask(story.log, "mutation.protected=tests/").otherwise == []


def test_standings_are_worked_out_again(log: EventLog) -> None:
    told = ask(log, "reward.smoothing=1.0")
    assert set(told.standings) <= set(log.state.standings)
    recorded, other = told.standings["lookup"]
    assert recorded == log.state.standings["lookup"].mean
    assert other == pytest.approx(0.7)  # the last outcome alone: a pass of confidence 0.4
    assert seqs(told, "plan")


def test_split_that_would_have_to_be_made_again_is_counted(log: EventLog) -> None:
    told = ask(log, "retrain.heldout_share=0.5")
    assert told.otherwise == []
    assert told.to_run == {"a data set would have to be split again": 6}


def test_what_if_up_to_an_event(log: EventLog) -> None:
    told = what_if(log.reader, {"gate.gain_min": 0.06}, to=Seq(18))
    assert (told.events, told.otherwise) == (18, [])


def test_other_policy_is_laid_over_each_recorded_one() -> None:
    overrides = Overrides({"drift.threshold": "0.6", "cycle.signals_max": 7})
    recorded = msgspec.structs.replace(Policy(), monitored=("x",))
    other = overrides.on(recorded)
    assert (other.drift.threshold, other.cycle.signals_max, other.monitored) == (0.6, 7, ("x",))
    assert other.reward == recorded.reward


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (["drift=0.6"], "no 'drift'"),
        (["nonsense=1"], "Known keys: monitored, drift.threshold"),
        (["drift.threshold=much"], "cannot be"),
        (["drift.threshold=2"], "must lie in 0 … 1"),
        (["gate.gain_min=nan"], "gain_min is nan; it must lie in"),
        (["cycle.signals_max=1.5"], "cannot be"),
        (["monitored=[1]"], "cannot be"),
        (["monitored=[nonsense"], "is no list"),
        (["drift.threshold"], "is no KEY=VALUE"),
        (["drift.threshold=0.1 drift.threshold=0.2"], "given twice"),
        (["'"], "cannot be read"),
        ([], "KEY=VALUE"),
    ],
)
def test_policy_that_cannot_be_is_refused(log: EventLog, pairs: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("[", r"\[")):
        what_if(log.reader, parse(pairs))


def test_command_prints_a_table_and_a_summary(tmp_path: Path) -> None:
    from instar.engine.feedback_rows import check_feedback
    from instar.engine.worker import Worker

    runtime = code_only(tmp_path / "agent")
    runtime.log.append(check_feedback({"task_type": "find", "input": "x", "output": "y", "confidence": 0.65}))
    Worker(runtime).run_once()
    runtime.close()
    root, before = runtime.workspace.root, runtime.workspace.log.read_bytes()
    told = instar("replay", "--what-if", "drift.threshold=0.6", cwd=root).stdout.decode()
    assert "not flagged" in told
    assert "flagged: semantic_drift 0.65 against 0.70" in told
    assert "drift.threshold: 0.6 in place of 0.7" in told
    assert "1 of 3 decisions would have been others" in told
    done = instar("replay", "--what-if", "drift.threshold=0.6", "--what-if", "gate.gain_min=0.1", "--json", cwd=root)
    content = msgspec.json.decode(done.stdout)["data"]
    assert [one["decision"] for one in content["otherwise"]] == ["flag"]
    assert content["policy"] == {"drift.threshold": [0.7, 0.6], "gate.gain_min": [0.0, 0.1]}
    refused = instar("replay", "--what-if", "nonsense=1", cwd=root)
    assert refused.returncode == 2
    assert b"Known keys" in refused.stderr
    assert instar("replay", "--what-if", "drift.threshold=1", "--reexecute", "all", cwd=root).returncode == 2
    assert runtime.workspace.log.read_bytes() == before
