"""Search among 100,000 vectors and the rebuilding of the index, against faiss, hnswlib and usearch bare.

The vectors are drawn: 2,000 clusters, with a spectrum that falls like that of sentence embeddings. Each engine searches
as narrowly as still finds 0.95 of the ten nearest; ours as narrowly as it found out by itself. Queries are asked one by
one, and then all at once on every core.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instar.fsm.events import CycleStarted, DiffComputed, DiffItem, EmbeddedItem, FeedbackReceived, SignalEmbedded, Span
from instar.fsm.words import Seq, digest_of
from instar.store.log import EventLog
from instar.store.memory import RowFilter, VectorMemory

from .compare import Work, compare
from .goals import Measure, Row, absent
from .sample_log import fresh_log

ROWS, DIM, QUERIES, K, RECALL, ROUNDS = 100_000, 384, 400, 10, 0.95, 9
ROWS_AN_EVENT = 250
CLUSTERS = 2_000
WIDTHS = (10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512, 768, 1024)
SPACE = digest_of(b"benchmark")

Rows = NDArray[np.float32]


class Peer(NamedTuple):
    """An engine, built: how to set its width, ask one query, and ask all."""

    widen: Callable[[int], object]
    one: Callable[[Rows], object]
    every: Callable[[Rows], NDArray[Any]]


def main() -> list[Row]:
    """Builds every engine once, then asks in turns; gives rows for searching and for rebuilding."""
    held, queries = drawn_vectors(ROWS, QUERIES)
    wanted = np.argpartition(-(queries @ held.T), K, axis=1)[:, :K]
    with tempfile.TemporaryDirectory() as name:
        log = _written(Path(name), held)
        try:
            return _measured(log, VectorMemory(Path(name) / "memory"), held, queries, wanted)
        finally:
            log.close()


def _measured(log: EventLog, memory: VectorMemory, held: Rows, queries: Rows, wanted: NDArray[Any]) -> list[Row]:
    memory.catch_up(log.reader, log.blobs)
    built_s = {"instar, from the log": _seconds(lambda: memory.rebuild(SPACE))}
    peers: dict[str, Peer] = {}
    missing = absent("faiss", "hnswlib")
    builders = {"usearch": _usearch} | ({} if missing else {"hnswlib": _hnswlib, "faiss": _faiss})
    for name, build in builders.items():
        started = time.perf_counter()
        peers[name] = build(held)
        built_s[name] = time.perf_counter() - started
    for name, seconds in built_s.items():
        print(f"{name}: built in {seconds:.1f} s")
    everything = RowFilter(within=[Span(Seq(1), log.reader.head())])  # as every search of the engine has it
    recall = {"instar": _recall(_places(memory, queries), wanted)}
    one: dict[str, Work] = {
        "instar": lambda: _each(lambda query: memory.search_each(SPACE, query, K, everything), queries)
    }
    every: dict[str, Work] = {"instar": lambda: len(memory.search_each(SPACE, queries, K, everything))}
    for name, peer in peers.items():
        recall[name] = _narrowest(peer, queries, wanted)
        one[name] = lambda peer=peer: _each(peer.one, queries)  # type: ignore[misc]
        every[name] = lambda peer=peer: len(peer.every(queries))  # type: ignore[misc]
    for name, share in recall.items():
        print(f"{name}: recall@{K} {share:.3f}")
    alone = compare("search of one vector after another", one, rounds=ROUNDS, unit="queries/s")
    together = compare("search of many vectors at once", every, rounds=ROUNDS, unit="queries/s")
    able = [name for name in peers if recall[name] >= RECALL]
    fastest = [max(rates[name] for name in able) / rates["instar"] for rates in (alone, together)]
    return [
        Row(
            f"search in {ROWS:,} × {DIM}",
            f"the fastest of {', '.join(peers)} bare, time at recall@{K} ≥ {RECALL}",
            (
                Measure(fastest[0], 1.2, at_most=True, what="one by one"),
                Measure(fastest[1], 1.2, at_most=True, what="all at once"),
                Measure(recall["instar"], RECALL, what="recall"),
            ),
            missing,
        ),
        Row(
            f"index of {ROWS:,} vectors rebuilt from the log, and saved",
            "usearch's own build of the same vectors, time",
            (Measure(built_s["instar, from the log"] / built_s["usearch"], 1.5, at_most=True),),
        ),
    ]


def drawn_vectors(rows: int, queries: int) -> tuple[Rows, Rows]:
    """Draws unit rows and queries of the same kind, float32."""
    drawn = np.random.default_rng(0)
    scale = (np.arange(1, DIM + 1) ** -0.6).astype(np.float32)
    centres = drawn.standard_normal((CLUSTERS, DIM), dtype=np.float32) * scale
    count = rows + queries
    vectors = centres[drawn.integers(0, CLUSTERS, count)]
    vectors += 0.6 * drawn.standard_normal((count, DIM), dtype=np.float32) * scale
    turned = vectors @ np.linalg.qr(drawn.standard_normal((DIM, DIM)))[0].astype(np.float32)
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    return turned[:rows], turned[rows:]


def _written(folder: Path, held: Rows) -> EventLog:
    """Records the vectors as the engine does: a blob an event, a row an item."""
    log = fresh_log(folder)
    for start in range(0, len(held), ROWS_AN_EVENT):
        rows = held[start : start + ROWS_AN_EVENT]
        signal = log.append(FeedbackReceived(task_type="search", input=f"request {start}")).seq
        started = log.append(CycleStarted(entry="signals", span=Span(signal, signal), count=1), cause=signal).seq
        diff = DiffItem(seq=signal, kind="output_diff", subject="search", similarity=1.0, meaning_changed=False)
        diffed = log.append(DiffComputed(items=(diff,)), cause=started).seq
        items = tuple(
            EmbeddedItem(seq=signal, kind="output_diff", unit=f"unit {start + row}", text="row", row=row)
            for row in range(len(rows))
        )
        content = log.blobs.put(rows.astype("<f4").tobytes())
        log.append(SignalEmbedded(space=SPACE, items=items, vectors=content, dim=DIM), cause=diffed)
    return log


def _usearch(held: Rows) -> Peer:
    from usearch.index import Index

    index = Index(ndim=DIM, metric="ip", dtype="bf16")
    index.add(np.arange(len(held), dtype=np.uint64), held)

    def widen(width: int) -> None:
        index.expansion_search = width  # type: ignore[misc]  # the checker misses its setter

    return Peer(widen, lambda query: index.search(query, K, threads=1), lambda all: index.search(all, K).keys)


def _hnswlib(held: Rows) -> Peer:
    import hnswlib

    index = hnswlib.Index("ip", DIM)
    index.init_index(len(held), M=16, ef_construction=200)
    index.add_items(held)
    return Peer(
        index.set_ef,
        lambda query: index.knn_query(query, K, num_threads=1),
        lambda all: index.knn_query(all, K)[0],
    )


def _faiss(held: Rows) -> Peer:
    import faiss

    index = faiss.IndexHNSWFlat(DIM, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 40
    index.add(held)

    def widen(width: int) -> None:
        index.hnsw.efSearch = width

    return Peer(widen, lambda query: index.search(query, K), lambda all: index.search(all, K)[1])


def _narrowest(peer: Peer, queries: Rows, wanted: NDArray[Any]) -> float:
    """Sets the least width that finds enough; gives the recall there."""
    recall = 0.0
    for width in WIDTHS:
        peer.widen(width)
        recall = _recall(peer.every(queries), wanted)
        if recall >= RECALL:
            break
    return recall


def _places(memory: VectorMemory, queries: Rows) -> list[list[int]]:
    return [[int(hit.row.unit.split()[1]) for hit in hits] for hits in memory.search_each(SPACE, queries, K)]


def _recall(found: Any, wanted: NDArray[Any]) -> float:
    return float(
        np.mean([len(set(map(int, one)) & set(map(int, other))) / K for one, other in zip(found, wanted, strict=True)])
    )


def _each(ask: Callable[[Rows], object], queries: Rows) -> int:
    for number in range(len(queries)):
        ask(queries[number : number + 1])
    return len(queries)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
