"""How a way back and what came of something are told in text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.engine.provenance import report
from instar.engine.provenance.names import Kind
from instar.engine.provenance.taint import taint
from instar.engine.provenance.tree import render
from instar.engine.provenance.why import trace, why
from instar.fsm import events as e
from instar.fsm.policy import Policy
from instar.fsm.words import Seq, digest_of
from instar.store.log import Pending
from instar.store.reader import LogReader
from tests.engine.provenance_log import BASE, FIRST, TREE_OLD, Story, full_log, learned, one_cycle


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogReader]:
    story = full_log(tmp_path_factory.mktemp("story"))
    yield story.log.reader
    story.log.close()


def pinned(text: str) -> list[str]:
    """A long line of a pinned text goes on in the next one after a backslash."""
    return text.replace("\\\n", "").strip("\n").split("\n")


def test_tree_is_drawn_as_pinned(tmp_path: Path) -> None:
    told = learned(tmp_path)
    assert render(trace(told.log.reader, f"checkpoint:{FIRST[:6]}")) == pinned(TREE)
    told.log.close()


def test_taint_is_told_as_pinned(tmp_path: Path) -> None:
    told = learned(tmp_path)
    dataset = told.log.reader.get(11).event.dataset  # type: ignore[union-attr]
    assert report.render(taint(told.log.reader, 3)) == pinned(TOLD.replace("DATASET DIG.", dataset[:12]))
    told.log.close()


def test_hundreds_of_signals_are_folded_and_all_of_them_shown_on_demand(tmp_path: Path) -> None:
    told = one_cycle(tmp_path, "f" * 250)
    way = trace(told.log.reader, "latest")
    folded, everything = render(way), render(way, everything=True)
    assert len(folded) < 20
    assert any("… 247 more FeedbackReceived, --all shows them" in line for line in folded)
    for seq in range(2, 252):
        assert sum(f" · {seq} FeedbackReceived" in line for line in everything) == 1
    assert len(why(told.log.reader, "latest").nodes) == told.log.reader.head()
    told.log.close()


def test_depth_cuts_the_tree_and_says_how_much_is_below(reader: LogReader) -> None:
    lines = render(trace(reader, 12), depth=1)
    assert lines[1:4] == [
        "├─ dataset · 11 DatasetGenerated  2 rows to learn, 1 held out, 0 left out  (under policy 1)  … 5 below, "
        "--depth 2 shows them",
        f"└─ weights, base · 1 WorkspaceInitialized  tree {TREE_OLD[:12]}, checkpoint {BASE[:12]}",
        "",
    ]


def test_each_event_is_drawn_once_and_elsewhere_pointed_to(reader: LogReader) -> None:
    way = trace(reader, 32)
    lines = render(way, everything=True)
    for seq, kind in way.back.ranks.items():
        drawn = [line for line in lines if f" · {seq} {way.graph.type_of(seq)}" in line]
        assert len(drawn) == (kind > Kind.BACKGROUND), (seq, drawn)


def test_way_of_a_thousand_levels_is_drawn(tmp_path: Path) -> None:
    told = Story(tmp_path)
    told.add(
        e.WorkspaceInitialized(workspace="w", engine="0", tree=TREE_OLD, checkpoint=None, model="", policy=Policy())
    )
    for _ in range(600):
        head = told.log.state.head
        told.log.transact(
            lambda state: [
                Pending(
                    e.RollbackStarted(
                        target=state.head, plan=digest_of(b"p"), tree=TREE_OLD, checkpoint=None, memory=(), reason="r"
                    ),
                    state.head,
                ),
                Pending(
                    e.RollbackFinished(started=Seq(state.head + 1), tree=TREE_OLD, checkpoint=None), Seq(state.head + 1)
                ),
            ]
        )
        assert told.log.state.head == head + 2
    lines = render(trace(told.log.reader, "latest"))
    assert sum("finishes · " in line for line in lines) == 600
    told.log.close()


TREE = """
checkpoint a7937b64b8ca, promoted by event 14
12 CheckpointTrained  a7937b64b8ca: MRR 0.500 → 0.500, log score +0.100 [+0.100, +0.100], 3 s
├─ dataset · 11 DatasetGenerated  2 rows to learn, 1 held out, 0 left out  (under policy 1)
│  ├─ asked by · 10 RetrainFlagged  code_mutation 1.00 (threshold 1.00); semantic_drift 0.40 (threshold 0.70); \\
feedback 0.00 (thres…  (under policy 1)
│  │  ├─ trigger · ↓ see 2 to 5, 3 FeedbackReceived  [feedback 0.00 (threshold 0.50): 3 failures; rewards low: \\
none]
│  │  ├─ trigger · 6 ChangeObserved  modified fsm.py (monitored)  [code_mutation 1.00 (threshold 1.00): changed \\
in monitored files: fsm.py::f; semantic_drift 0.40 (threshold 0.70): 1 units drifted, 0 answers unsure]  (under \\
policy 1, version before 1)
│  │  └─ flagged on · ↓ see 9 SignalEmbedded
│  ├─ row teaches · 2 FeedbackReceived  fail at 0.90 find: request 2  [row 1]
│  ├─ row teaches · 3 FeedbackReceived  fail at 0.10 find: request 3  [row 2]
│  ├─ row judges · 5 FeedbackReceived  fail at 0.90 find: request 5  [row 3]
│  │  └─ outcome of · 4 TaskQueued  shell from agent
│  └─ row failed in · 9 SignalEmbedded  4 rows in space cae662172fd4, lowest similarity 0.400  [row 2]  (under \\
policy 1)
│     ├─ embeds · 8 DiffComputed  4 differences, 4 change meaning
│     │  └─ in cycle · 7 CycleStarted  4 × signals, events 2–6  (under policy 1)
│     └─ space, active since · ↓ see 1 WorkspaceInitialized
└─ weights, base · 1 WorkspaceInitialized  tree 73c9c87b242f, checkpoint cae662172fd4

rests on 11 events, 5 of them from outside, from 2026-01-01T00:00:01Z to 2026-01-01T00:00:11Z; it is made of 4 \\
of them, the others led to it
"""
TOLD = """
3 FeedbackReceived  fail at 0.10 find: request 3

active now:
  the active checkpoint a7937b64b8ca rests on it: it learned from it
  the plan in force (event 15) rests on it
  every vector that a search compares now was made by that checkpoint
  1 live row of memory stands for it

data set    DATASET DIG. (event 11): row 2 to learn from
checkpoint  a7937b64b8ca (event 12, promoted, active): learned from it
vectors     4 in the space of a7937b64b8ca, by events 13
memory      memory:9.1

7 events made of it
       8 DiffComputed       in cycle 7; compares 3              4 differences, 4 change meaning
       9 SignalEmbedded     embeds 8; row 3                     4 rows in space cae662172fd4, lowest similarity \\
0.400
      11 DatasetGenerated   asked by 10; row teaches 3          2 rows to learn, 1 held out, 0 left out
      12 CheckpointTrained  dataset 11                          a7937b64b8ca: MRR 0.500 → 0.500, log score +0.100 \\
[+0.100, +0.100], 3 s
      13 MemoryReembedded   space 12; rows 9                    4 rows in space a7937b64b8ca
      14 OutcomeRewarded    judges 12; scores 3, 12             checkpoint promoted: the checkpoint were \\
promoted
      15 PlanChosen         plans on 14                         find: retrain, retrain: retrain
3 events that came about through it
       7 CycleStarted       takes up 3                          4 × signals, events 2–6
      10 RetrainFlagged     trigger 3                           code_mutation 1.00 (threshold 1.00); \\
semantic_drift 0.40 (threshold 0.70); feedback 0.00 …
      16 SnapshotTaken      holds checkpoint 12; active since 14  good: tree ec8439e8a765, checkpoint \\
a7937b64b8ca
"""
