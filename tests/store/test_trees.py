from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.fsm.errors import BlobCorrupt, BlobMissing, InputRefused
from instar.fsm.words import Digest, digest_of
from instar.store.paths import DEPTH_MAX, check_path, decode_path, encode_path
from instar.store.trees import Change, Entry, Tree, changes, read_tree, write_tree
from tests.store.memory_blobs import MemoryBlobs


def entry(content: bytes = b"x", mode: int = 0o644) -> Entry:
    return Entry("file", mode, digest_of(content), len(content))


def node(**parts: object) -> bytes:
    whole = {"files": {}, "folders": {}, "unmanaged": {}, "version": 1, **parts}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def as_json(one: Entry) -> dict[str, object]:
    return {"blob": one.blob, "kind": one.kind, "mode": one.mode, "size": one.size}


names = st.binary(min_size=1, max_size=20).filter(
    lambda raw: b"/" not in raw and b"\0" not in raw and raw not in {b".", b"..", b".git", b".instar"}
)


@given(st.binary())
def test_any_bytes_as_a_path_come_back_the_same(raw: bytes) -> None:
    spelled = encode_path(raw)
    assert decode_path(spelled) == raw
    spelled.encode("utf-8")


@given(st.text())
def test_each_path_has_one_spelling_only(text: str) -> None:
    try:
        raw = decode_path(text)
    except InputRefused:
        return
    assert encode_path(raw) == text


@given(
    st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map(lambda parts: encode_path(b"/".join(parts))), st.binary()
    )
)
def test_written_tree_reads_back_equal(drawn: dict[str, bytes]) -> None:
    blobs = MemoryBlobs()
    free = {path for path in drawn if not any(other.startswith(f"{path}/") for other in drawn)}
    files = {path: entry(content) for path, content in drawn.items() if path in free}
    tree = Tree(files=files, folders=frozenset({"@empty/below"}), unmanaged={"@big/file": "over cap 1 bytes"})
    digest = write_tree(blobs, tree)
    assert read_tree(blobs, digest) == tree
    assert write_tree(blobs, Tree(dict(reversed(files.items())), tree.folders, tree.unmanaged)) == digest


def test_equal_folders_share_one_node() -> None:
    blobs = MemoryBlobs()
    write_tree(blobs, Tree(files={"a/x": entry(), "b/x": entry()}))
    assert len(blobs.contents) == 2


def test_empty_tree_reads_back_empty() -> None:
    blobs = MemoryBlobs()
    assert read_tree(blobs, write_tree(blobs, Tree(files={}))) == Tree(files={})


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../x", "a/../x", "/abs", "", "a//b", "a/", "./a", "a/.", "a\0b", ".git/config", "sub/.git/hooks/x"),
        *(".instar/log.db", "%41", "%2e%2e/x", "%2F", "%", "%zz", "\udcff", "n" * 256, "d/" * DEPTH_MAX + "x"),
    ],
)
def test_path_that_no_capture_writes_is_refused(path: str) -> None:
    with pytest.raises(InputRefused):
        check_path(path)
    with pytest.raises(InputRefused):
        write_tree(MemoryBlobs(), Tree(files={path: entry()}))


def test_tree_with_a_file_that_is_a_folder_is_refused() -> None:
    with pytest.raises(InputRefused, match="two things at once"):
        write_tree(MemoryBlobs(), Tree(files={"a": entry(), "a/b": entry()}))


good = as_json(entry())
HOSTILE = {
    "climbs out": node(files={"..": good}),
    "slash": node(files={"a/b": good}),
    "absolute": node(files={"/etc/passwd": good}),
    "empty name": node(files={"": good}),
    "dot": node(files={".": good}),
    "nul": node(files={"a\0b": good}),
    "git": node(files={".git": good}),
    "git as a folder": node(folders={".git": "0" * 64}),
    "our own folder": node(folders={".instar": "0" * 64}),
    "second spelling": node(files={"%41": good}),
    "escaped slash": node(files={"..%2Fx": good}),
    "long name": node(files={"n" * 256: good}),
    "kind": node(files={"a": {**good, "kind": "device"}}),
    "setuid": node(files={"a": {**good, "mode": 0o4755}}),
    "odd link": node(files={"a": {**good, "kind": "link", "mode": 0o644}}),
    "negative size": node(files={"a": {**good, "size": -1}}),
    "digest": node(files={"a": {**good, "blob": "../" + "0" * 61}}),
    "digest with a newline": node(files={"a": {**good, "blob": "0" * 64 + "\n"}}),
    "unknown field": node(files={"a": {**good, "owner": 0}}),
    "file and folder": node(files={"a": good}, folders={"a": "0" * 64}),
    "file and unmanaged": node(files={"a": good}, unmanaged={"a": "secret"}),
    "unmanaged climbs out": node(unmanaged={"..": "secret"}),
    "version": node(version=2),
    "said twice": node(files={"a": good}).replace(b'{"a":', b'{"a":' + json.dumps(good).encode() + b',"a":'),
    "spaces": node().replace(b":", b": "),
    "unsorted": b'{"version":1,"files":{},"folders":{},"unmanaged":{}}',
    "not JSON": b"\xff\x00",
    "deep": b"[" * 100_000,
    "list": b"[]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifest_is_refused(name: str) -> None:
    blobs = MemoryBlobs()
    with pytest.raises(BlobCorrupt, match="malformed"):
        read_tree(blobs, blobs.put(HOSTILE[name]))


def test_plain_manifest_of_the_same_form_is_read() -> None:
    blobs = MemoryBlobs()
    assert read_tree(blobs, blobs.put(node(files={"a": good}))) == Tree(files={"a": entry()})


def test_manifest_that_unfolds_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.store.trees.NAMES_MAX", 10_000)
    blobs = MemoryBlobs()
    digest = blobs.put(node(files={"x": good}))
    for _ in range(20):
        digest = blobs.put(node(folders={str(index): digest for index in range(10)}))
    with pytest.raises(BlobCorrupt, match="names"):
        read_tree(blobs, digest)


def test_manifest_deeper_than_any_capture_is_refused() -> None:
    blobs = MemoryBlobs()
    digest = blobs.put(node(files={"x": good}))
    for _ in range(DEPTH_MAX):
        digest = blobs.put(node(folders={"d": digest}))
    with pytest.raises(BlobCorrupt, match="deeper"):
        read_tree(blobs, digest)


def test_tree_as_deep_as_a_capture_reads_back() -> None:
    blobs = MemoryBlobs()
    tree = Tree(files={"d/" * (DEPTH_MAX - 1) + "x": entry()})
    assert read_tree(blobs, write_tree(blobs, tree)) == tree


def test_missing_node_is_named() -> None:
    blobs = MemoryBlobs()
    missing = Digest("0" * 64)
    with pytest.raises(BlobMissing, match=missing):
        read_tree(blobs, blobs.put(node(folders={"a": missing})))


def test_changes_lists_adds_changes_and_deletes_by_path() -> None:
    old = Tree(files={"same": entry(), "mode": entry(), "gone": entry(b"g")})
    new = Tree(files={"same": entry(), "mode": entry(mode=0o755), "come": entry(b"c")})
    assert changes(old, new) == [
        Change("come", None, entry(b"c")),
        Change("gone", entry(b"g"), None),
        Change("mode", entry(), entry(mode=0o755)),
    ]


def test_path_that_is_no_longer_captured_is_not_called_deleted() -> None:
    old = Tree(files={"big": entry(), "locked/x": entry(), "gone": entry()})
    new = Tree(files={}, unmanaged={"big": "over cap 1 bytes", "locked": "unreadable: Permission denied"})
    assert [change.path for change in changes(old, new)] == ["gone"]
