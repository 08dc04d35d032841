from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from instar.store.kept_vectors import KeptVectors

TEXTS = ["one", "two", "\ud800", ""]
ROWS = np.arange(16, dtype=np.float32).reshape(4, 4)


def kept(path: Path, way: str = "way", dim: int = 4) -> dict[str, list[float]]:
    with KeptVectors(path, way, dim) as again:
        found = {text: again.get(text) for text in TEXTS}
    return {text: row.tolist() for text, row in found.items() if row is not None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with KeptVectors(tmp_path / "memory" / "space.part", "way", 4) as made:
        made.put(TEXTS[:2], ROWS[:2])
        made.put(TEXTS[2:], ROWS[2:])
    return tmp_path / "memory" / "space.part"


def test_kept_vectors_are_there_again(path: Path) -> None:
    assert kept(path) == dict(zip(TEXTS, ROWS.tolist(), strict=True))


def test_file_that_is_cut_anywhere_keeps_the_whole_records_and_goes_on(path: Path) -> None:
    content = path.read_bytes()
    record = (len(content) - 32) // 4
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = max(0, length - 32) // record
        assert list(kept(path)) == TEXTS[:whole], length
        with KeptVectors(path, "way", 4) as again:
            again.put(TEXTS[whole:], ROWS[whole:])
        assert kept(path) == dict(zip(TEXTS, ROWS.tolist(), strict=True)), length


def test_flipped_byte_is_never_given(path: Path) -> None:
    content = path.read_bytes()
    wanted = dict(zip(TEXTS, ROWS.tolist(), strict=True))
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        found = kept(path)
        assert found.items() <= wanted.items()
        assert len(found) < 4


@pytest.mark.parametrize(("way", "dim"), [("other way", 4), ("way", 5)])
def test_file_made_otherwise_is_begun_anew(path: Path, way: str, dim: int) -> None:
    assert kept(path, way, dim) == {}
    assert kept(path) == {}


def test_disk_that_refuses_costs_what_was_kept_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "memory").write_text("a file")
    with KeptVectors(tmp_path / "memory" / "space.part", "way", 4) as refused:
        refused.put(TEXTS, ROWS)
        assert refused.get("one") is None
    assert "not kept" in caplog.text
