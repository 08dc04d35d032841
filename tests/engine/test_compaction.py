"""A compaction stores the same bytes in less room; every blob reads as before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.engine.initialize import initialize
from instar.engine.keeping.compaction import compact
from instar.engine.keeping.integrity import check
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.watcher import rescan
from instar.fsm.errors import BlobCorrupt
from instar.fsm.words import Digest
from instar.store.packing import DEPTH_MAX
from tests.engine.workspaces import look as files_below

VERSIONS = 90


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    root = tmp_path / "agent"
    (root / "deep" / "er").mkdir(parents=True)
    source = random.Random(3)
    for number in range(12):
        lines = (f"value_{number}_{line} = {source.random()}\n" for line in range(120))
        (root / "deep" / "er" / f"m{number}.py").write_text("".join(lines))
    initialize(root, with_model=False)
    opened = Runtime(root, actor="test")
    yield opened
    opened.close()


def edit(runtime: Runtime, first: int, count: int) -> list[tuple[int, dict[bytes, object]]]:
    """Changes a line of one file again and again; gives where the log stood, and what the folder held."""
    found: list[tuple[int, dict[bytes, object]]] = []
    for number in range(first, first + count):
        path = runtime.workspace.root / "deep" / "er" / f"m{number % 3}.py"
        lines = path.read_text().splitlines()
        lines[number % len(lines)] = f"edit = {number}"
        path.write_text("\n".join(lines) + "\n")
        rescan(runtime)
        found.append((int(runtime.reader.head()), dict(files_below(runtime.workspace.root))))
    return found


def every_blob(runtime: Runtime) -> dict[Digest, bytes]:
    return {digest: runtime.blobs.get(digest) for digest, _ in runtime.reader.stored_blobs()}


def depths(runtime: Runtime) -> list[int]:
    return [len(runtime.blobs.rests_on(digest)) for digest, _ in runtime.reader.stored_blobs()]


def test_compacted_store_reads_as_before_in_less_room(runtime: Runtime) -> None:
    points = edit(runtime, 0, VERSIONS)
    before = every_blob(runtime)
    done = compact(runtime.log)
    assert every_blob(runtime) == before
    assert runtime.blobs.get_many(list(before)) == list(before.values())
    assert done.after_bytes < done.before_bytes / 3
    assert done.against > VERSIONS
    assert check(runtime.reader).problems == []
    for seq, files in (points[0], points[VERSIONS // 2]):
        roll_back(runtime, seq)
        assert files_below(runtime.workspace.root) == files


def test_what_stands_now_rests_on_nothing(runtime: Runtime) -> None:
    edit(runtime, 0, 12)
    compact(runtime.log)
    for path in sorted((runtime.workspace.root / "deep" / "er").iterdir()):
        assert runtime.blobs.rests_on(runtime.blobs.put(path.read_bytes())) == [], path
    assert runtime.state.tree is not None
    assert runtime.blobs.rests_on(runtime.state.tree) == []


def test_second_compaction_has_nothing_to_do(runtime: Runtime) -> None:
    edit(runtime, 0, 20)
    compact(runtime.log)
    before = runtime.reader.stored_forms()
    assert compact(runtime.log).blobs == 0
    assert runtime.reader.stored_forms() == before


def test_compactions_again_and_again_keep_the_ways_short(runtime: Runtime) -> None:
    contents: dict[Digest, bytes] = {}
    for turn in range(14):
        edit(runtime, 12 * turn, 12)
        contents |= every_blob(runtime)
        compact(runtime.log)
    assert every_blob(runtime) == contents
    assert 1 < max(depths(runtime)) <= DEPTH_MAX


def test_versions_that_come_back_make_no_circle(runtime: Runtime) -> None:
    path = runtime.workspace.root / "deep" / "er" / "m0.py"
    texts = [path.read_text() + f"# {number}\n" for number in range(3)]
    for turn in range(9):
        path.write_text(texts[turn % 3])
        rescan(runtime)
        if turn % 2:
            compact(runtime.log)
    contents = every_blob(runtime)
    compact(runtime.log)
    assert every_blob(runtime) == contents


def test_blob_pressed_to_something_else_is_never_stored(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that flips a bit is found before the old form is dropped."""
    edit(runtime, 0, 3)
    before = every_blob(runtime)
    from instar.engine.keeping import compaction

    real = compaction.press  # type: ignore[attr-defined]
    monkeypatch.setattr(compaction, "press", lambda content: real(content[:-1] + bytes([content[-1] ^ 1])))
    with pytest.raises(BlobCorrupt, match="nothing was changed"):
        compact(runtime.log)
    assert every_blob(runtime) == before
