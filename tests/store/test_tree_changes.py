"""The difference of two trees by their nodes is that of the trees read whole."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from instar.fsm.words import digest_of
from instar.store.tree_changes import changed, find_path, graft
from instar.store.tree_nodes import NodeReader
from instar.store.trees import Entry, Tree, changes, read_tree, write_tree
from tests.store.memory_blobs import MemoryBlobs

_names = st.sampled_from(["a", "b", "c.py"])
_leaves = st.sampled_from(["1", "2", "folder", "secret"])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    drawn = draw(st.dictionaries(st.lists(_names, min_size=1, max_size=3).map(tuple), _leaves, max_size=8))
    whole = {k: v for k, v in drawn.items() if not any(k[:depth] in drawn for depth in range(1, len(k)))}
    entry = {leaf: Entry("file", 0o644, digest_of(leaf.encode()), 1) for leaf in ("1", "2")}
    return Tree(
        files={"/".join(k): entry[v] for k, v in whole.items() if v in entry},
        folders=frozenset("/".join(k) for k, v in whole.items() if v == "folder"),
        unmanaged={"/".join(k): v for k, v in whole.items() if v == "secret"},
    )


@given(trees(), trees())
@settings(deadline=None, max_examples=150)
def test_nodes_tell_what_whole_trees_tell(one: Tree, other: Tree) -> None:
    blobs = MemoryBlobs()
    found = changed(NodeReader(blobs), write_tree(blobs, one), write_tree(blobs, other))
    assert list(found.changes) == changes(one, other)
    now, then = one.all_folders(), other.all_folders()
    assert found.made == tuple(sorted(other.folders - now))
    assert set(found.unmade) == now - then
    assert found.unmanaged == {p: why for p, why in other.unmanaged.items() if one.unmanaged.get(p) != why}


@given(trees(), trees())
@settings(deadline=None, max_examples=100)
def test_graft_takes_one_path_and_leaves_the_rest(one: Tree, other: Tree) -> None:
    blobs = MemoryBlobs()
    nodes = NodeReader(blobs)
    stock, scion = write_tree(blobs, one), write_tree(blobs, other)
    made = graft(nodes, stock, scion, ["a"])
    assert graft(nodes, stock, scion, [""]) == scion
    assert find_path(nodes, made, "a").entry == find_path(nodes, scion, "a").entry
    assert find_path(nodes, made, "a").folder == find_path(nodes, scion, "a").folder
    rest = {path: entry for path, entry in one.files.items() if path.split("/")[0] != "a"}
    assert {p: e for p, e in read_tree(blobs, made).files.items() if p.split("/")[0] != "a"} == rest
