"""What is read ahead is what the store holds: damaged and missing blobs are told of by whoever asks for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from instar.engine.keeping.gc import plan_collection
from instar.engine.keeping.integrity import check
from instar.engine.runtime import Runtime
from instar.engine.watcher import rescan
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import ChangeObserved
from instar.fsm.words import Digest
from instar.store import read_ahead
from instar.store.naming import below
from instar.store.read_ahead import ReadAhead
from tests.engine.agents import code_only

COUNT = 24


def written(root: Path) -> Runtime:
    """A workspace whose files, in folders of folders, changed again and again."""
    runtime = code_only(root)
    for number in range(COUNT):
        folder = root / f"a{number % 3}" / f"b{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"m{number % 5}.py").write_text(f"X = {number}\n", encoding="utf-8")
        rescan(runtime)
    return runtime


def trees_of(runtime: Runtime) -> list[Digest]:
    events = (record.event for record in runtime.reader.read(types=[ChangeObserved]))
    return [event.tree for event in events if isinstance(event, ChangeObserved)]


def walk(get: Any, root: Digest) -> set[Digest]:
    held = below(get, root)
    found = {root, *(file.blob for file in held.files.values())}
    return found.union(*(walk(get, folder) for folder in held.folders.values()))


def counted(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    plain = runtime.reader._all

    def all_rows(sql: str, parameters: Any = ()) -> Any:
        asked.append(sql)
        return plain(sql, parameters)

    monkeypatch.setattr(runtime.reader, "_all", all_rows)
    return asked


@pytest.mark.parametrize("with_files", [False, True])
@pytest.mark.parametrize("bytes_max", [0, 1 << 20])
def test_trees_are_the_same_by_few_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_files: bool, bytes_max: int
) -> None:
    monkeypatch.setattr(read_ahead, "_BYTES_MAX", bytes_max)
    with closing(written(tmp_path / "agent")) as runtime:
        roots = trees_of(runtime)
        plain = [walk(runtime.blobs, root) for root in roots]
        asked = counted(runtime, monkeypatch)
        ahead = ReadAhead(runtime.blobs)
        ahead.trees(roots, with_files=with_files)
        if bytes_max:
            assert 0 < len(asked) < 10
        assert [walk(ahead, root) for root in roots] == plain
        content = {digest: ahead.get(digest) for found in plain for digest in found}
        assert content == {digest: runtime.blobs.get(digest) for digest in content}


def delete(file: Path, digest: Digest) -> None:
    change(file, "DELETE FROM blobs WHERE digest = ?", digest)


def damage(file: Path, digest: Digest) -> None:
    change(
        file,
        "UPDATE blobs SET content = (SELECT other.content FROM blobs AS other WHERE other.digest <> blobs.digest) "
        "WHERE digest = ?",
        digest,
    )


def change(file: Path, statement: str, digest: Digest) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement, (digest,))


@pytest.mark.parametrize(("harm", "told"), [(delete, BlobMissing), (damage, BlobCorrupt)])
def test_what_is_lost_is_told_when_it_is_asked_for(
    tmp_path: Path, harm: Callable[[Path, Digest], None], told: type[Exception]
) -> None:
    with closing(written(tmp_path / "agent")) as runtime:
        root = trees_of(runtime)[-1]
        lost = below(runtime.blobs, root).folders["a1"]
        others = walk(runtime.blobs, root) - walk(runtime.blobs, lost)
        harm(runtime.log.path, lost)
        ahead = ReadAhead(runtime.blobs)
        ahead.trees([root], with_files=True)
        for digest in others:
            assert ahead.get(digest)
        with pytest.raises(told):
            ahead.get(lost)
        with pytest.raises(told):
            plan_collection(runtime)
        assert any(lost in problem for problem in check(runtime.reader).problems)


def test_plan_and_verification_ask_for_many_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(written(tmp_path / "agent")) as runtime:
        stored = len(runtime.reader.stored_forms())
        assert stored > 3 * COUNT
        asked = counted(runtime, monkeypatch)
        plan_collection(runtime)
        assert len(asked) < COUNT
        asked.clear()
        found = check(runtime.reader)
        assert found.blobs == stored
        assert not found.problems
        assert len(asked) < 2 * COUNT
