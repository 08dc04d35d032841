"""Trees that somebody made difficult, through whole rollbacks: refused or kept, never followed, never lost."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from instar.engine.initialize import initialize
from instar.engine.restoring.rollback import finish_begun, roll_back
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings, WatchSettings
from instar.engine.snapshot import take_snapshot
from instar.engine.watcher import Watcher
from instar.fsm.errors import BlobCorrupt, BlobMissing, Diverged, EffectFailedError, RollbackRefused
from instar.fsm.events import RollbackStarted, TreeCaptured
from instar.fsm.words import Digest, digest_of
from instar.store.trees import read_tree
from tests.crash.tree_scenes import MEMORY
from tests.engine.agents import PROJECT, code_only
from tests.engine.forgery import add_blob, damage_blob
from tests.engine.git_histories import git
from tests.engine.hostile import Seen, deep, everything, odd_things, opened
from tests.engine.workspaces import public_folder
from tests.store.test_trees import HOSTILE

CODE = {b"heuristics.py", b"notes.txt"}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the workspace, with files that a rollback would like to change if it got there."""
    (folder := tmp_path / "outside").mkdir()
    for name in ("theirs.txt", "heuristics.py", "notes.txt", "f0.py"):
        (folder / name).write_text("theirs\n")
    return folder


def unmanaged(runtime: Runtime) -> dict[str, str]:
    tree = runtime.state.tree
    assert tree is not None
    return read_tree(runtime.blobs, tree).unmanaged


def there_and_back(runtime: Runtime) -> tuple[Seen, Seen]:
    """Rolls back to the beginning and from there to how it was; gives what stood there at each."""
    done = roll_back(runtime, 1)
    first = everything(runtime.workspace.root)
    roll_back(runtime, f"snapshot:{done.safety}")
    return first, everything(runtime.workspace.root)


# ---- what is no file -------------------------------------------------------------------------------------------------


def test_links_pipes_sockets_devices_and_large_files_are_kept_and_never_followed(
    runtime: Runtime, outside: Path
) -> None:
    root = runtime.workspace.root
    odd_things(root, outside)
    (root / "heuristics.py").write_text("edited\n")
    before, theirs = everything(root), everything(outside)
    first, last = there_and_back(runtime)
    assert last == before
    assert everything(outside) == theirs
    kept = {b"pipe", b"socket", b".env", b"big.bin"} | ({b"device"} if os.geteuid() == 0 else set())
    assert first.keys() == CODE | kept
    assert all(first[path] == before[path] for path in kept)
    assert {os.fsencode(path) for path in unmanaged(runtime)} == kept


def test_folder_that_became_a_link_out_of_the_root_is_not_followed(runtime: Runtime, outside: Path) -> None:
    root = runtime.workspace.root
    (root / "pkg").mkdir()
    (root / "pkg" / "theirs.txt").write_text("ours\n")
    (root / "pkg" / "f0.py").write_text("ours\n")
    take_snapshot(runtime, "folder")
    shutil.rmtree(root / "pkg")
    (root / "pkg").symlink_to(outside)
    before, theirs = everything(root), everything(outside)
    done = roll_back(runtime, "snapshot:folder")
    assert (root / "pkg").is_dir()
    assert not (root / "pkg").is_symlink()
    assert (root / "pkg" / "theirs.txt").read_text() == "ours\n"
    roll_back(runtime, f"snapshot:{done.safety}")
    assert everything(root) == before
    assert everything(outside) == theirs


def swap_while_rolling_back(folder: Path, seconds: float, seed: int) -> tuple[int, int, int]:
    """Swaps a folder for a link out of the root, again and again, while rollbacks run.

    Returns:
        How many rollbacks were done, how many were refused, and how often the folder was swapped.
    """
    runtime = code_only(folder / "agent")
    root = runtime.workspace.root
    (outside := folder / "outside").mkdir()
    (root / "pkg").mkdir()
    for number in range(12):
        (root / "pkg" / f"f{number}.py").write_text("one\n")
        (outside / f"f{number}.py").write_text("theirs\n")
    take_snapshot(runtime, "one")
    for number in range(12):
        (root / "pkg" / f"f{number}.py").write_text("two\n")
    (root / "pkg" / "f3.py").unlink()
    take_snapshot(runtime, "two")
    theirs = everything(outside)
    stop = threading.Event()
    swapped = 0

    def swap() -> None:
        nonlocal swapped
        rng = random.Random(seed)
        while not stop.is_set():
            try:
                (root / "pkg").rename(folder / "aside")
                (root / "pkg").symlink_to(outside)
                swapped += 1
                time.sleep(rng.random() * 0.002)
                (root / "pkg").unlink()
                (folder / "aside").rename(root / "pkg")
            except OSError:  # a rollback was quicker: put the folder back if it is away
                with suppress(OSError):
                    _back(root, folder)
            time.sleep(rng.random() * 0.004)

    swapper = threading.Thread(target=swap)
    swapper.start()
    done = refused = 0
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            try:
                roll_back(runtime, f"snapshot:{('one', 'two')[done % 2]}")
                done += 1
            except (RollbackRefused, Diverged, EffectFailedError) as error:
                refused += 1
                _as_told(root, error)
            assert everything(outside) == theirs, "the restore went through a link"
    finally:
        stop.set()
        swapper.join()
    _back(root, folder)
    try:
        finish_begun(runtime)
    except RollbackRefused as error:
        _as_told(root, error)
    roll_back(runtime, "snapshot:one")
    assert {path.name: path.read_text() for path in (root / "pkg").iterdir()} == {
        f"f{number}.py": "one\n" for number in range(12)
    }
    assert everything(outside) == theirs
    runtime.close()
    return done, refused, swapped


def _as_told(root: Path, error: Exception) -> None:
    """Does what a refusal asks for: a folder that was swapped out in place of a link goes back where it was."""
    if (found := re.search(r"it is now at (.+)\. Move it where it belongs", str(error))) is not None:
        if (root / "pkg").is_symlink():
            (root / "pkg").unlink()
        if not (root / "pkg").exists():
            Path(found[1]).rename(root / "pkg")


def _back(root: Path, folder: Path) -> None:
    """Brings the folder back that the swapper took away; what was made in its place meanwhile gives way."""
    if not (folder / "aside").exists():
        return
    if (root / "pkg").is_symlink():
        (root / "pkg").unlink()
    elif (root / "pkg").is_dir():
        shutil.rmtree(root / "pkg")
    (folder / "aside").rename(root / "pkg")


def test_folder_swapped_for_a_link_during_restores_is_never_followed(tmp_path: Path) -> None:
    done, refused, swapped = swap_while_rolling_back(tmp_path, seconds=0.7, seed=1)
    assert swapped
    assert done + refused


# ---- git -------------------------------------------------------------------------------------------------------------


def test_git_its_nested_repositories_and_submodules_are_never_touched(tmp_path: Path) -> None:
    (root := tmp_path / "agent").mkdir()
    (library := tmp_path / "library").mkdir()
    for folder in (root, library):
        git("init", "-q", "-b", "main", cwd=folder)
        (folder / "code.py").write_text("one\n")
        git("add", ".", cwd=folder)
        git("commit", "-q", "-m", "one", cwd=folder)
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "sub", cwd=root)
    git("commit", "-q", "-m", "sub", cwd=root)
    git("clone", "-q", str(library), "nested", cwd=root)
    initialize(root, with_model=False)
    runtime = Runtime(root, actor="test")
    (root / "code.py").write_text("two\n")
    (root / "sub" / "code.py").write_text("two\n")
    (root / "nested" / "new.py").write_text("new\n")
    git("commit", "-q", "-a", "-m", "two", cwd=root / "sub")
    before = everything(root)
    own = {path: seen for path, seen in before.items() if b".git" in path.split(b"/")}
    first, last = there_and_back(runtime)
    assert last == before
    assert {path: seen for path, seen in first.items() if b".git" in path.split(b"/")} == own
    assert (root / "sub" / ".git").is_file()
    assert {path: reason for path, reason in unmanaged(runtime).items() if reason == "nested .git"}.keys() == {
        "sub/.git",
        "nested/.git",
    }
    for folder in (root, root / "sub", root / "nested"):
        git("fsck", "--strict", "--no-progress", cwd=folder)
    assert first[b"sub/code.py"] != before[b"sub/code.py"]
    runtime.close()


# ---- names -----------------------------------------------------------------------------------------------------------


def test_names_that_differ_in_case_or_normalization_alone_are_two_files(runtime: Runtime) -> None:
    root = runtime.workspace.root
    names = ["README", "readme", "Readme", "caf\u00e9", "cafe\u0301", "K", "\u212a", "stra\u00dfe", "STRASSE"]
    for name in names:
        (root / name).write_text(f"this is {name}\n")
    if len(list(root.iterdir())) < len(names):
        pytest.skip("this file system takes some of these names for the same")
    before = everything(root)
    first, last = there_and_back(runtime)
    assert first.keys() == CODE
    assert last == before


def test_names_of_any_bytes_come_back(runtime: Runtime) -> None:
    root = os.fsencode(runtime.workspace.root)
    for name in (b"-rf", b"new\nline", b"\x01\x7f", b"\xff\xfe", b"%2e%2e", b" ", b"n" * 255, b"...", b"~", b"a\\b"):
        Path(os.fsdecode(root + b"/" + name)).write_bytes(name)
    before = everything(runtime.workspace.root)
    first, last = there_and_back(runtime)
    assert first.keys() == CODE
    assert last == before


@pytest.mark.parametrize(("folders", "length"), [(16, 249), (100, 200)], ids=["4,000 bytes", "20,000 bytes"])
def test_path_as_long_as_the_system_takes_and_longer_comes_back(runtime: Runtime, folders: int, length: int) -> None:
    root = runtime.workspace.root
    names = [b"%03d" % depth + b"d" * (length - 3) for depth in range(folders)]
    deep(root, names, b"deep\n")
    before = everything(root)
    assert max(map(len, before)) >= 4000
    watcher = Watcher(runtime, threading.Event())
    watcher.start()
    try:
        first, last = there_and_back(runtime)
        assert first.keys() == CODE
        assert last == before
        deep(root, names, b"changed\n")
        watcher.rescan()
    finally:
        watcher.stop()
    assert runtime.blobs.has(Digest(digest_of(b"changed\n")))
    with opened(root, names[:1]):
        pass


# ---- a forged store --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_rollback_to_a_hostile_manifest_is_refused_and_moves_nothing(tmp_path: Path, name: str) -> None:
    runtime = code_only(tmp_path / "agent")
    root = runtime.workspace.root
    standing = runtime.state.tree
    assert standing is not None
    forged = runtime.blobs.put(HOSTILE[name])
    seq = runtime.log.append(TreeCaptured(tree=forged)).seq
    runtime.log.append(TreeCaptured(tree=standing))
    (root / "heuristics.py").write_text("edited\n")
    before = everything(root)
    with pytest.raises((BlobCorrupt, BlobMissing)):
        roll_back(runtime, seq)
    assert everything(root) == before
    assert runtime.state.restoring is None
    assert not list(runtime.reader.read(types=[RollbackStarted]))
    roll_back(runtime, 1)
    runtime.close()


@pytest.mark.parametrize("how", ["other bytes", "gone", "large"])
def test_corrupt_blob_is_told_before_anything_moves_and_other_points_are_left(tmp_path: Path, how: str) -> None:
    runtime = code_only(tmp_path / "agent")
    root = runtime.workspace.root
    content = b"large " * 300_000 if how == "large" else b"valuable\n"
    (root / "kept.txt").write_bytes(content)
    take_snapshot(runtime, "whole")
    (root / "kept.txt").unlink()
    (root / "new.py").write_text("new\n")
    runtime.close()
    if how == "large":
        add_blob(root, content).encode()
        place = root / ".instar" / "blobs" / digest_of(content)[:2] / digest_of(content)[2:]
        place.write_bytes(place.read_bytes()[:-20] + b"\0" * 20)
    else:
        damage_blob(root, digest_of(content), b"other\n" if how == "other bytes" else None)
    runtime = Runtime(root, actor="test")
    before = everything(root)
    with pytest.raises((BlobCorrupt, BlobMissing)):
        roll_back(runtime, "snapshot:whole")
    assert everything(root) == before
    assert runtime.state.restoring is None
    roll_back(runtime, 1)
    assert everything(root).keys() == CODE
    runtime.close()


# ---- rights ----------------------------------------------------------------------------------------------------------

NOBODY = """
import os, sys, tempfile
from pathlib import Path
from instar.engine.initialize import initialize
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.fsm.errors import InstarError
from tests.engine.agents import code_only
with tempfile.TemporaryDirectory() as folder:  # loads all of it, before nobody may read the libraries of root
    loaded = code_only(Path(folder))
    (Path(folder) / "notes.txt").write_text("two")
    roll_back(loaded, 1)
    loaded.close()
root = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
initialize(root, with_model=False)
runtime = Runtime(root, actor="test")
(root / "closed.py").write_text("secret"); (root / "closed.py").chmod(0)
(root / "shut").mkdir(); (root / "shut" / "x.py").write_text("x"); (root / "shut").chmod(0)
(root / "a.py").write_text("two")
done = roll_back(runtime, 1)
print((root / "a.py").read_text(), (root / "closed.py").exists(), (root / "shut").exists())
roll_back(runtime, f"snapshot:{done.safety}")
print((root / "a.py").read_text())
(root / "shut").chmod(0o700); (root / "closed.py").chmod(0o600)
print((root / "shut" / "x.py").read_text(), (root / "closed.py").read_text())
(root / "ro").mkdir(); (root / "ro" / "y.py").write_text("y"); (root / "ro").chmod(0o500)
(root / "a.py").write_text("three")
try:
    roll_back(runtime, 1)
except InstarError as error:
    print(type(error).__name__, (root / "a.py").read_text(), (root / "ro" / "y.py").read_text())
(root / "ro").chmod(0o700)
"""


def test_what_may_not_be_read_is_kept_and_what_may_not_be_written_is_refused() -> None:
    with public_folder() as folder:
        (root := folder / "agent").mkdir()
        root.chmod(0o777)
        (root / "a.py").write_text("one")
        (root / "a.py").chmod(0o666)
        environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run([sys.executable, "-c", NOBODY, str(root)], env=environ, capture_output=True, text=True)
        subprocess.run(["chmod", "-R", "u+rwX", str(root)], check=True)
        said = done.stdout.splitlines()
        assert done.returncode == 0, done.stderr
    assert said == ["one True True", "two", "x secret", "RollbackRefused three y"]


# ---- size ------------------------------------------------------------------------------------------------------------


def test_file_far_over_the_cap_is_named_and_left_alone(runtime: Runtime) -> None:
    place = runtime.workspace.root / "huge.bin"
    with place.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(123_456_789)
        file.write(b"mine")
    inode = place.stat().st_ino
    take_snapshot(runtime, "huge")
    assert unmanaged(runtime) == {"huge.bin": "over cap 10485760 bytes"}
    roll_back(runtime, 1)
    status = place.stat()
    assert (status.st_ino, status.st_size) == (inode, 1 << 30)
    with place.open("rb") as file:
        file.seek(123_456_789)
        assert file.read(4) == b"mine"


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_file_of_a_gibibyte_comes_back_when_the_cap_allows_it() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        settings = Settings(watch=WatchSettings(cap_bytes=2 << 30))
        root = Path(folder)
        initialize(root, settings=settings, with_model=False)
        runtime = Runtime(root, actor="test", settings=settings)
        piece = random.Random(1).randbytes(1 << 20)
        with (root / "huge.bin").open("wb") as file:
            for number in range(1024):
                file.write(number.to_bytes(8, "big") + piece[8:])
        before = everything(root)
        first, last = there_and_back(runtime)
        assert first == {}
        assert last == before
        runtime.close()
    print("\na file of 1 GiB went and came back")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_files_come_back() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        root = Path(folder)
        for number in range(100_000):
            place = root / f"p{number // 1000}" / f"q{number // 100 % 10}" / f"f{number}.py"
            if number % 100 == 0:
                place.parent.mkdir(parents=True)
            place.write_text(f"x = {number}\n")
        initialize(root, with_model=False)
        runtime = Runtime(root, actor="test")
        whole = everything(root)
        for number in range(0, 100_000, 10):
            place = root / f"p{number // 1000}" / f"q{number // 100 % 10}" / f"f{number}.py"
            place.unlink() if number % 20 else place.write_text("changed\n")
        shutil.rmtree(root / "p7")
        edited = everything(root)
        first, last = there_and_back(runtime)
        assert first == whole
        assert last == edited
        runtime.close()
    print("\na tree of 100,000 files came back, and went again")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_folder_swapped_again_and_again_is_never_followed() -> None:
    counts = []
    for seed in range(4):
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            counts.append(swap_while_rolling_back(Path(folder), seconds=8, seed=seed))
    done, refused, swapped = (sum(column) for column in zip(*counts, strict=True))
    print(
        f"\n{done} rollbacks and {refused} refusals while a folder was swapped for a link {swapped} times: 0 followed"
    )
