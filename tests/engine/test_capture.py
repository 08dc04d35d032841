from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from instar.engine.files import settled
from instar.engine.files.settled import read_settled
from instar.engine.trees import intake
from instar.engine.trees import scan as scan_module
from instar.engine.trees.capture import Capture
from instar.engine.trees.ignore import Ignore
from instar.engine.trees.places import Place, Seen
from instar.engine.trees.stat_cache import StatCache, is_settled
from instar.fsm.errors import ConfigError, LogUnavailable
from instar.fsm.words import Digest, digest_of
from instar.store.paths import DEPTH_MAX, decode_path
from instar.store.trees import Tree, changes
from tests.engine.workspaces import Wanted, as_nobody, build, look, public_folder, scan, workspaces
from tests.store.memory_blobs import MemoryBlobs


def as_wanted(tree: Tree, blobs: MemoryBlobs) -> Wanted:
    found: Wanted = {decode_path(path): None for path in tree.folders}
    for path, entry in tree.files.items():
        content = blobs.get(entry.blob)
        assert entry.size == len(content)
        found[decode_path(path)] = (entry.kind, entry.mode, content)
    return found


def settle() -> None:
    """Waits until the clock that stamps files has ticked: what was written before is then not racy."""
    time.sleep(0.06)


@given(workspaces, workspaces)
@settings(deadline=None, max_examples=60)
def test_scan_captures_exactly_what_stands(first: Wanted, second: Wanted) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, blobs = Path(folder), MemoryBlobs()
        (root / ".instar").mkdir()
        cache = StatCache(root / ".instar" / "stat-cache")
        capture = Capture(root, blobs, Ignore(), cache=cache)
        for wanted in (first, second):  # the second time with a cache
            build(root, wanted)
            tree = capture.scan()
            assert as_wanted(tree, blobs) == look(root) == wanted
            assert tree.unmanaged == {}
            assert capture.scan(full=True) == capture.scan() == tree


def test_second_scan_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, {b"a.py": ("file", 0o644, b"a"), b"l": ("link", 0o777, b"a.py")})
    settle()
    blobs = MemoryBlobs()
    first = scan(tmp_path, blobs)
    read: list[str] = []

    def counting(fd: int, name: str, *others: Any, **named: Any) -> object:
        read.append(name)
        return read_settled(fd, name, *others, **named)

    monkeypatch.setattr(scan_module, "read_settled", counting)
    assert scan(tmp_path, blobs) == first
    assert read == []
    (tmp_path / "a.py").write_bytes(b"b")
    assert scan(tmp_path, blobs).files["a.py"].blob == digest_of(b"b")
    assert read == ["a.py"]


def test_look_that_finds_nothing_opens_nothing_and_one_change_opens_the_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, {f"p{n}/q/{name}".encode(): ("file", 0o644, b"a") for n in range(3) for name in ("a", "é%", "b")})
    blobs = MemoryBlobs()
    capture = Capture(tmp_path, blobs, Ignore(), cache=StatCache(tmp_path.parent / "stat-cache"))
    settle()
    capture.look()
    settle()
    before = capture.look()
    opened: list[object] = []
    real = os.open

    def noting(path: Any, *others: Any, **named: Any) -> int:
        opened.append(path)
        return real(path, *others, **named)

    monkeypatch.setattr(os, "open", noting)
    assert capture.look() == before
    of_its_own = [tmp_path, tmp_path.parent / "stat-cache.clock"]
    assert opened == of_its_own
    (tmp_path / "p1" / "q" / "é%").write_bytes(b"changed")
    opened.clear()
    assert capture.look() != before
    assert opened == [*of_its_own, "p1", "q", "é%"]


def test_file_read_again_because_it_was_young_makes_no_folder_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, {b"p/a": ("file", 0o644, b"a"), b"p/b": ("file", 0o644, b"b")})
    blobs = MemoryBlobs()
    capture = Capture(tmp_path, blobs, Ignore(), cache=StatCache(tmp_path.parent / "stat-cache"))
    with monkeypatch.context() as patch:  # as the clock stands, unless this process waited for its turn since
        patch.setattr(StatCache, "now_ns", lambda _: (tmp_path / "p" / "a").stat().st_mtime_ns)
        before = capture.look()
    assert not capture.root_place.folders["p"].rows["a"].settled
    blobs.contents.clear()
    settle()
    assert capture.look() == before
    assert capture.root_place.folders["p"].rows["a"].settled
    assert blobs.contents == {}
    (tmp_path / "p" / "a").chmod(0o600)
    assert capture.look() != before


def test_folder_swapped_for_a_link_to_itself_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    build(tmp_path / "root", {b"p/q/a": ("file", 0o644, b"a")})
    blobs = MemoryBlobs()
    capture = Capture(tmp_path / "root", blobs, Ignore(), cache=StatCache(tmp_path / "stat-cache"))
    settle()
    capture.look()
    settle()
    (tmp_path / "root" / "p" / "q").rename(tmp_path / "q")
    (tmp_path / "root" / "p" / "q").symlink_to(tmp_path / "q")
    assert as_wanted(capture.scan(), blobs) == {b"p/q": ("link", 0o777, os.fsencode(tmp_path / "q"))}


@pytest.mark.parametrize("limit", ["_ALONE_BYTES", "_BESIDE_BYTES"])
def test_many_files_are_stored_by_threads_as_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    build(tmp_path, {f"p{n % 7}/f{n}".encode(): ("file", 0o644, b"%d" % (n % 90)) for n in range(300)})
    alone = scan(tmp_path, MemoryBlobs())
    monkeypatch.setattr(intake, limit, 0)
    before, storing = set(threading.enumerate()), set[str]()

    class Noted(MemoryBlobs):
        def put(self, content: bytes) -> Digest:
            storing.add(threading.current_thread().name)
            return super().put(content)

    assert scan(tmp_path, Noted()) == alone
    assert any(name.startswith("instar-intake") for name in storing)
    assert set(threading.enumerate()) <= before


def test_same_size_with_its_time_put_back_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.utime(path, ns=(1, 1))
    settle()
    blobs = MemoryBlobs()
    scan(tmp_path, blobs)
    settle()
    path.write_bytes(b"new")
    os.utime(path, ns=(1, 1))
    assert scan(tmp_path, blobs).files["a"].blob == digest_of(b"new")


def test_same_size_written_again_and_again_is_always_seen(tmp_path: Path) -> None:
    (tmp_path / ".instar").mkdir()
    blobs = MemoryBlobs()
    capture = Capture(tmp_path, blobs, Ignore(), cache=StatCache(tmp_path / ".instar" / "stat-cache"))
    for number in range(300):
        content = b"%03d" % number
        with (tmp_path / "a").open("r+b" if number else "wb") as file:
            file.write(content)
        assert capture.scan().files["a"].blob == digest_of(content)


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "vouched"),
    [
        (10_000_000_007, 10_000_000_007, True),
        (20_000_000_007, 10_000_000_007, False),  # as new as the scan
        (10_000_000_007, 20_000_000_007, False),
        (19_999_999_007, 10_000_000_007, False),  # within one tick of it
        (30_000_000_007, 10_000_000_007, False),  # from the future
        (19_000_000_000, 10_000_000_007, False),  # whole seconds: the file system's clock may be coarse
    ],
)
def test_racy_file_is_not_vouched_for(tmp_path: Path, mtime_ns: int, ctime_ns: int, vouched: bool) -> None:
    path = tmp_path / "a"
    path.touch()
    status = path.stat()
    fields = list(status)
    fake = os.stat_result([*fields[:10], 0.0, 0.0, 0.0, 0, mtime_ns, ctime_ns])
    assert (fake.st_mtime_ns, fake.st_ctime_ns) == (mtime_ns, ctime_ns)
    settled = is_settled(mtime_ns, ctime_ns, 20_000_000_007)
    seen = Seen.of(fake, digest_of(b""), settled=settled)
    assert seen.is_of(fake) is vouched


def test_cache_does_not_vouch_for_a_blob_that_is_not_stored(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    settle()
    first = scan(tmp_path, MemoryBlobs())
    emptied = MemoryBlobs()
    assert scan(tmp_path, emptied) == first
    assert emptied.get(digest_of(b"a")) == b"a"


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"\x93" * 99, _flip]
)
def test_damaged_cache_is_an_empty_cache(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a").write_bytes(b"a")
    settle()
    blobs = MemoryBlobs()
    tree = scan(tmp_path, blobs)
    path = tmp_path / ".instar" / "stat-cache"
    assert StatCache(path).load()[1].rows
    path.write_bytes(damage(path.read_bytes()))
    assert StatCache(path).load() == ("", Place())
    assert scan(tmp_path, blobs) == tree


def test_cap_is_ten_mebibytes_and_the_file_over_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "fits").write_bytes(bytes(10 << 20))
    (tmp_path / "over").write_bytes(bytes((10 << 20) + 1))
    blobs = MemoryBlobs()
    tree = Capture(tmp_path, blobs, Ignore(), cache=StatCache(tmp_path / ".instar" / "c")).scan()
    assert set(tree.files) == {"fits"}
    assert tree.unmanaged == {"over": "over cap 10485760 bytes"}


def test_lowered_cap_holds_for_a_cached_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    settle()
    blobs = MemoryBlobs()
    assert "a" in scan(tmp_path, blobs).files
    assert scan(tmp_path, blobs, cap_bytes=4).unmanaged == {"a": "over cap 4 bytes"}


def test_what_is_no_file_is_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        tree = scan(tmp_path, MemoryBlobs())
    assert tree.unmanaged == {"pipe": "fifo", "s": "socket"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files")
def test_device_is_named_and_not_read(tmp_path: Path) -> None:
    os.mknod(tmp_path / "zero", 0o20666, os.makedev(1, 5))
    assert scan(tmp_path, MemoryBlobs()).unmanaged == {"zero": "device"}


def test_links_are_captured_as_links_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"not yours")
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(".")
    (root / "dangling").symlink_to("nowhere")
    (root / "up").symlink_to("../outside/secret.txt")
    blobs = MemoryBlobs()
    tree = scan(root, blobs)
    assert {path: blobs.get(entry.blob) for path, entry in tree.files.items()} == {
        "folder": os.fsencode(outside),
        "loop": b".",
        "dangling": b"nowhere",
        "up": b"../outside/secret.txt",
    }
    assert {entry.kind for entry in tree.files.values()} == {"link"}
    assert not blobs.has(digest_of(b"not yours"))


def test_folder_swapped_for_a_link_while_listed_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"not yours")
    root = tmp_path / "root"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg" / "x").write_bytes(b"mine")
    real = os.open

    def swapping(path: object, flags: int, *args: object, **named: object) -> int:
        if path == "pkg" and not (root / "pkg").is_symlink():
            shutil.rmtree(root / "pkg")
            (root / "pkg").symlink_to(outside)
        return real(path, flags, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swapping)
    tree = scan(root, blobs := MemoryBlobs())
    assert tree.files["pkg"].kind == "link"
    assert "pkg/x" not in tree.files
    assert not blobs.has(digest_of(b"not yours"))


def test_nested_git_is_named_and_its_neighbours_are_captured(tmp_path: Path) -> None:
    (tmp_path / "vendor" / ".git").mkdir(parents=True)
    (tmp_path / "vendor" / ".git" / "HEAD").write_bytes(b"ref")
    (tmp_path / "vendor" / "a.py").write_bytes(b"a")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(b"ref")
    tree = scan(tmp_path, MemoryBlobs())
    assert set(tree.files) == {"vendor/a.py"}
    assert tree.unmanaged == {"vendor/.git": "nested .git"}


def test_folder_beyond_any_sane_depth_is_named(tmp_path: Path) -> None:
    here = tmp_path
    for _ in range(DEPTH_MAX + 3):
        here /= "d"
    here.mkdir(parents=True)
    (here / "x").write_bytes(b"x")
    tree = scan(tmp_path, MemoryBlobs())
    assert tree.files == {}
    assert tree.unmanaged == {"/".join("d" * DEPTH_MAX): f"deeper than {DEPTH_MAX} folders"}


# ---- others at work --------------------------------------------------------------------------------------------------


@pytest.fixture
def between_reading_and_checking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], None]]]:
    """Actions that another program takes, one after each reading of a file."""
    actions: list[Callable[[], None]] = []
    real = settled._read_all

    def interrupted(file: int, size: int) -> bytes:
        content = real(file, size)
        if actions:
            actions.pop(0)()
        return content

    monkeypatch.setattr(settled, "_read_all", interrupted)
    yield actions
    assert actions == []


Actions = list[Callable[[], None]]


def test_file_deleted_while_read_is_absent(tmp_path: Path, between_reading_and_checking: Actions) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    between_reading_and_checking.append(path.unlink)
    assert scan(tmp_path, MemoryBlobs()) == Tree(files={})


def test_file_replaced_while_read_is_captured_as_the_new_one(
    tmp_path: Path, between_reading_and_checking: Actions
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def replace() -> None:
        (tmp_path / "b").write_bytes(b"new")
        (tmp_path / "b").replace(path)

    between_reading_and_checking.append(replace)
    assert scan(tmp_path, MemoryBlobs()).files["a"].blob == digest_of(b"new")


def test_file_that_changes_at_every_reading_is_named(tmp_path: Path, between_reading_and_checking: Actions) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"")

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"x")

    between_reading_and_checking += [append] * settled.ATTEMPTS
    tree = scan(tmp_path, MemoryBlobs())
    assert tree == Tree(files={}, unmanaged={"a.txt": "changes while read"})


def test_scan_beside_a_busy_writer_captures_only_whole_versions(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "n = 0\n"
        "while not os.path.exists(sys.argv[1]):\n"
        "    n += 1\n"
        "    for name in ('a', 'b'):\n"
        "        with open(name + '.tmp', 'wb') as file: file.write(b'%d\\n' % n * 20000)\n"
        "        os.replace(name + '.tmp', name)\n"
        "    if n % 5 == 0: os.unlink('b')\n"
    )
    (root := tmp_path / "root").mkdir()
    versions = set[bytes]()
    deadline = time.monotonic() + 120
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "enough")], cwd=root) as writer:
        try:
            blobs = MemoryBlobs()
            while len(versions) < 10:
                assert writer.poll() is None
                assert time.monotonic() < deadline
                tree = scan(root, blobs)
                for name in {"a", "b"} & set(tree.files):
                    content = blobs.get(tree.files[name].blob)
                    assert len(set(content.splitlines())) == 1
                    assert content.count(b"\n") == 20000
                    versions.add(content)
        finally:
            (tmp_path / "enough").touch()
    assert writer.returncode == 0


class FullBlobs(MemoryBlobs):
    def put(self, content: bytes) -> Digest:
        raise LogUnavailable("the disk is full")


def test_scan_that_cannot_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    settle()
    old = scan(tmp_path, MemoryBlobs())
    (tmp_path / "a").write_bytes(b"b")
    with pytest.raises(LogUnavailable):
        scan(tmp_path, FullBlobs())
    assert changes(old, scan(tmp_path, MemoryBlobs()))[0].path == "a"


def test_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one that exists"):
        Capture(tmp_path / "none", MemoryBlobs(), Ignore(), cache=StatCache(tmp_path / "cache")).scan()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC])
def test_fault_of_the_machine_is_no_property_of_a_file(number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)):
        settled.unreadable(OSError(number, os.strerror(number)))
    assert settled.unreadable(OSError(errno.EIO, "bad sector")) == "unreadable: bad sector"


def test_exhausted_descriptors_are_an_error_and_no_empty_tree(tmp_path: Path) -> None:
    script = (
        "import os, resource, sys\n"
        "from pathlib import Path\n"
        "from tests.engine.workspaces import scan\n"
        "from tests.store.memory_blobs import MemoryBlobs\n"
        "root = Path(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))\n"
        "try:\n"
        "    tree = scan(root, MemoryBlobs())\n"
        "except OSError as error:\n"
        "    sys.exit(7 if error.errno == 24 else 1)\n"
        "sys.exit(2)\n"
    )
    here = tmp_path
    for _ in range(20):
        here /= "d"
    here.mkdir(parents=True)
    (here / "x").write_bytes(b"x")
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    assert result.returncode == 7


def test_what_may_not_be_read_is_named() -> None:
    script = "tree = scan(root, MemoryBlobs())\nprint(sorted(tree.files), sorted(tree.unmanaged.items()))"
    with public_folder() as root:
        build(root, {b"open": ("file", 0o644, b"a"), b"closed": ("file", 0, b"b"), b"folder/x": ("file", 0o644, b"c")})
        (root / "folder").chmod(0)
        printed = as_nobody(root, script)
    assert printed == (
        "['open'] [('closed', 'unreadable: Permission denied'), ('folder', 'unreadable: Permission denied')]\n"
    )


def test_other_file_system_below_is_named(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    script = (
        'mount -t tmpfs none "$1/mounted" && echo x > "$1/mounted/x" && exec "$2" -c "\n'
        "import sys; from pathlib import Path; from tests.engine.workspaces import scan; "
        "from tests.store.memory_blobs import MemoryBlobs\n"
        'print(scan(Path(sys.argv[1]), MemoryBlobs()).unmanaged)" "$1"'
    )
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    command = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    if "mount" in result.stderr or "unshare" in result.stderr:
        pytest.skip(f"no private mounts here: {result.stderr.strip()}")
    assert result.stdout == "{'mounted': 'another file system'}\n"
