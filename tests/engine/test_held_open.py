from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.engine.files.held_open import held_open


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "a").write_bytes(b"a" * 100)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_file_that_nobody_or_a_reader_has_open_is_not_held(tmp_path: Path, folder: int) -> None:
    assert not held_open(folder, b"a")
    with (tmp_path / "a").open("rb"):
        assert not held_open(folder, b"a")


def test_file_that_this_process_writes_to_is_held_until_it_is_closed(tmp_path: Path, folder: int) -> None:
    with (tmp_path / "a").open("r+b"):
        assert held_open(folder, b"a")
    assert not held_open(folder, b"a")


def test_file_that_is_mapped_to_be_written_is_held_after_its_descriptor_is_closed(tmp_path: Path, folder: int) -> None:
    with (tmp_path / "a").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 100)
    assert held_open(folder, b"a")
    mapped.close()
    assert not held_open(folder, b"a")


def test_file_that_another_process_writes_to_is_held(tmp_path: Path, folder: int) -> None:
    script = "import sys; file = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        assert held_open(folder, b"a")
        other.communicate()
    assert not held_open(folder, b"a")


def test_what_is_gone_or_no_file_is_not_held(tmp_path: Path, folder: int) -> None:
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "below").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in (b"missing", b"link", b"below", b"pipe"):
        assert not held_open(folder, name)
