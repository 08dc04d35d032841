from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings

from instar.engine.files import beneath, held_open, open_beneath
from instar.engine.restoring import restore
from instar.engine.restoring.plan import Plan, Step
from instar.engine.restoring.restore import (
    check_plan,
    clear_staging,
    make_plan,
    read_plan,
    roll_forward,
    stage,
    write_plan,
)
from instar.engine.trees.ignore import Ignore, spared_by
from instar.fsm.errors import (
    BlobCorrupt,
    BlobMissing,
    ConfigError,
    Diverged,
    EffectFailedError,
    InputRefused,
    RollbackRefused,
)
from instar.fsm.events import Displaced
from instar.fsm.words import Digest, digest_of
from instar.store import failpoints
from instar.store.ports import BlobIntake
from instar.store.trees import Entry, Tree, changes
from tests.engine.workspaces import FolderBlobs, Wanted, as_nobody, at, build, look, public_folder, scan, workspaces
from tests.store.memory_blobs import MemoryBlobs

TEXT = ("file", 0o644, b"text")


@pytest.fixture(params=["renameat2", "links"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to swap and to open: the kernel's, and those where the file system or the kernel lacks them."""
    if request.param == "links":
        monkeypatch.setattr(beneath, "_renameat2", None)
        monkeypatch.setattr(open_beneath, "_syscall", None)
    return str(request.param)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


class Prepared:
    """A workspace that holds ``second``, and the plan that leads back to ``first``."""

    def __init__(self, root: Path, first: Wanted, second: Wanted, blobs: BlobIntake | None = None) -> None:
        self.root = root
        self.first = first
        self.second = second
        self.blobs: BlobIntake = MemoryBlobs() if blobs is None else blobs
        build(root, first)
        self.target = scan(root, self.blobs)
        build(root, second)
        self.plan = make_plan(scan(root, self.blobs), self.target)
        self.digest = write_plan(self.blobs, self.plan)
        self.staging = root / ".instar" / "staging" / self.digest

    def check(self) -> None:
        check_plan(self.root, self.plan, self.blobs)

    def stage(self) -> None:
        stage(self.root, self.staging, self.plan, self.blobs)

    def roll_forward(self) -> list[Displaced]:
        return roll_forward(self.root, self.staging, self.plan, self.blobs)


def test_any_tree_is_restored_byte_for_byte(kernel: str) -> None:
    @given(workspaces, workspaces)
    @settings(deadline=None, max_examples=100)
    def restored(first: Wanted, second: Wanted) -> None:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Prepared(Path(folder), first, second)
            assert read_plan(prepared.blobs, prepared.digest) == prepared.plan
            prepared.check()
            assert look(prepared.root) == second  # a check moves nothing
            prepared.stage()
            assert look(prepared.root) == second  # nor does staging
            assert prepared.roll_forward() == []
            assert look(prepared.root) == first
            assert scan(prepared.root, prepared.blobs) == prepared.target
            assert not prepared.staging.exists()
            assert prepared.roll_forward() == []
            assert look(prepared.root) == first

    restored()


# Every kind of step: add, change, delete, mode, link to file and back, folder to file and back, an empty folder.
FIRST: Wanted = {
    b"same.py": ("file", 0o644, b"same"),
    b"changed.py": ("file", 0o755, b"old"),
    b"added/deep/x.py": ("file", 0o444, b"added"),
    b"mode": ("file", 0o600, b"mode"),
    b"link": ("link", 0o777, b"same.py"),
    b"was_link": ("file", 0o644, b"file"),
    b"folder_now": TEXT,
    b"file_now/x": TEXT,
    b"\xff%": ("file", 0o644, b""),
    b"empty": None,
}
SECOND: Wanted = {
    b"same.py": ("file", 0o644, b"same"),
    b"changed.py": ("file", 0o644, b"new"),
    b"deleted/x.py": TEXT,
    b"mode": ("file", 0o644, b"mode"),
    b"link": ("link", 0o777, b"nowhere"),
    b"was_link": ("link", 0o777, b"/etc/passwd"),
    b"folder_now/x": TEXT,
    b"file_now": TEXT,
    b"gone": None,
}


def die_at(spec: str, work: Callable[[], object]) -> bool:
    """Runs ``work`` in a process of its own with failpoints armed; says whether it was killed by one."""
    child = os.fork()
    if child == 0:
        try:
            failpoints.arm(spec)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize(
    "name", ["restore.part", "restore.staged", "restore.step", "restore.swapped", "restore.kept", "restore.finished"]
)
def test_killed_anywhere_then_rolled_forward_is_wholly_the_target(tmp_path: Path, kernel: str, name: str) -> None:
    passes = 0
    while True:
        root = tmp_path / str(passes)
        root.mkdir()
        prepared = Prepared(root, FIRST, SECOND, FolderBlobs(tmp_path / f"blobs{passes}"))
        (root / "changed.py").write_bytes(b"typed since")
        (root / "deleted" / "x.py").write_bytes(b"typed too")
        passes += 1
        if not die_at(f"{name}=kill@{passes}", prepared.roll_forward):
            break
        for path, leaf in look(root).items():  # each file is wholly old or wholly new
            assert leaf in (FIRST.get(path), SECOND.get(path), None) or leaf[2].startswith(b"typed")
        die_at(f"{name}=kill@1", prepared.roll_forward)  # the second process may die as well
        assert sorted(one.path for one in prepared.roll_forward()) == ["changed.py", "deleted/x.py"]
        assert look(root) == FIRST
        assert prepared.blobs.get(digest_of(b"typed since")) == b"typed since"
        assert prepared.blobs.get(digest_of(b"typed too")) == b"typed too"
        assert clear_staging(prepared.staging, prepared.blobs) == []
        assert not prepared.staging.exists()
    assert passes > 1


def test_random_trees_killed_at_random_places_reach_the_target() -> None:
    @given(workspaces, workspaces)
    @settings(deadline=None, max_examples=25)
    def killed(first: Wanted, second: Wanted) -> None:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as stored:
            prepared = Prepared(Path(folder), first, second, FolderBlobs(Path(stored)))
            for passes in (3, 1, 2):
                die_at(f"restore.swapped=kill@{passes},restore.step=kill@{passes + 2}", prepared.roll_forward)
            assert prepared.roll_forward() == []
            assert look(prepared.root) == first

    killed()


ROLL_FORWARD = """
import sys, msgspec
from pathlib import Path
from instar.engine.restoring.restore import read_plan, roll_forward
from tests.engine.workspaces import WaitingBlobs
root, staging, stored, digest = sys.argv[1:]
blobs = WaitingBlobs(Path(stored))
displaced = roll_forward(Path(root), Path(staging), read_plan(blobs, digest), blobs)
blobs.append()
print(msgspec.json.encode(displaced).decode())
"""


def test_bytes_displaced_by_a_process_that_died_are_kept_by_the_next(tmp_path: Path) -> None:
    """The store writes a small blob only with the event that names it: a process that dies before loses it."""
    (root := tmp_path / "root").mkdir()
    prepared = Prepared(root, FIRST, SECOND, FolderBlobs(tmp_path / "blobs"))
    (root / "changed.py").write_bytes(b"typed since")
    command = [
        sys.executable,
        "-c",
        ROLL_FORWARD,
        str(root),
        str(prepared.staging),
        str(tmp_path / "blobs"),
        prepared.digest,
    ]
    environ = {**os.environ, "PYTHONPATH": "."}
    armed = {**environ, "INSTAR_FAILPOINTS": "restore.finished=kill"}
    assert subprocess.run(command, check=False, env=armed).returncode == -9
    assert look(root) == FIRST
    assert not prepared.blobs.has(digest_of(b"typed since"))
    again = subprocess.run(command, check=True, env=environ, stdout=subprocess.PIPE).stdout
    assert json.loads(again) == [{"path": "changed.py", "blob": digest_of(b"typed since")}]
    assert prepared.blobs.get(digest_of(b"typed since")) == b"typed since"


def test_staging_that_was_lost_is_staged_again(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, FIRST, SECOND)
    prepared.stage()
    for place in prepared.staging.iterdir():
        place.unlink()
    prepared.roll_forward()
    assert look(tmp_path) == FIRST


def test_slot_that_was_tampered_with_is_not_put_in_place(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, {b"a": ("file", 0o644, b"old")}, {b"a": ("file", 0o644, b"new")})
    prepared.stage()
    (prepared.staging / "0").write_bytes(b"other")
    assert prepared.roll_forward() == [Displaced("a", digest_of(b"other"))]
    assert look(tmp_path) == {b"a": ("file", 0o644, b"old")}


def test_full_disk_while_staging_moves_nothing_and_gives_room_back(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, FIRST, SECOND)
    failpoints.arm("restore.part=error@3")
    with pytest.raises(EffectFailedError, match="No space left"):
        prepared.stage()
    assert look(tmp_path) == SECOND
    assert list(prepared.staging.parent.iterdir()) == []
    prepared.roll_forward()
    assert look(tmp_path) == FIRST


def test_error_half_way_is_rolled_forward_later(tmp_path: Path, kernel: str) -> None:
    prepared = Prepared(tmp_path, FIRST, SECOND)
    for passes in (4, 2):
        failpoints.arm(f"restore.swapped=error@{passes}")
        with pytest.raises(EffectFailedError):
            prepared.roll_forward()
    failpoints.arm("")
    assert prepared.roll_forward() == []
    assert look(tmp_path) == FIRST


# ---- others at work --------------------------------------------------------------------------------------------------


def test_edit_since_the_plan_is_diverged_and_moves_nothing(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, FIRST, SECOND)
    (tmp_path / "changed.py").write_bytes(b"typed since")
    (tmp_path / "deleted" / "x.py").unlink()
    (tmp_path / "mode").unlink()
    before = look(tmp_path)
    with pytest.raises(Diverged, match=r"changed\.py is a file other .*; mode is gone"):
        prepared.check()
    assert look(tmp_path) == before


def test_what_is_already_as_planned_is_no_divergence(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, FIRST, SECOND)
    (tmp_path / "deleted" / "x.py").unlink()
    (tmp_path / "changed.py").write_bytes(b"old")
    (tmp_path / "changed.py").chmod(0o755)
    prepared.check()
    assert prepared.roll_forward() == []
    assert look(tmp_path) == FIRST


@pytest.mark.parametrize("path", ["changed.py", "deleted/x.py"])
def test_edit_at_the_moment_of_the_swap_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, path: str
) -> None:
    prepared = Prepared(tmp_path, FIRST, SECOND)

    def editing(real: Callable[..., None]) -> Callable[..., None]:
        def edit_then_move(from_fd: int, source: bytes, to_fd: int, target: bytes) -> None:
            # A change moves the file in from its slot; a deletion moves it out to its slot.
            if target == b"changed.py" or source == b"x.py":
                at(tmp_path, path.encode()).write_bytes(b"typed at that moment")
            real(from_fd, source, to_fd, target)

        return edit_then_move

    monkeypatch.setattr(restore, "exchange", editing(restore.exchange))  # type: ignore[attr-defined]
    if path == "deleted/x.py":
        monkeypatch.setattr(restore, "rename_noreplace", editing(restore.rename_noreplace))  # type: ignore[attr-defined]
        monkeypatch.setattr(restore, "exchange", beneath.exchange)
    assert prepared.roll_forward() == [Displaced(path, digest_of(b"typed at that moment"))]
    assert prepared.blobs.get(digest_of(b"typed at that moment")) == b"typed at that moment"
    assert look(tmp_path) == FIRST


def test_write_through_an_open_file_after_the_swap_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Prepared(tmp_path, {b"a": ("file", 0o644, b"old")}, {b"a": ("file", 0o644, b"new")})
    prepared.stage()
    real = held_open.hashed  # type: ignore[attr-defined]
    with (tmp_path / "a").open("ab", buffering=0) as editor:

        def hash_then_write(file: int) -> Entry:
            found = real(file)
            if found.blob == digest_of(b"new"):
                editor.write(b"er")
            return found

        monkeypatch.setattr(held_open, "hashed", hash_then_write)
        assert prepared.roll_forward() == [Displaced("a", digest_of(b"newer"))]
    assert prepared.blobs.get(digest_of(b"newer")) == b"newer"


def test_file_made_at_the_moment_of_an_add_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    prepared = Prepared(tmp_path, {b"a": ("file", 0o644, b"old")}, {})
    real = restore.rename_noreplace  # type: ignore[attr-defined]

    def made_first(*args: object) -> None:
        if not (tmp_path / "a").exists():
            (tmp_path / "a").write_bytes(b"mine")
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(restore, "rename_noreplace", made_first)
    assert prepared.roll_forward() == [Displaced("a", digest_of(b"mine"))]
    assert look(tmp_path) == prepared.first


def test_folder_swapped_for_a_link_is_refused_and_nothing_outside_is_touched(tmp_path: Path, kernel: str) -> None:
    (root := tmp_path / "root").mkdir()
    (outside := tmp_path / "outside").mkdir()
    for name in ("changed.py", "deleted.py", "__pycache__"):
        (outside / name).write_bytes(b"new") if name != "__pycache__" else (outside / name).mkdir()
    (outside / "__pycache__" / "changed.cpython-311.pyc").write_bytes(b"theirs")
    before = look(outside)
    prepared = Prepared(
        root,
        {b"p/changed.py": ("file", 0o644, b"old"), b"p/added.py": TEXT},
        {b"p/changed.py": ("file", 0o644, b"new"), b"p/deleted.py": ("file", 0o644, b"new")},
    )
    prepared.stage()
    (root / "p").rename(tmp_path / "p")
    (root / "p").symlink_to(outside)
    with pytest.raises(RollbackRefused, match="a link is not followed"):
        prepared.check()
    with pytest.raises(RollbackRefused, match=r"p in .* a link"):
        prepared.roll_forward()
    assert look(outside) == before
    (root / "p").unlink()
    (tmp_path / "p").rename(root / "p")
    assert prepared.roll_forward() == []
    assert look(root) == prepared.first


def test_folder_swapped_for_a_link_between_two_steps_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root := tmp_path / "root").mkdir()
    (outside := tmp_path / "outside").mkdir()
    first: Wanted = {b"p/%d.py" % number: ("file", 0o644, b"old") for number in range(4)}
    prepared = Prepared(root, first, dict.fromkeys(first, ("file", 0o644, b"new")))
    moved = 0

    def swap_folder(name: str) -> None:
        nonlocal moved
        moved += name == "restore.swapped"
        if moved == 2 and not (root / "p").is_symlink():
            (root / "p").rename(tmp_path / "p")
            (root / "p").symlink_to(outside)

    monkeypatch.setattr(restore, "failpoint", swap_folder)
    with pytest.raises(RollbackRefused):
        prepared.roll_forward()
    assert look(outside) == {}


# ---- what is not captured is left alone ------------------------------------------------------------------------------


def test_unmanaged_file_at_a_target_is_refused_by_name(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    build(tmp_path, {b"model.bin": ("file", 0o644, b"123")})
    target = scan(tmp_path, blobs, cap_bytes=4)
    build(tmp_path, {b"model.bin": ("file", 0o644, b"12345")})
    plan = make_plan(scan(tmp_path, blobs, cap_bytes=4), target)
    with pytest.raises(RollbackRefused, match=r"model\.bin is occupied by a file that was not captured"):
        check_plan(tmp_path, plan, blobs)
    assert (tmp_path / "model.bin").read_bytes() == b"12345"


def test_file_that_the_target_could_not_capture_is_kept(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    build(tmp_path, {b"model.bin": ("file", 0o644, b"12345"), b"a": TEXT})
    target = scan(tmp_path, blobs, cap_bytes=4)
    build(tmp_path, {b"model.bin": ("file", 0o644, b"123")})
    plan = make_plan(scan(tmp_path, blobs, cap_bytes=4), target)
    assert [step.path for step in plan.steps] == ["a"]
    assert plan.kept == {"model.bin": "not captured in the target: over cap 4 bytes"}
    roll_forward(tmp_path, tmp_path / ".instar" / "s", plan, blobs)
    assert (tmp_path / "model.bin").read_bytes() == b"123"


def test_file_that_the_target_ignored_is_kept(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    build(tmp_path, {b".gitignore": ("file", 0o644, b"*.csv\n"), b"out/a.csv": TEXT})
    target = scan(tmp_path, blobs)
    (tmp_path / ".gitignore").unlink()
    (tmp_path / "out" / "b.txt").write_bytes(b"b")
    current = scan(tmp_path, blobs)
    plan = make_plan(current, target, spared_by(target, blobs, Ignore()))
    assert [(step.action, step.path) for step in plan.steps] == [("add", ".gitignore"), ("delete", "out/b.txt")]
    assert plan.kept == {"out/a.csv": "not captured in the target: ignored"}


def test_ignored_and_unmanaged_files_survive_a_restore(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, {}, {b"pkg/a.py": TEXT, b"vendor/b.py": TEXT})
    for path in ("pkg/node_modules/x", "vendor/.git/HEAD", ".env", ".git/HEAD"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"left alone")
        (tmp_path / path).chmod(0o644)
    plan = make_plan(scan(tmp_path, prepared.blobs), prepared.target)
    assert plan.kept == {".env": "secret", "vendor/.git": "nested .git"}
    check_plan(tmp_path, plan, prepared.blobs)
    roll_forward(tmp_path, prepared.staging, plan, prepared.blobs)
    left = ("file", 0o644, b"left alone")
    assert look(tmp_path) == dict.fromkeys((b"pkg/node_modules/x", b"vendor/.git/HEAD", b".env", b".git/HEAD"), left)


def test_folder_with_unmanaged_content_in_the_way_of_a_file_is_refused(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, {b"a": TEXT}, {b"a/x": TEXT, b"a/b/y": TEXT})
    prepared.check()
    (tmp_path / "a" / "b" / "z.pyc").write_bytes(b"ignored")
    with pytest.raises(RollbackRefused, match=r"folder a is in the way, with a/b/z\.pyc"):
        prepared.check()
    with pytest.raises(RollbackRefused, match="a in"):
        prepared.roll_forward()
    assert (tmp_path / "a" / "b" / "z.pyc").read_bytes() == b"ignored"
    (tmp_path / "a" / "b" / "z.pyc").unlink()
    prepared.roll_forward()
    assert look(tmp_path) == {b"a": TEXT}


def test_device_in_the_way_is_refused(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, {b"a": TEXT}, {})
    os.mkfifo(tmp_path / "a")
    with pytest.raises(RollbackRefused, match="occupied by a device, pipe or socket"):
        prepared.check()
    with pytest.raises(RollbackRefused):
        prepared.roll_forward()
    assert stat.S_ISFIFO((tmp_path / "a").lstat().st_mode)


def test_folder_that_may_not_be_written_is_refused_before_anything_moves() -> None:
    script = (
        "from instar.store.trees import Tree\n"
        "blobs = MemoryBlobs()\n"
        "plan = restore.make_plan(scan(root, blobs), Tree(files={}))\n"
        "try: restore.check_plan(root, plan, blobs)\n"
        "except InstarError as error: print(type(error).__name__, error)\n"
    )
    with public_folder() as root:
        build(root, {b"p/a": TEXT})
        (root / "p").chmod(0o555)
        printed = as_nobody(root, script)
    assert printed.startswith("RollbackRefused")
    assert "the folder p cannot be written to" in printed


# ---- the store -------------------------------------------------------------------------------------------------------


def test_missing_or_damaged_blob_stops_the_check(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    (root := tmp_path / "root").mkdir()
    prepared = Prepared(root, FIRST, SECOND, blobs)
    for content, error in ((b"old", BlobMissing), (b"new", BlobMissing)):
        place = blobs.folder / digest_of(content)
        place.rename(tmp_path / "aside")
        with pytest.raises(error):
            prepared.check()
        (tmp_path / "aside").rename(place)
    prepared.check()


def test_file_that_does_not_fit_its_entry_is_corrupt(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    for entry in (
        Entry("file", 0o644, blobs.put(b"abc"), 4),
        Entry("link", 0o777, blobs.put(b""), 0),
        Entry("link", 0o777, blobs.put(b"a\0b"), 3),
    ):
        with pytest.raises(BlobCorrupt):
            check_plan(tmp_path, make_plan(Tree(files={}), Tree(files={"a": entry})), blobs)


def _entry() -> Entry:
    return Entry("file", 0o644, digest_of(b"x"), 1)


HOSTILE = [
    Plan(steps=(Step("../x", "add", None, _entry()),)),
    Plan(steps=(Step("/etc/passwd", "delete", _entry(), None),)),
    Plan(steps=(Step(".git/hooks/pre-commit", "add", None, _entry()),)),
    Plan(steps=(Step(".instar/log.db", "delete", _entry(), None),)),
    Plan(steps=(Step("a", "add", _entry(), _entry()),)),
    Plan(steps=(Step("a", "delete", None, _entry()),)),
    Plan(steps=(Step("a", "change", None, _entry()),)),
    Plan(steps=(Step("a", "add", None, _entry()), Step("a", "delete", _entry(), None))),
    Plan(steps=(Step("b", "add", None, _entry()), Step("a", "add", None, _entry()))),
    Plan(steps=(Step("a", "add", None, _entry()), Step("a/b", "add", None, _entry()))),
    Plan(steps=(Step("a", "add", None, _entry()),), make=("a/b",)),
    Plan(steps=(Step("a", "add", None, Entry("file", 0o4755, digest_of(b"x"), 1)),)),
    Plan(steps=(), make=("..",)),
    Plan(steps=(), unmake=("a/../..",)),
]


@pytest.mark.parametrize("plan", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_plan_is_refused(plan: Plan) -> None:
    blobs = MemoryBlobs()
    with pytest.raises(InputRefused):
        write_plan(blobs, plan)
    with pytest.raises(BlobCorrupt):
        read_plan(blobs, blobs.put(msgspec.json.encode(plan, order="sorted")))


@pytest.mark.parametrize(
    "content",
    [
        b'{"kept":{},"make":[],"steps":[],"unmake":[], "version":1}',
        b'{"version":1,"kept":{},"make":[],"steps":[],"unmake":[]}',
        b'{"kept":{},"make":["a"],"make":[],"steps":[],"unmake":[],"version":1}',
        b'{"kept":{},"make":[],"steps":[],"unmake":[],"version":2}',
        b'{"kept":{},"make":[],"steps":[],"unmake":[],"version":1,"z":0}',
        b"\xff",
    ],
)
def test_plan_that_is_not_spelled_as_written_is_refused(content: bytes) -> None:
    blobs = MemoryBlobs()
    assert read_plan(blobs, write_plan(blobs, Plan(steps=()))) == Plan(steps=())
    with pytest.raises(BlobCorrupt):
        read_plan(blobs, blobs.put(content))


def test_plan_with_equal_content_has_equal_digest(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    one = Prepared(tmp_path, FIRST, SECOND, blobs)
    two = Prepared(tmp_path, FIRST, SECOND, blobs)
    assert one.digest == two.digest
    assert isinstance(one.digest, str)
    assert read_plan(blobs, Digest(one.digest)) == two.plan


def test_undo_of_a_restore_leads_back(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, FIRST, SECOND)
    before = scan(tmp_path, prepared.blobs)
    prepared.roll_forward()
    undo = make_plan(scan(tmp_path, prepared.blobs), before)
    roll_forward(tmp_path, prepared.staging, undo, prepared.blobs)
    assert look(tmp_path) == SECOND
    assert changes(scan(tmp_path, prepared.blobs), before) == []


# ---- what a restored file is like ------------------------------------------------------------------------------------


def test_restored_file_has_a_fresh_time_and_no_stale_bytecode(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, {b"p/m.py": ("file", 0o644, b"X = 1\n")}, {b"p/m.py": ("file", 0o644, b"X = 2\n")})
    cache = tmp_path / "p" / "__pycache__"
    cache.mkdir()
    for name in ("m.cpython-311.pyc", "m.cpython-312.opt-1.pyc", "m.other.cpython-311.pyc", "mm.cpython-311.pyc"):
        (cache / name).write_bytes(b"compiled")
    prepared.stage()
    time.sleep(0.05)
    began = time.time()
    prepared.roll_forward()
    assert (tmp_path / "p" / "m.py").stat().st_mtime >= began - 0.02
    assert sorted(place.name for place in cache.iterdir()) == ["m.other.cpython-311.pyc", "mm.cpython-311.pyc"]


def test_python_runs_the_restored_code_even_within_one_second(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import m; print(m.X)"]
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    prepared = Prepared(tmp_path, {b"m.py": ("file", 0o644, b"X = 1\n")}, {b"m.py": ("file", 0o644, b"X = 2\n")})

    def run() -> bytes:
        return subprocess.run(command, cwd=tmp_path, env=environ, check=True, stdout=subprocess.PIPE).stdout

    assert run() == b"2\n"
    compiled = next((tmp_path / "__pycache__").iterdir())
    assert compiled.exists()
    prepared.roll_forward()
    recorded = int.from_bytes(compiled.read_bytes()[8:12], "little") if compiled.exists() else None
    os.utime(tmp_path / "m.py", (recorded, recorded) if recorded else None)  # the worst case: the same second
    assert run() == b"1\n"


def test_folder_emptied_of_code_is_removed_with_its_bytecode(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, {}, {b"pkg/m.py": TEXT})
    (tmp_path / "pkg" / "__pycache__").mkdir()
    (tmp_path / "pkg" / "__pycache__" / "m.cpython-311.pyc").write_bytes(b"compiled")
    prepared.check()
    prepared.roll_forward()
    assert look(tmp_path) == {}


def test_hard_link_from_outside_keeps_its_own_bytes(tmp_path: Path) -> None:
    (root := tmp_path / "root").mkdir()
    prepared = Prepared(root, {b"a": ("file", 0o644, b"old")}, {b"a": ("file", 0o644, b"new")})
    (tmp_path / "outside").hardlink_to(at(root, b"a"))
    prepared.roll_forward()
    assert (tmp_path / "outside").read_bytes() == b"new"
    assert look(root) == prepared.first


def test_staging_on_another_file_system_is_refused(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    prepared = Prepared(tmp_path, FIRST, SECOND)
    with (
        tempfile.TemporaryDirectory(dir=elsewhere) as folder,
        pytest.raises(RollbackRefused, match="another file system"),
    ):
        stage(tmp_path, Path(folder), prepared.plan, prepared.blobs)
    assert look(tmp_path) == SECOND


def test_failpoint_spec_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ConfigError):
        failpoints.arm("restore.step=explode")


def test_failpoint_fires_at_its_pass_only() -> None:
    failpoints.arm("a=error@2, b=error")
    failpoints.failpoint("a")
    failpoints.failpoint("c")
    with pytest.raises(OSError, match="failpoint a"):
        failpoints.failpoint("a")
    failpoints.failpoint("a")
    with pytest.raises(OSError, match="failpoint b"):
        failpoints.failpoint("b")
