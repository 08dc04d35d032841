from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from instar.store import vector_graph as module
from instar.store.vector_graph import VectorGraph
from instar.store.vector_index import unit_rows

DIM = 32


def graph_of(rows: int) -> tuple[VectorGraph, Any]:
    drawn = np.random.default_rng(0)
    vectors = unit_rows(drawn.standard_normal((rows, DIM), dtype=np.float32))
    graph = VectorGraph(DIM)
    graph.add(np.arange(rows), vectors, threads=1)
    return graph, vectors


@pytest.mark.parametrize("queries", [1, 7])
@pytest.mark.parametrize("settled", [False, True])
def test_own_entry_of_usearch_proposes_what_its_face_does(queries: int, settled: bool) -> None:
    graph, vectors = graph_of(200)
    if settled:
        graph.pack()
    asked = vectors[:queries]
    found = graph.propose(asked, 20, threads=1)
    graph._search = module._entry(cast(Any, SimpleNamespace(search=graph._index.search)))
    by_face = graph.propose(asked, 20, threads=1)
    assert found is not None
    assert by_face is not None
    assert found.shape == by_face.shape == (queries, 20)
    np.testing.assert_array_equal(found, by_face)
    assert found[:, 0].tolist() == list(range(queries))


@pytest.mark.parametrize("queries", [1, 3])
def test_fewer_than_asked_for_are_no_proposal(queries: int) -> None:
    graph, vectors = graph_of(5)
    assert graph.propose(vectors[:queries], 9, threads=1) is None
    graph._search = module._entry(cast(Any, SimpleNamespace(search=graph._index.search)))
    assert graph.propose(vectors[:queries], 9, threads=1) is None


def test_graph_that_was_written_takes_more_and_another_in_a_place() -> None:
    graph, vectors = graph_of(50)
    again = VectorGraph.unpack(np.frombuffer(graph.pack(), np.uint8).copy(), DIM, 50)
    again.replace(3, -vectors[3])
    again.add(np.array([50]), vectors[3:4], threads=1)
    found = again.propose(vectors[3:4], 10, threads=1)
    assert found is not None
    assert found[0, 0] == 50
    assert 3 not in found[0]
