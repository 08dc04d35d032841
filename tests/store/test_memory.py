from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from instar.fsm.errors import ConfigError, LogCorrupt
from instar.fsm.events import (
    AnyEvent,
    CycleStarted,
    DiffComputed,
    DiffItem,
    EmbeddedItem,
    MemoryReembedded,
    SignalEmbedded,
    Span,
)
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq, State, digest_of
from instar.store.failpoints import arm
from instar.store.memory import MemoryRow, VectorMemory
from instar.store.vector_index import EXACT_ROWS_MAX, VectorIndex
from tests.store.logs import feedback, fresh_log
from tests.store.memory_blobs import MemoryBlobs

A, B = digest_of(b"space a"), digest_of(b"space b")
DIM = 8


class ListLog:
    """The part of the log that memory reads, and how often it was asked for events."""

    def __init__(self, salt: str = "") -> None:
        self.records: list[Recorded] = []
        self.salt = salt
        self.decoded = 0

    def append(self, event: AnyEvent) -> Seq:
        seq = Seq(len(self.records) + 1)
        own = digest_of(f"{self.salt}{seq}".encode())
        self.records.append(
            Recorded(
                seq=seq,
                recorded_at_us=seq * 1000,
                cycle=1,
                cause=None,
                actor="test",
                state_before=State.EMBEDDING,
                state_after=State.IDLE,
                key=None,
                event=event,
                payload_hash=own,
                prev_hash=own,
                hash=own,
                state_digest=None,
            )
        )
        return seq

    def head(self) -> Seq:
        return Seq(len(self.records))

    def read(self, first: int = 1, last: int | None = None, types: Sequence[type] = ()) -> Iterator[Recorded]:
        for record in self.records[first - 1 : last]:
            if not types or isinstance(record.event, tuple(types)):
                self.decoded += 1
                yield record


def vectors(count: int, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    made = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    rows: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return rows


def item(number: int, row: int | None, **facts: object) -> EmbeddedItem:
    given = {"seq": Seq(number), "kind": "code_diff", "unit": f"unit {number}", "text": f"text {number}", "row": row}
    return EmbeddedItem(**{**given, **facts})  # type: ignore[arg-type]


def embedded(
    log: ListLog, blobs: MemoryBlobs, rows: NDArray[np.float32], space: Digest = A, **facts: object
) -> tuple[Seq, NDArray[np.float32]]:
    items = tuple(item(log.head() + 1, row, **facts) for row in range(len(rows)))
    content = blobs.put(rows.astype("<f4").tobytes())
    return log.append(SignalEmbedded(space=space, items=items, vectors=content, dim=rows.shape[1])), rows


def row(seq: int, number: int = 0, **facts: object) -> MemoryRow:
    given = {"seq": Seq(seq), "item": number, "signal": Seq(seq), "kind": "unit", "unit": "u", "text": "t"}
    return MemoryRow(**{**given, **facts})  # type: ignore[arg-type]


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture
def memory(tmp_path: Path) -> VectorMemory:
    return VectorMemory(tmp_path / "memory")


def found(memory: VectorMemory, vector: NDArray[np.float32], k: int = 3, **filters: object) -> list[tuple[int, int]]:
    return [(hit.row.seq, hit.row.item) for hit in memory.search(A, vector, k, **filters)]  # type: ignore[arg-type]


def test_search_gives_the_nearest_rows_with_their_cosine(
    memory: VectorMemory, log: ListLog, blobs: MemoryBlobs
) -> None:
    rows = vectors(50)
    seq, _ = embedded(log, blobs, rows)
    memory.catch_up(log, blobs)
    query = vectors(1, seed=9)[0]
    hits = memory.search(A, query, 5)
    order = np.argsort(-(rows @ query))[:5]
    assert [hit.row.item for hit in hits] == order.tolist()
    np.testing.assert_allclose([hit.similarity for hit in hits], (rows @ query)[order], atol=1e-3)
    assert {hit.row.seq for hit in hits} == {seq}
    assert hits[0].row.at_us == seq * 1000


def test_spaces_never_mix(memory: VectorMemory, log: ListLog, blobs: MemoryBlobs) -> None:
    _, rows = embedded(log, blobs, vectors(3), A)
    embedded(log, blobs, vectors(3), B)
    memory.catch_up(log, blobs)
    assert {hit.row.seq for hit in memory.search(A, rows[0], 10)} == {1}
    assert {hit.row.seq for hit in memory.search(B, rows[0], 10)} == {2}
    assert memory.search(digest_of(b"unknown"), rows[0], 10) == []


def test_rows_without_a_vector_are_left_out_and_rows_find_their_vector(
    memory: VectorMemory, log: ListLog, blobs: MemoryBlobs
) -> None:
    rows = vectors(2)
    items = (item(1, 1, unit="second"), item(2, None, failure="too long"), item(3, 0, unit="first"))
    log.append(SignalEmbedded(space=A, items=items, vectors=blobs.put(rows.astype("<f4").tobytes()), dim=DIM))
    memory.catch_up(log, blobs)
    assert memory.search(A, rows[0], 5)[0].row.unit == "first"
    assert memory.search(A, rows[1], 5)[0].row.unit == "second"
    assert len(memory.search(A, rows[0], 5)) == 2
    log.append(SignalEmbedded(space=A, items=(item(9, None, failure="x"),), vectors=None, dim=DIM))
    memory.catch_up(log, blobs)
    assert len(memory.search(A, rows[0], 5)) == 2


def test_filters_still_give_k_rows_if_there_are_k(memory: VectorMemory, log: ListLog, blobs: MemoryBlobs) -> None:
    query = vectors(1, seed=5)[0]
    near = query + 0.01 * vectors(300, seed=6)
    far = -query + 0.5 * vectors(4, seed=7)
    embedded(log, blobs, near, kind="code_diff", task_type="a")
    rare, _ = embedded(log, blobs, far, kind="failure", task_type="b")
    memory.catch_up(log, blobs)
    assert len(found(memory, query, 4, kinds=["failure"])) == 4
    assert len(found(memory, query, 4, task_types=["b"])) == 4
    assert {seq for seq, _ in found(memory, query, 4, within=[Span(rare, rare)])} == {rare}
    assert found(memory, query, 4, kinds=["failure"], task_types=["a"]) == []
    assert found(memory, query, 4, within=[]) == []
    assert found(memory, query, 0) == []
    assert len(found(memory, query, 1000)) == 304


def test_within_hides_rolled_back_rows_from_the_last_vector_of_a_unit(
    memory: VectorMemory, log: ListLog, blobs: MemoryBlobs
) -> None:
    first, one = embedded(log, blobs, vectors(1, seed=1), unit="f.py::g")
    _, two = embedded(log, blobs, vectors(1, seed=2), unit="f.py::g")
    memory.catch_up(log, blobs)
    last = memory.last_of_unit(A, "f.py::g")
    assert last is not None
    assert last.dtype == np.float32
    np.testing.assert_allclose(last, two[0], atol=1e-3)
    kept = memory.last_of_unit(A, "f.py::g", [Span(first, first)])
    assert kept is not None
    np.testing.assert_allclose(kept, one[0], atol=1e-3)
    assert memory.last_of_unit(A, "f.py::g", [Span(Seq(7), Seq(9))]) is None
    assert memory.last_of_unit(A, "other") is None
    assert memory.last_of_unit(B, "f.py::g") is None


def test_promotion_brings_the_live_rows_into_its_space(memory: VectorMemory, log: ListLog, blobs: MemoryBlobs) -> None:
    one, _ = embedded(log, blobs, vectors(2, seed=1), task_type="find", outcome="fail")
    embedded(log, blobs, vectors(2, seed=2))  # rolled back, so not among the re-embedded
    moved = vectors(2, dim=6, seed=3)
    log.append(
        MemoryReembedded(space=B, rows=((one, 1), (one, 0)), vectors=blobs.put(moved.astype("<f4").tobytes()), dim=6)
    )
    later, _ = embedded(log, blobs, vectors(1, dim=6, seed=4), B)
    memory.catch_up(log, blobs)
    rows, found_vectors = memory.vectors(B)
    assert [(row.seq, row.item) for row in rows] == [(one, 0), (one, 1), (later, 0)]
    assert (rows[0].task_type, rows[0].outcome, rows[0].text) == ("find", "fail", "text 1")
    np.testing.assert_allclose(found_vectors[:2], moved[::-1], atol=1e-3)
    assert len(memory.vectors(A)[0]) == 4
    assert [row.seq for row in memory.vectors(B, [Span(later, later)])[0]] == [later]


def test_latest_of_a_task_type_are_those_of_all_its_rows_and_no_other_vector_is_read(
    memory: VectorMemory, log: ListLog, blobs: MemoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cycle tests the last outcomes of a type for drift: with all vectors gathered, of a million rows gigabytes."""
    seqs: list[Seq] = []
    for n in range(12):
        kind: dict[str, Any] = {"task_type": ("find", "edit", "find*")[n % 3], "outcome": None if n == 9 else "pass"}
        seqs.append(embedded(log, blobs, vectors(3, seed=n), **kind)[0])
    moved = vectors(4, dim=6, seed=40)
    names = ((seqs[3], 2), (seqs[3], 0), (seqs[0], 1), (seqs[6], 0))
    log.append(MemoryReembedded(space=B, rows=names, vectors=blobs.put(moved.astype("<f4").tobytes()), dim=6))
    embedded(log, blobs, vectors(2, dim=6, seed=41), B, task_type="find", outcome="pass")
    memory.catch_up(log, blobs)
    read: list[int] = []
    at = VectorIndex.at

    def counted(index: VectorIndex, places: Any) -> Any:
        read.append(len(places))
        return at(index, places)

    spans: tuple[list[Span] | None, ...] = (
        None,
        [Span(seqs[1], seqs[7])],
        [Span(seqs[0], seqs[3]), Span(seqs[5], seqs[11])],
        [],
    )
    for space, within, count in product((A, B), spans, (1, 2, 4, 100)):
        for task_type in ("find", "edit", "find*", "none"):
            every, all_vectors = memory.vectors(space, within)
            meant = [n for n, row in enumerate(every) if row.task_type == task_type and row.outcome is not None]
            with monkeypatch.context() as patched:
                patched.setattr(VectorIndex, "at", counted)
                rows, found = memory.latest_of_task(space, task_type, count, within)
            assert rows == [every[n] for n in meant[-count:]]
            np.testing.assert_array_equal(found, all_vectors[meant[-count:]])
            assert read.pop() <= count


def test_catching_up_twice_changes_nothing(memory: VectorMemory, log: ListLog, blobs: MemoryBlobs) -> None:
    _, rows = embedded(log, blobs, vectors(5))
    memory.catch_up(log, blobs)
    before = memory.search(A, rows[0], 9)
    memory.catch_up(log, blobs)
    assert memory.search(A, rows[0], 9) == before
    asked = log.decoded
    memory.search(A, rows[0], 9)
    assert log.decoded == asked
    assert memory.covers(A) == log.head()


def test_saved_memory_is_read_again_without_the_old_events(tmp_path: Path, log: ListLog, blobs: MemoryBlobs) -> None:
    _, rows = embedded(log, blobs, vectors(40))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    before = memory.search(A, rows[0], 9)
    memory.save()
    blobs.contents.clear()  # nothing old may be needed
    again = VectorMemory(tmp_path)
    again.catch_up(log, blobs)
    assert again.search(A, rows[0], 9) == before
    assert VectorMemory(tmp_path).search(A, rows[0], 9) == before
    embedded(log, blobs, vectors(1, seed=3))
    again.catch_up(log, blobs)
    assert len(again.vectors(A)[0]) == 41


@pytest.mark.parametrize("suffix", [".usearch", ".vectors", ".meta"])
@pytest.mark.parametrize("harm", ["delete", "cut", "flip", "empty"])
def test_missing_or_torn_files_are_built_anew(
    tmp_path: Path, log: ListLog, blobs: MemoryBlobs, suffix: str, harm: str
) -> None:
    _, rows = embedded(log, blobs, vectors(40))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    before = memory.search(A, rows[0], 9)
    memory.save()
    path = tmp_path / f"{A}{suffix}"
    content = path.read_bytes()
    match harm:
        case "delete":
            path.unlink()
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "flip":
            path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        case _:
            path.write_bytes(b"")
    again = VectorMemory(tmp_path)
    again.catch_up(log, blobs)
    assert again.search(A, rows[0], 9) == before


def test_memory_of_another_log_is_built_anew(tmp_path: Path, log: ListLog, blobs: MemoryBlobs) -> None:
    embedded(log, blobs, vectors(4, seed=1))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    memory.rebuild(A)
    other = ListLog(salt="other")
    _, rows = embedded(other, blobs, vectors(2, seed=2))
    for seqs in (1, 2):  # as long as the first log, then longer
        again = VectorMemory(tmp_path)
        again.catch_up(other, blobs)
        assert len(again.search(A, rows[0], 9)) == 2 * seqs
        embedded(other, blobs, vectors(2, seed=3))


def test_copy_from_a_longer_log_is_built_anew(tmp_path: Path, log: ListLog, blobs: MemoryBlobs) -> None:
    _, rows = embedded(log, blobs, vectors(2, seed=1))
    embedded(log, blobs, vectors(2, seed=2))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    memory.rebuild(A)
    log.records.pop()  # the log was restored from a backup
    again = VectorMemory(tmp_path)
    again.catch_up(log, blobs)
    assert len(again.search(A, rows[0], 9)) == 2


def test_rows_that_may_not_be_replaced_stay(memory: VectorMemory) -> None:
    one, two = vectors(2)
    assert memory.add(A, [row(1, replaceable=False), row(2)], np.stack([one, one])) == 2
    assert memory.add(A, [row(1, text="new"), row(2, text="new")], np.stack([two, two])) == 1
    rows, held = memory.vectors(A)
    assert [row.text for row in rows] == ["t", "new"]
    np.testing.assert_allclose(held, np.stack([one, two]), atol=1e-3)


def test_vectors_that_cannot_be_are_refused(memory: VectorMemory, log: ListLog, blobs: MemoryBlobs) -> None:
    good = vectors(1)
    memory.add(A, [row(1)], good)
    for bad in (good * np.nan, good * 0, good * np.inf, vectors(2), vectors(1, dim=5), good[0]):
        with pytest.raises(ConfigError):
            memory.add(A, [row(2)], bad)
    for bad_query in (good[0] * np.nan, vectors(1, dim=5)[0], good):
        with pytest.raises(ConfigError):
            memory.search(A, bad_query, 1)
    with pytest.raises(ConfigError, match="cut the cycle"):
        memory.add(A, [row(2, 1 << 20)], good)
    assert len(memory.vectors(A)[0]) == 1


def test_events_that_do_not_fit_their_vectors_are_named(memory: VectorMemory, log: ListLog, blobs: MemoryBlobs) -> None:
    log.append(SignalEmbedded(space=A, items=(item(1, 0),), vectors=blobs.put(b"\0" * 5), dim=DIM))
    log.append(SignalEmbedded(space=B, items=(item(1, 0),), vectors=blobs.put(vectors(1).tobytes()), dim=DIM))
    log.append(MemoryReembedded(space=B, rows=((Seq(1), 7),), vectors=blobs.put(vectors(1).tobytes()), dim=DIM))
    memory.catch_up(log, blobs)
    with pytest.raises(LogCorrupt, match="event 1 names 1 vectors"):
        memory.search(A, vectors(1)[0], 1)
    with pytest.raises(LogCorrupt, match="item 7 of event 1"):
        memory.search(B, vectors(1)[0], 1)


def test_disk_that_refuses_costs_no_rows(
    tmp_path: Path, log: ListLog, blobs: MemoryBlobs, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "memory").write_text("a file where the folder should be")
    memory = VectorMemory(tmp_path / "memory")
    _, rows = embedded(log, blobs, vectors(3))
    memory.catch_up(log, blobs)
    assert len(memory.search(A, rows[0], 9)) == 3
    assert "not saved" in caplog.text


def test_prune_forgets_files_that_can_be_built_anew(tmp_path: Path, log: ListLog, blobs: MemoryBlobs) -> None:
    _, rows = embedded(log, blobs, vectors(3), A)
    embedded(log, blobs, vectors(3), B)
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    assert memory.rebuild(A) == memory.rebuild(B) == 3
    assert memory.prune([B]) == 1
    left = sorted(path.name for path in tmp_path.glob("*.*") if path.suffix != ".lock")
    assert left == [f"{B}.meta", f"{B}.usearch", f"{B}.vectors"]
    assert len(memory.search(A, rows[0], 9)) == 3


def test_many_spaces_are_all_right(tmp_path: Path, log: ListLog, blobs: MemoryBlobs) -> None:
    spaces = [digest_of(f"space {n}".encode()) for n in range(6)]
    for number, space in enumerate(spaces):
        embedded(log, blobs, vectors(number + 1, seed=number), space)
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    for _ in range(2):
        assert [len(memory.vectors(space)[0]) for space in spaces] == [1, 2, 3, 4, 5, 6]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 5)), min_size=1, max_size=60),
    st.sampled_from(["a", "b", None]),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 20),
)
@settings(max_examples=80, deadline=None)
def test_filtered_search_is_the_exact_one(
    made: list[tuple[str, int]], kind: str | None, span: tuple[int, int], k: int
) -> None:
    memory = VectorMemory(Path("/nonexistent"))
    rows = [row(seq + 1, number, kind=kind) for number, (kind, seq) in enumerate(made)]
    held = vectors(len(rows), seed=len(rows))
    memory.add(A, rows, held)
    query = vectors(1, seed=99)[0]
    within = [Span(Seq(min(span)), Seq(max(span)))]
    hits = memory.search(A, query, k, kinds=None if kind is None else [kind], within=within)
    fit = [n for n, r in enumerate(rows) if min(span) <= r.seq <= max(span) and kind in (None, r.kind)]
    cosines = np.sort((held @ query)[fit])[::-1][:k]
    np.testing.assert_allclose([hit.similarity for hit in hits], cosines, atol=2e-3)


def test_search_by_the_graph_falls_back_to_exact_for_rare_rows(
    memory: VectorMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.store.vector_index.EXACT_ROWS_MAX", 100)
    held = vectors(3000, dim=32)
    memory.add(A, [row(n + 1, kind="rare" if n % 1000 == 7 else "unit") for n in range(len(held))], held)
    query = vectors(1, dim=32, seed=3)[0]
    assert sorted(seq for seq, _ in found(memory, query, 3, kinds=["rare"])) == [8, 1008, 2008]
    exact = set(np.argsort(-(held @ query))[:50] + 1)
    assert len({seq for seq, _ in found(memory, query, 50)} & exact) >= 40


def test_ten_thousand_rows_are_searched_with_filters(memory: VectorMemory) -> None:
    count = 10_000
    centres = vectors(200, dim=384, seed=1)
    held = centres[np.arange(count) % 200] + 0.05 * vectors(count, dim=384, seed=2)
    kinds = ["failure" if n % 100 == 0 else "unit" for n in range(count)]
    memory.add(A, [row(n // 50 + 1, n % 50, kind=kinds[n]) for n in range(count)], held)
    assert count <= EXACT_ROWS_MAX
    for filters in ({}, {"kinds": ["failure"]}, {"within": [Span(Seq(1), Seq(100))]}):
        for n in range(5):
            hits = memory.search(A, held[n], 10, **filters)
            assert len(hits) == 10


def test_real_log_and_blobs_feed_memory(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    signal = log.append(feedback(1))
    started = log.append(CycleStarted(entry="signals", span=Span(signal.seq, signal.seq), count=1), cause=signal.seq)
    diff = DiffItem(seq=signal.seq, kind="output_diff", subject="find", similarity=0.5, meaning_changed=True)
    diffed = log.append(DiffComputed(items=(diff,)), cause=started.seq)
    rows = vectors(1)
    content = log.blobs.put(rows.astype("<f4").tobytes())
    event = SignalEmbedded(space=A, items=(item(signal.seq, 0),), vectors=content, dim=DIM)
    recorded = log.append(event, cause=diffed.seq)
    memory = VectorMemory(tmp_path / "memory")
    memory.catch_up(log.reader, log.blobs)
    (hit,) = memory.search(A, rows[0], 5)
    assert (hit.row.seq, hit.row.signal) == (recorded.seq, signal.seq)
    assert hit.similarity == pytest.approx(1.0, abs=1e-3)
    log.close()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["unit", "failure"]),
            st.sampled_from(["a", "b", None]),
            st.sampled_from(["f.py::x", "f.py", "g"]),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=80,
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "kinds": st.lists(st.sampled_from(["unit", "failure", "none"]), max_size=2),
            "task_types": st.lists(st.sampled_from(["a", "b"]), max_size=2),
            "units": st.lists(st.sampled_from(["f.py", "f.py*", "g", "*"]), max_size=2),
            "since_us": st.integers(0, 9),
            "until_us": st.integers(0, 9),
        },
    ),
    st.integers(1, 12),
)
@settings(max_examples=120, deadline=None)
def test_every_filter_gives_the_exact_nearest_of_what_it_admits(
    made: list[tuple[str, str | None, str, int]], filters: dict[str, object], k: int
) -> None:
    memory = VectorMemory(Path("/nonexistent"))
    rows = [
        row(n // 7 + 1, n % 7, kind=kind, task_type=task, unit=unit, at_us=at)
        for n, (kind, task, unit, at) in enumerate(made)
    ]
    held = vectors(len(rows), seed=len(rows))
    memory.add(A, rows, held)
    query = vectors(1, seed=3)[0]
    hits = memory.search(A, query, k, **filters)  # type: ignore[arg-type]
    fit = [n for n, one in enumerate(rows) if admitted(one, filters)]
    order = sorted(fit, key=lambda n: -float(held[n].astype(np.float16).astype(np.float32) @ query))[:k]
    np.testing.assert_allclose([hit.similarity for hit in hits], (held @ query)[order], atol=2e-3)
    assert all(admitted(hit.row, filters) for hit in hits)


def admitted(one: MemoryRow, filters: dict[str, object]) -> bool:
    def named(names: object, name: str | None) -> bool:
        assert isinstance(names, list)
        return name is not None and any(
            name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted for wanted in names
        )

    return (
        ("kinds" not in filters or named(filters["kinds"], one.kind))
        and ("task_types" not in filters or named(filters["task_types"], one.task_type))
        and ("units" not in filters or named(filters["units"], one.unit))
        and one.at_us >= filters.get("since_us", 0)  # type: ignore[operator]
        and one.at_us <= filters.get("until_us", 99)  # type: ignore[operator]
    )


def clustered(count: int, dim: int = 32) -> NDArray[np.float32]:
    drawn = np.random.default_rng(5)
    made = vectors(50, dim, seed=1)[drawn.integers(0, 50, count)] + 0.3 * vectors(count, dim, seed=2)
    rows: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return rows


def test_graph_finds_enough_of_the_nearest_and_a_filter_all_of_them(
    memory: VectorMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.store.vector_index.EXACT_ROWS_MAX", 1000)
    held = clustered(5000)
    rows = [row(n // 100 + 1, n % 100, kind="rare" if n % 50 == 7 else "unit") for n in range(4800)]
    memory.add(A, rows, held[:4800])
    space = memory._fresh(A)
    assert space.behind == 4800
    exact = np.argsort(-(held[4800:] @ held[:4800].T), axis=1)[:, :10]
    for behind in (True, False):
        found_places = [
            [(hit.row.seq - 1) * 100 + hit.row.item for hit in hits] for hits in memory.search_each(A, held[4800:], 10)
        ]
        shares = [len(set(one) & set(other)) / 10 for one, other in zip(found_places, exact.tolist(), strict=True)]
        assert np.mean(shares) >= (0.99 if behind else 0.95)
        if behind:
            space.link(lambda: True)
    assert space.behind == 0
    rare = [n for n in range(4800) if n % 50 == 7]
    for query in held[4800:4820]:
        hits = memory.search(A, query, 10, kinds=["rare"])
        np.testing.assert_allclose([hit.similarity for hit in hits], np.sort(held[rare] @ query)[::-1][:10], atol=2e-3)


def test_row_that_is_replaced_is_found_by_its_new_vector_in_the_graph(
    memory: VectorMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.store.vector_index.EXACT_ROWS_MAX", 100)
    held = clustered(1000)
    memory.add(A, [row(n + 1, replaceable=n != 4) for n in range(1000)], held)
    memory._fresh(A).link(lambda: True)
    moved = -held[3]
    assert memory.add(A, [row(4, text="new"), row(5, text="new")], np.stack([moved, moved])) == 1
    assert memory.search(A, moved, 1)[0].row == row(4, text="new")
    assert memory.search(A, held[4], 1)[0].row == row(5, replaceable=False)


def test_large_space_is_searched_while_a_thread_links_and_saves_it(
    tmp_path: Path, log: ListLog, blobs: MemoryBlobs
) -> None:
    _, rows = embedded(log, blobs, clustered(2000))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    for _ in range(2):  # who asks again is worth a graph
        assert memory.search(A, rows[7], 1)[0].row.item == 7
    linker = memory._linker
    assert linker is not None
    linker.join(60)
    assert (tmp_path / f"{A}.meta").exists()
    assert memory._fresh(A).behind == 0


def test_large_space_that_is_asked_once_is_on_disk_without_its_graph(
    tmp_path: Path, log: ListLog, blobs: MemoryBlobs
) -> None:
    _, rows = embedded(log, blobs, clustered(2000))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    before = memory.search(A, rows[7], 9)
    assert memory._linker is None
    blobs.contents.clear()  # what is asked next reads the log no more
    decoded = log.decoded
    for _ in range(2):
        again = VectorMemory(tmp_path)
        again.catch_up(log, blobs)
        assert again.search(A, rows[7], 9) == before
        assert log.decoded - decoded <= 1  # the event at the head, by which memory knows its log
        decoded = log.decoded


def test_graph_that_is_half_linked_is_saved_and_goes_on(
    tmp_path: Path, log: ListLog, blobs: MemoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.store.vector_index.EXACT_ROWS_MAX", 100)
    _, rows = embedded(log, blobs, clustered(3000))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    half = memory._fresh(A)
    left = iter([True, False])
    half.link(lambda: next(left))
    assert 0 < half.behind < 3000
    half.unsaved = 1
    memory.save()
    space = VectorMemory(tmp_path)._fresh(A)
    assert space.behind == half.behind
    for _ in range(2):  # compared one by one, then found by the graph
        assert [space.search(rows[n : n + 1], 1)[0][0].row.item for n in (0, 1023, 1024, 2999)] == [0, 1023, 1024, 2999]
        space.link(lambda: True)
    assert space.behind == 0


def test_copy_that_is_cut_or_flipped_anywhere_is_built_anew(tmp_path: Path, log: ListLog, blobs: MemoryBlobs) -> None:
    _, rows = embedded(log, blobs, vectors(40))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    before = memory.search(A, rows[0], 9)
    memory.save()
    whole = {path: path.read_bytes() for path in tmp_path.glob(f"{A}.*")}
    assert len(whole) == 3
    for path, content in whole.items():
        for place in [*range(0, 64, 7), *range(64, len(content), len(content) // 9), len(content) - 1]:
            for harmed in (content[:place], content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :]):
                path.write_bytes(harmed)
                again = VectorMemory(tmp_path)
                again.catch_up(log, blobs)
                assert again.search(A, rows[0], 9) == before, (path.suffix, place)
                for other, bytes_before in whole.items():
                    other.write_bytes(bytes_before)


@pytest.mark.parametrize("place", ["durable.written", "durable.named"])
@pytest.mark.parametrize("passing", [1, 2, 3])
def test_save_killed_anywhere_leaves_a_memory_that_answers(tmp_path: Path, place: str, passing: int) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent.parent.parent)!r})
from pathlib import Path
from typing import Any
from tests.store.test_memory import *
log, blobs = ListLog(), MemoryBlobs()
memory = VectorMemory(Path({str(tmp_path)!r}))
embedded(log, blobs, vectors(30, seed=1))
memory.catch_up(log, blobs); memory.search(A, vectors(1)[0], 1); memory.save()
embedded(log, blobs, vectors(30, seed=2))
from instar.store.failpoints import arm
arm("{place}=kill@{passing}")
memory.catch_up(log, blobs); memory.search(A, vectors(1)[0], 1); memory.save()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == -9, run.stderr
    log, blobs = ListLog(), MemoryBlobs()
    one, two = (embedded(log, blobs, vectors(30, seed=seed))[1] for seed in (1, 2))
    again = VectorMemory(tmp_path)
    again.catch_up(log, blobs)
    assert len(again.vectors(A)[0]) == 60
    for number, rows in enumerate((one, two), 1):
        assert [(hit.row.seq, hit.row.item) for hit in again.search(A, rows[5], 1)] == [(number, 5)]


def test_full_disk_in_a_save_costs_no_answer_and_is_made_up_for(
    tmp_path: Path, log: ListLog, blobs: MemoryBlobs, caplog: pytest.LogCaptureFixture
) -> None:
    _, rows = embedded(log, blobs, vectors(30))
    memory = VectorMemory(tmp_path)
    memory.catch_up(log, blobs)
    arm("durable.written=error@2")
    try:
        assert memory.search(A, rows[3], 1)[0].row.item == 3
    finally:
        arm("")
    assert "not saved" in caplog.text
    memory.save()
    assert VectorMemory(tmp_path).search(A, rows[3], 1)[0].row.item == 3


def test_reembedding_never_overwrites_a_row_that_may_not_be_replaced(
    memory: VectorMemory, log: ListLog, blobs: MemoryBlobs
) -> None:
    one, _ = embedded(log, blobs, vectors(2, seed=1), replaceable=False)
    for seed in (3, 4):
        content = blobs.put(vectors(2, seed=seed).astype("<f4").tobytes())
        log.append(MemoryReembedded(space=B, rows=((one, 0), (one, 1)), vectors=content, dim=DIM))
    memory.catch_up(log, blobs)
    rows, held = memory.vectors(B)
    assert [one.replaceable for one in rows] == [False, False]
    np.testing.assert_allclose(held, vectors(2, seed=3), atol=1e-3)
