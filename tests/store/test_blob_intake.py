"""What a whole tree puts into the store: many at once, large files part by part, durable before it is named."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.words import Digest, digest_of
from instar.store import blobs as blobs_module
from instar.store.blobs import FILE_BYTES_MIN
from instar.store.frames import frame
from instar.store.log import EventLog
from tests.store.logs import feedback

CONTENTS = [b"", b"a", b"a", *(b"%d" % n * 999 for n in range(40)), bytes(FILE_BYTES_MIN), b"a"]


def stored(log: EventLog, contents: list[bytes]) -> list[Digest]:
    hashed = [(digest_of(content), content) for content in contents]
    log.blobs.prepared(hashed)()
    return [digest for digest, _ in hashed]


def test_many_are_stored_as_each_alone(log: EventLog) -> None:
    digests = stored(log, CONTENTS)
    assert digests == [digest_of(content) for content in CONTENTS]
    assert [log.blobs.get(digest) for digest in digests] == CONTENTS
    log.append(feedback(1))
    assert log.blobs.waiting() == {}
    assert [log.blobs.get(digest) for digest in digests] == CONTENTS
    assert log.blobs.lacking([*digests, Digest("0" * 64)]) == {"0" * 64}


def test_many_are_read_as_each_alone_whether_they_wait_or_are_stored(log: EventLog) -> None:
    digests = stored(log, CONTENTS)
    assert log.blobs.get_many(digests) == CONTENTS
    log.append(feedback(1))
    assert log.blobs.get_many(digests) == CONTENTS
    log.blobs.put(b"waits")
    assert log.blobs.get_many([digest_of(b"waits"), digests[1]]) == [b"waits", b"a"]
    assert log.blobs.get_many([]) == []
    with pytest.raises(BlobMissing, match="0000"):
        log.blobs.get_many([*digests, Digest("0" * 64)])


@pytest.mark.parametrize("damage", [lambda form: form[:-3], lambda form: frame(b"other"), lambda form: b"no frame"])
def test_damaged_one_among_many_is_named(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    digests = stored(log, CONTENTS)
    log.append(feedback(1))
    bad = digests[9]
    damaged = damage(log.reader.blobs([bad])[bad])
    blobs, one = log.reader.blobs, log.reader.blob
    monkeypatch.setattr(log.reader, "blobs", lambda asked: blobs(asked) | ({bad: damaged} if bad in asked else {}))
    monkeypatch.setattr(log.reader, "blob", lambda asked: damaged if asked == bad else one(asked))
    for asked in (digests, digests[3:-2]):  # with the empty one, and without
        with pytest.raises(BlobCorrupt, match=bad):
            log.blobs.get_many(asked)
    assert log.blobs.get_many(digests[:9]) == CONTENTS[:9]
    assert log.blobs.get_many(digests[10:]) == CONTENTS[10:]


def test_what_waits_is_made_durable_before_it_fills_the_memory(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "WAITING_BYTES_MAX", 100)
    head = log.reader.head()
    digests = stored(log, [os.urandom(200) for _ in range(9)])
    assert log.blobs.waiting() == {}
    assert log.reader.blobs_known(digests) == set(digests)
    assert log.reader.head() == head


def test_parts_become_one_blob_in_a_file(log: EventLog) -> None:
    parts = [os.urandom(700_000) for _ in range(3)]
    digest = log.blobs.put_parts(iter(parts), 2_100_000)
    assert digest == digest_of(b"".join(parts))
    assert log.blobs.is_file(digest)
    assert log.blobs.get(digest) == b"".join(parts)
    assert log.blobs.put_parts(iter(parts), 2_100_000) == digest


def test_parts_that_end_in_an_error_leave_nothing(log: EventLog) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(FILE_BYTES_MIN)
        raise OSError(5, "bad sector")

    with pytest.raises(OSError, match="bad sector"):
        log.blobs.put_parts(broken(), 2 * FILE_BYTES_MIN)
    assert list(log.blobs.files()) == []
    assert [path for path in (log.path.parent / "blobs").rglob("*") if path.is_file()] == []


def test_large_file_is_captured_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    with (tmp_path / "agent" / "large.bin").open("wb") as file:
        for number in range(160):
            file.write(number.to_bytes(4, "big") * (1 << 18))
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from instar.engine.initialize import initialize\n"
        "from instar.engine.settings import load_settings\n"
        "settings = load_settings(Path(sys.argv[1]), watch__cap_bytes=str(1 << 30))\n"
        "import instar.engine.trees.capture, instar.store.sqlite_journal\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "initialize(Path(sys.argv[1]), settings=settings, with_model=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "agent")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    assert int(printed.stdout) < 100 * 1024  # KiB, for a file of 160 MiB
    kept = EventLog(tmp_path / "agent" / ".instar" / "log.db")
    with (tmp_path / "agent" / "large.bin").open("rb") as file:
        assert kept.blobs.is_file(Digest(hashlib.file_digest(file, "sha256").hexdigest()))
    kept.close()


@pytest.mark.parametrize(
    "name", ["\0" * 64, "../" * 21 + "x", "ab/../../../../etc/passwd", ""], ids=["nul", "up", "down", "empty"]
)
def test_name_that_is_no_digest_is_followed_nowhere(log: EventLog, name: str) -> None:
    with pytest.raises(BlobMissing):
        log.blobs.get(Digest(name))
