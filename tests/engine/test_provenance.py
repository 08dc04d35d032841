"""Every edge of every event type, the ways back and forward over them, and how both are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.engine.provenance import report
from instar.engine.provenance.graph import Graph
from instar.engine.provenance.links import _HANDLERS
from instar.engine.provenance.names import FRAMED, NAMES, Kind
from instar.engine.provenance.subject import find_subject
from instar.engine.provenance.taint import taint
from instar.engine.provenance.tree import render
from instar.engine.provenance.walk import back, forward, taken
from instar.engine.provenance.why import trace, why
from instar.engine.restoring.rollback import roll_back
from instar.engine.restoring.undo import undo
from instar.fsm import events as e
from instar.fsm.codec import TYPES
from instar.fsm.errors import ConfigError
from instar.fsm.policy import CyclePolicy, Policy
from instar.fsm.words import Seq, digest_of
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT, code_only
from tests.engine.provenance_edges import EDGES
from tests.engine.provenance_log import (
    BASE,
    FIRST,
    SECOND,
    TREE_OLD,
    Story,
    diffed,
    embedded,
    feedback,
    full_log,
    item,
    learned,
    one_cycle,
    row,
)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    told = full_log(tmp_path_factory.mktemp("story"))
    yield told
    told.log.close()


@pytest.fixture(scope="module")
def reader(story: Story) -> LogReader:
    return story.log.reader


@pytest.fixture(scope="module")
def graph(reader: LogReader) -> Graph:
    return Graph(reader, reader.head())


def test_every_event_of_the_story_has_the_edges_that_it_rests_on(graph: Graph) -> None:
    found: dict[int, dict[str, set[int]]] = {}
    for seq in range(1, graph.last + 1):
        names = found.setdefault(seq, {})
        for parent, name in graph.edges(Seq(seq)):
            assert parent not in names.setdefault(name, set()), f"{seq} tells {name} {parent} twice"
            names[name].add(parent)
    assert found == EDGES
    assert not graph.gaps


def test_story_has_every_event_type_and_every_edge(reader: LogReader) -> None:
    # What had a model from its beginning adopts none (see test_model_adopted.py); how far a training came is no edge
    # but to what asked for it (see test_learning.py).
    assert {type(record.event).__name__ for record in reader.read()} == set(TYPES) - {
        "ModelAdopted",
        "TrainingProgressed",
    }
    assert set(TYPES.values()) == set(_HANDLERS)
    told = {name for edges in EDGES.values() for name in edges}
    # Those who give a cause that the engine gives none; the one edge that only a row of memory has; those of an undo;
    # those of weights that were brought.
    others = {"answers", "difference in", "takes back", "after probation", "judged on", "brought by"}
    assert set(NAMES) - told == others


def test_undo_rests_on_the_rollback_that_it_takes_back(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    (runtime.workspace.root / "notes.txt").write_text("other\n")
    rolled = roll_back(runtime, 1)
    taken_back = undo(runtime)
    graph = Graph(runtime.reader, runtime.reader.head())
    assert (rolled.started, "takes back") in list(graph.edges(taken_back.started))


def test_audit_page_names_every_edge_by_its_kind() -> None:
    page = (PROJECT / "docs" / "audit.md").read_text(encoding="utf-8")
    table = page.split("| event | rests on")[1].split("\n\n")[0]
    told: dict[str, set[str]] = {}
    for line in table.splitlines()[2:]:
        for part in line.split("|")[2].split(";"):
            names, _, kind = part.rpartition(":")
            for name in re.findall("`([^`]+)`", names):
                told.setdefault(name, set()).add(kind.strip())
    assert told == {name: {tie.kind.name.lower()} for name, tie in NAMES.items()}


def test_edges_lead_back(graph: Graph) -> None:
    assert all(parent < seq for seq in range(1, graph.last + 1) for parent, _ in graph.edges(Seq(seq)))


# ---- the ways ------------------------------------------------------------------------------------------------------


def test_taint_and_why_are_inverse_over_the_story(graph: Graph) -> None:
    seqs = [Seq(seq) for seq in range(1, graph.last + 1)]
    ways_back = {seq: back(graph, seq, graph.edges(seq)).ranks for seq in seqs}
    for seq in seqs:
        came = forward(graph, {seq}, lambda _, name: NAMES[name].kind).ranks
        assert came == {later: ranks[seq] for later, ranks in ways_back.items() if seq in ranks}


class Drawn:
    """A graph of drawn events and edges."""

    def __init__(self, types: list[str], edges: dict[int, list[tuple[int, str]]]) -> None:
        self._types, self._edges = types, edges

    def type_of(self, seq: int) -> str:
        return self._types[seq - 1]

    def edges(self, seq: int) -> list[tuple[int, str]]:
        return self._edges.get(seq, [])

    def linked_after(self, seq: int) -> list[int]:
        return [child for child in sorted(self._edges) if child > seq]


@st.composite
def drawn_graphs(draw: st.DrawFn) -> Drawn:
    count = draw(st.integers(2, 9))
    kinds = st.sampled_from([*sorted(FRAMED), "FeedbackReceived", "CheckpointTrained"])
    types = draw(st.lists(kinds, min_size=count, max_size=count))
    edges: dict[int, list[tuple[int, str]]] = {}
    for child in range(2, count + 1):
        each = st.tuples(st.integers(1, child - 1), st.sampled_from(sorted(NAMES)))
        edges[child] = draw(st.lists(each, max_size=4, unique=True))
    return Drawn(types, edges)


def ways(graph: Drawn, seq: int, *, whole: bool) -> Iterator[tuple[int, int]]:
    """Every way back from an event, or from its frame alone, one by one: where it ends, and its weakest edge."""
    for parent, name in graph.edges(seq):
        tie = NAMES[name]
        if tie.member and not whole and graph.type_of(seq) in FRAMED:
            continue
        yield parent, tie.kind
        if tie.kind == Kind.BACKGROUND:
            continue
        on_whole = tie.to == "all" or (tie.to == "same" and whole) or graph.type_of(parent) not in FRAMED
        for end, kind in ways(graph, parent, whole=on_whole):
            yield end, min(kind, tie.kind)


@given(drawn_graphs())
def test_both_ways_find_what_single_steps_find(graph: Drawn) -> None:
    count = len(graph._types)
    told: dict[int, dict[int, int]] = {}
    for seq in range(1, count + 1):
        told[seq] = {}
        for end, kind in ways(graph, seq, whole=True):
            told[seq][end] = max(kind, told[seq].get(end, kind))
        found = back(graph, Seq(seq), graph.edges(seq))  # type: ignore[arg-type]
        assert found.ranks == told[seq]
        core = {end for end, kind in told[seq].items() if kind > Kind.BACKGROUND}
        assert set(found.homes) == core
    for seq in range(1, count + 1):
        came = forward(graph, {Seq(seq)}, lambda _, name: NAMES[name].kind).ranks  # type: ignore[arg-type]
        assert came == {later: ends[seq] for later, ends in told.items() if seq in ends}


def test_public_answers_are_inverse_too(reader: LogReader) -> None:
    rests = {seq: {node.seq for node in why(reader, seq).nodes} - {seq} for seq in range(1, reader.head() + 1)}
    for seq in (1, 2, 6, 9, 12, 17, 26, 43, 49):
        came = {node.seq for node in taint(reader, seq).nodes} - {seq}
        assert came == {later for later, parents in rests.items() if seq in parents}


def test_edges_of_an_answer_join_its_nodes(reader: LogReader) -> None:
    for answer in (why(reader, 32), taint(reader, 6)):
        seqs = {node.seq for node in answer.nodes}
        assert answer.edges
        assert all(edge.child in seqs and edge.parent in seqs for edge in answer.edges)
        ends = {edge.parent for edge in answer.edges} | {edge.child for edge in answer.edges}
        assert ends == seqs


def test_pass_beside_a_failure_did_not_lead_to_the_retrain(tmp_path: Path) -> None:
    told = one_cycle(tmp_path, "pfp")
    flagged = told.log.reader.head()
    rests = {node.seq for node in why(told.log.reader, flagged).nodes}
    assert rests == {1, 3, *range(5, flagged + 1)}
    assert flagged in {node.seq for node in taint(told.log.reader, 3).nodes}
    assert [node.type for node in taint(told.log.reader, 2).nodes[1:]] == [
        "CycleStarted",
        "DiffComputed",
        "SignalEmbedded",
    ]
    told.log.close()


def test_flag_for_low_reward_names_where_the_standing_was_left(tmp_path: Path) -> None:
    told = one_cycle(tmp_path, "f")
    told.dataset()
    scored = told.rewarded("none", rewards=(e.Reward(Seq(2), "find", 0.1, "fail"),))
    told.planned("find")
    signal = told.add(feedback(9))
    told.start()
    told.add(e.DiffComputed(items=(diffed(signal),)))
    told.add(embedded(item(signal, row=0, outcome="fail", task_type="find")))
    flagged = told.flag()
    assert (scored, "standing") in set(Graph(told.log.reader, flagged).edges(flagged))
    told.log.close()


def test_cycle_takes_up_no_more_than_its_policy_says(tmp_path: Path) -> None:
    told = Story(tmp_path)
    policy = Policy(cycle=CyclePolicy(signals_max=2))
    told.add(
        e.WorkspaceInitialized(workspace="w", engine="0", tree=TREE_OLD, checkpoint=BASE, model="m", policy=policy)
    )
    for event in (
        feedback(2, outcome="pass"),
        e.InputSkipped(source="feedback", subject="s", reason="r"),
        e.TaskQueued(task="shell", source="agent"),
        feedback(5, outcome="pass"),
        feedback(6, outcome="pass"),
    ):
        told.add(event)
    told.add(e.CycleStarted(entry="signals", span=e.Span(Seq(2), Seq(5)), count=2))
    told.add(e.DiffComputed(items=()))
    told.add(e.SignalEmbedded(space=BASE, items=(), vectors=None, dim=0))
    told.start()
    graph = Graph(told.log.reader, told.log.reader.head())
    assert [parent for parent, name in graph.edges(Seq(7)) if name == "takes up"] == [2, 5]
    assert [parent for parent, name in graph.edges(Seq(10)) if name == "takes up"] == [6]
    assert not graph.gaps
    told.log.close()


def test_checkpoint_is_active_since_the_rollback_that_put_it_back(tmp_path: Path) -> None:
    told = learned(tmp_path)
    told.add(
        e.RollbackStarted(
            target=Seq(6), plan=digest_of(b"p"), tree=TREE_OLD, checkpoint=BASE, memory=(), reason="asked for"
        ),
        cause=16,
    )
    told.add(e.RollbackFinished(started=Seq(17), tree=TREE_OLD, checkpoint=BASE))
    told.add(feedback(19, outcome="pass"))
    told.start()
    told.add(e.DiffComputed(items=()))
    seq = told.add(embedded(item(19, "unit", 0, unit="fsm.py::f", similarity=0.9)))
    edges = set(Graph(told.log.reader, seq).edges(seq))
    assert {(1, "space"), (17, "active since")} <= edges
    # The vector of event 9 was rolled back: what the shift was measured from is not in memory.
    assert "drift against" not in {name for _, name in edges}
    told.log.close()


def test_taken_gives_the_frame_alone(graph: Graph) -> None:
    assert {name for _, name in taken(graph, Seq(9), frame_only=True)} == {
        "embeds",
        "space",
        "active since",
        "under policy",
    }
    assert set(taken(graph, Seq(10), frame_only=True)) == set(graph.edges(Seq(10)))


# ---- subjects ------------------------------------------------------------------------------------------------------


def datasets(reader: LogReader) -> list[str]:
    events = (record.event for record in reader.read(types=[e.DatasetGenerated]))
    return [event.dataset for event in events if isinstance(event, e.DatasetGenerated)]


def test_references_beyond_events_are_found(reader: LogReader) -> None:
    assert find_subject(reader, f"checkpoint:{SECOND[:8]}").seq == 32
    assert find_subject(reader, f"checkpoint:{SECOND[:8]}").about.endswith("rejected by event 33")
    assert find_subject(reader, f"checkpoint:{BASE}").seq == 1
    for seq in (43, 47, 48, 49, 50, 51):
        subject = find_subject(reader, f"mutation:{seq}")
        assert (subject.seq, subject.starts) == (49, (43,))
    assert find_subject(reader, "mutation:41").seq == 40
    assert find_subject(reader, "memory:20.1").item == 1
    first, second, _ = datasets(reader)
    assert find_subject(reader, f"dataset:{first[:10]}").seq == 11
    assert find_subject(reader, f"dataset:{second[:10]}#3").row == 3
    assert find_subject(reader, "latest~3").seq == reader.head() - 3


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nonsense", "memory:SEQ.ITEM"),
        ("9999", "events 1 to 72"),
        ("checkpoint:", "Known: "),
        ("checkpoint:zz", f"Known: {BASE[:12]}, {FIRST[:12]}, {SECOND[:12]}"),
        ("mutation:3", "by task: 35, 43"),
        ("mutation:x", "by task: 35, 43"),
        ("memory:9", "memory:SEQ.ITEM"),
        ("memory:8.0", "lie in: 29, 38, 46, 55, 69 (the last 5 of 7)"),
        ("memory:9.4", "items 0 to 3"),
        ("dataset:zz", "Known: "),
        ("dataset:{}#9", "rows 1 to 3"),
        ("dataset:{}#x", "rows 1 to 3"),
        ("dataset:{}#0", "rows 1 to 3"),
    ],
)
def test_reference_to_nothing_says_what_is_known(reader: LogReader, reference: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        find_subject(reader, reference.format(datasets(reader)[0]))
    assert said in str(refused.value)


def test_ambiguous_prefix_lists_what_it_could_mean(tmp_path: Path) -> None:
    told = learned(tmp_path)
    told.add(feedback(17))
    told.start()
    told.add(e.DiffComputed(items=()))
    told.add(embedded(item(17, row=0, outcome="fail", task_type="find"), space=FIRST))
    told.flag()
    dataset = told.dataset(*(row(n, 2) for n in range(40)))
    alike = digest_of(b"x")[:0] + FIRST[:6] + SECOND[6:]
    told.trained(type(FIRST)(alike), FIRST, type(FIRST)(dataset), gain=-0.1)
    with pytest.raises(ConfigError, match=f"2 checkpoints begin with .*: {FIRST[:12]}, {alike[:12]}"):
        find_subject(told.log.reader, f"checkpoint:{FIRST[:6]}")
    told.log.close()


def test_row_of_memory_rests_on_its_own_signal_alone(reader: LogReader) -> None:
    found = why(reader, "memory:20.1")
    own = {(edge.parent, edge.name) for edge in found.edges if edge.child == 20}
    assert own == {
        (17, "row"),
        (12, "space"),
        (14, "active since"),
        (9, "drift against"),
        (6, "shift from"),
        (19, "difference in"),
    }
    assert 22 in {node.seq for node in taint(reader, "memory:29.0").nodes} | {22}
    assert {node.seq for node in taint(reader, "memory:20.1").nodes} >= {21, 22}
    assert [node.seq for node in taint(reader, "memory:20.0").nodes] == [20]


def test_row_of_a_difference_rests_on_the_version_before_too(reader: LogReader) -> None:
    own = {(edge.parent, edge.name) for edge in why(reader, "memory:55.0").edges if edge.child == 55}
    assert {(50, "row"), (25, "against")} <= own
    assert (55, (0,)) in {(rows.seq, rows.items) for rows in taint(reader, 25).memory}
    # The row of a unit holds its present source alone.
    assert 20 not in {rows.seq for rows in taint(reader, 6).memory}


def test_row_of_a_data_set_rests_on_its_own_events_alone(reader: LogReader) -> None:
    second = datasets(reader)[1]
    own = {(edge.parent, edge.name) for edge in why(reader, f"dataset:{second}#3").edges if edge.child == 31}
    assert own == {(25, "row teaches"), (17, "row corrects")}
    taught = taint(reader, f"dataset:{second}#3")
    judged = taint(reader, f"dataset:{second}#4")
    assert [(one.seq, one.kind) for one in taught.checkpoints] == [(32, "content")]
    assert [(one.seq, one.kind) for one in judged.checkpoints] == [(32, "occasion")]


# ---- what came of it -----------------------------------------------------------------------------------------------


def test_taint_of_a_feedback_names_rows_checkpoints_vectors_and_what_is_active(reader: LogReader) -> None:
    found = taint(reader, 2)
    first, second, _ = datasets(reader)
    assert [(rows.dataset, rows.teaches, rows.judges) for rows in found.datasets] == [
        (first, (1,), ()),
        (second, (1,), ()),
    ]
    assert [(one.checkpoint, one.kind, one.verdict, one.active) for one in found.checkpoints] == [
        (FIRST, "content", "promoted", True),
        (SECOND, "content", "rejected", False),
    ]
    # The verdicts on what learned from it are rows of memory too; event 20 was rolled back.
    assert [(rows.seq, rows.items, rows.live) for rows in found.memory] == [
        (9, (0,), True),
        (20, (0,), False),
        (38, (0,), True),
    ]
    assert [(space.checkpoint, space.events) for space in found.spaces] == [(FIRST, [13, 20, 29, 38, 46, 55, 69])]
    assert found.active.checkpoint_rests == "content"
    assert found.active.plan_rests == "occasion"  # it follows an outcome that was embedded in the space of FIRST
    assert found.files == []


def test_held_out_feedback_judged_and_taught_nothing(reader: LogReader) -> None:
    found = taint(reader, 5)
    assert [(rows.teaches, rows.judges) for rows in found.datasets] == [((), (3,)), ((), (4,))]
    assert {one.kind for one in found.checkpoints} == {"occasion"}
    assert found.active.checkpoint_rests == "occasion"


def test_bad_edit_reaches_the_correction_that_was_learned_from_it(reader: LogReader) -> None:
    found = taint(reader, 17)
    assert [(rows.seq, rows.teaches) for rows in found.datasets] == [(31, (3,))]
    assert [(one.seq, one.kind) for one in found.checkpoints] == [(32, "content")]
    assert found.active.checkpoint_rests == "no"
    assert [(file.path, file.changes, file.stands) for file in found.files] == [("fsm.py", (17,), False)]


def test_mutation_names_the_files_that_it_wrote(reader: LogReader) -> None:
    found = taint(reader, "mutation:48")
    assert [(file.path, file.changes, file.stands) for file in found.files] == [("fsm.py", (50,), True)]
    assert found.active.files == ("fsm.py",)
    assert found.active.checkpoint_rests == "no"


def test_checkpoint_is_told_to_be_the_active_one(reader: LogReader) -> None:
    assert taint(reader, f"checkpoint:{FIRST}").active.checkpoint_rests == "subject"
    base = taint(reader, f"checkpoint:{BASE}")
    assert base.active.checkpoint_rests == "content"
    # The first event holds the first policy and the first tree too; its checkpoint is neither.
    assert 6 not in {node.seq for node in base.nodes}
    assert 6 in {node.seq for node in taint(reader, 1).nodes}


def test_policy_is_in_the_background_of_what_was_decided_under_it(reader: LogReader) -> None:
    found = taint(reader, 26)
    kinds = {node.seq: node.kind for node in found.nodes}
    assert kinds.pop(Seq(26)) == "subject"
    assert set(kinds.values()) == {"background"}
    assert {27, 30, 31, 33, 34, 40, 48} <= set(kinds)
    assert found.active.plan_rests == "background"


# ---- what is gone --------------------------------------------------------------------------------------------------


def test_erased_payload_is_named_and_followed(reader: LogReader) -> None:
    erased = {node.seq: node.erased for node in why(reader, 12).nodes}
    assert [seq for seq, gone in erased.items() if gone] == [2]
    assert any("2 FeedbackReceived" in line and "(erased)" in line for line in render(trace(reader, 12)))
    assert 64 in {node.seq for node in taint(reader, 2).nodes}
    assert {node.seq for node in why(reader, 64).nodes} == {2, 64}


def test_data_set_that_is_gone_is_a_gap_and_no_error(tmp_path: Path) -> None:
    told = learned(tmp_path)
    dataset = datasets(told.log.reader)[0]
    held = told.log.reader.get(11)
    from instar.fsm.codec import encode_event
    from instar.fsm.erasure import remains_of

    erasure = e.PayloadErased(
        target=Seq(11),
        payload_hash=held.payload_hash,
        remains=encode_event(remains_of(held.event)).decode(),
        reason="asked for",
        blobs=(type(FIRST)(dataset),),
    )
    told.log.erase([erasure])
    reader = told.log.reader
    found = why(reader, 12)
    assert found.gaps == [
        f"the rows of data set {dataset[:12]} (event 11) cannot be read: they were erased by event 17"
    ]
    assert 11 in {node.seq for node in found.nodes}
    came = taint(reader, 2)
    assert came.unread == (11,)
    told_lines = "\n".join(report.render(came))
    assert "what it learned cannot be read" in told_lines
    assert "learned nothing" not in told_lines
    with pytest.raises(ConfigError, match="cannot be read"):
        find_subject(reader, f"dataset:{dataset[:8]}#1")
    told.log.close()


def test_data_sets_that_were_collected_cost_one_look_for_erasures_and_not_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = one_cycle(tmp_path, "f")
    for number in range(4):
        if number:
            seq = story.add(feedback(number))
            story.start()
            story.add(e.DiffComputed(items=(diffed(seq),)))
            story.add(embedded(item(seq, row=0, outcome="fail", task_type="find")))
            story.flag()
        gone = digest_of(b"collected %d" % number)
        story.add(e.DatasetGenerated(dataset=gone, train=0, heldout=0, sources={}, left_out={}))
        story.rewarded("none")
        story.planned("find")
    passes: list[object] = []
    read = LogReader.read

    def counted(self: LogReader, *args: object, **named: object) -> Iterator[object]:
        passes.append(named.get("types"))
        return read(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(LogReader, "read", counted)
    found = taint(story.log.reader, 2)
    assert len(found.unread) == len(found.gaps) == 4
    assert passes.count([e.PayloadErased]) == 1
    story.log.close()
