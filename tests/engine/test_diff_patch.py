"""``instar diff`` gives patches that ``git apply`` takes: the same bytes, names, modes and links come of them."""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instar.engine.cli.main import main
from instar.engine.differences import git_names
from instar.engine.differences.unified import unified
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.fsm.words import digest_of
from instar.store.paths import decode_path
from instar.store.tree_nodes import Entry
from instar.store.trees import Change
from tests.engine.agents import PROJECT, code_only
from tests.engine.workspaces import Leaf, Wanted, build, look, public_folder
from tests.store.memory_blobs import MemoryBlobs

UNTOUCHED = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One agent for all tests here: each builds its folder anew and records two points."""
    runtime = code_only(tmp_path_factory.mktemp("patches") / "agent")
    yield runtime
    runtime.close()


def recorded(runtime: Runtime, wanted: Wanted) -> str:
    """Brings the folder to hold exactly this, and names the event that captured it."""
    build(runtime.workspace.root, wanted)
    return str(take_snapshot(runtime, "point").seq)


def told(root: Path, *arguments: str, code: int = 0, encoding: str = "utf-8") -> bytes:
    """Runs ``instar diff``; gives the bytes that it prints, or those of its error."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    with patch.object(sys, "stdout", out), patch.object(sys, "stderr", err):
        assert main(["diff", *arguments, "-C", str(root)]) == code, err.buffer.getvalue()
    said = out if code == 0 else err
    said.flush()
    buffer = said.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


def apply(folder: Path, patched: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "apply", "-"],
        cwd=folder,
        input=patched,
        capture_output=True,
        check=False,
        env={**UNTOUCHED, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        umask=0o022,
    )


def applied(folder: Path, before: Wanted, patched: bytes) -> Wanted:
    """Gives what a folder holds after git applied a patch to it."""
    build_anew(folder, before)
    done = apply(folder, patched)
    assert done.returncode == 0, (patched, done.stderr)
    return look(folder)


def build_anew(folder: Path, wanted: Wanted) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    build(folder, wanted)


def text(content: bytes, mode: int = 0o644) -> Leaf:
    return "file", mode, content


def link(target: bytes) -> Leaf:
    return "link", 0o777, target


ODD = [
    b"a",
    b"b",
    b" ",
    b"\t",
    b"\n",
    b'"',
    b"\\",
    b"\xff",
    "é".encode(),
    b"%41",
    b"%",
    b"\x01",
    b"\x7f",
    b"\r",
    b"-- ",
]
names = st.lists(st.sampled_from(ODD), min_size=1, max_size=3).map(b"".join) | st.sampled_from([b"x", b"x b", b"x "])
lines = st.sampled_from(
    [
        b"x",
        b"",
        b"caf\xe9",
        "é".encode(),
        b"\r",
        b"- a",
        b"@@ -1 +1 @@",
        b"\\ No newline",
        b"diff --git a/x b/x",
        b"-- ",
    ]
)
texts = st.tuples(st.lists(lines, max_size=9).map(b"\n".join), st.sampled_from([b"", b"\n"])).map(b"".join)
binaries = st.sampled_from([b"\0", bytes(range(256)) * 3, b"x\n" * 40 + b"\0"]) | st.binary(max_size=120)
files = st.tuples(st.just("file"), st.sampled_from([0o644, 0o755]), texts | texts | binaries)
links = st.tuples(st.just("link"), st.just(0o777), st.sampled_from([b"to x", b"no\nwhere/\xff", b"../\t"]))
"""None leads to itself: git can put no folder in the place of such a link, since it asks for what is below it."""


def _consistent(drawn: dict[tuple[bytes, ...], Leaf]) -> Wanted:
    """Drops what lies below a file or a link."""
    return {
        b"/".join(parts): leaf
        for parts, leaf in drawn.items()
        if not any(parts[:depth] in drawn for depth in range(1, len(parts)))
    }


folders = st.dictionaries(st.lists(names, min_size=1, max_size=2).map(tuple), files | files | links, max_size=6)
trees = folders.map(_consistent)
edits = st.tuples(folders, folders, folders).map(
    lambda drawn: (_consistent(drawn[0] | drawn[1]), _consistent(drawn[0] | drawn[2]))
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edited=edits)
def test_patch_makes_the_second_tree_of_the_first(
    runtime: Runtime, tmp_path: Path, edited: tuple[Wanted, Wanted]
) -> None:
    before, after = edited
    first, second = recorded(runtime, before), recorded(runtime, after)
    root = runtime.workspace.root
    for a, b, old, new in ((first, second, before, after), (second, first, after, before)):
        if old != new:
            assert applied(tmp_path / "copy", old, told(root, a, b)) == new
    only = told(root, first, second, ".")
    assert told(root, first, second).startswith(only)
    assert bool(only) == (before != after)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_text_that_is_no_utf8_keeps_its_bytes(runtime: Runtime, encoding: str) -> None:
    first, second = recorded(runtime, {}), recorded(runtime, {b"l.txt": text(b"na\xefve caf\xe9\n")})
    patched = told(runtime.workspace.root, first, second, "l.txt", encoding=encoding)
    header = b"diff --git a/l.txt b/l.txt\nnew file mode 100644\n--- /dev/null\n+++ b/l.txt\n"
    assert patched == header + b"@@ -0,0 +1 @@\n+na\xefve caf\xe9\n"
    counted = msgspec.json.decode(told(runtime.workspace.root, first, second, "--json", encoding=encoding))
    assert [one["path"] for one in counted["data"]["diff"]["code"]["paths"]] == ["l.txt"]


def test_binary_patch_leads_both_ways_and_names_what_git_names(runtime: Runtime) -> None:
    first, second = recorded(runtime, {b"b": text(b"")}), recorded(runtime, {b"b": text(b"\0\1\2")})
    patched = told(runtime.workspace.root, first, second, "b").splitlines()
    assert patched[:4] == [
        b"diff --git a/b b/b",
        b"index %b..%b 100644" % (git_name(b""), git_name(b"\0\1\2")),
        b"GIT binary patch",
        b"literal 3",
    ]
    assert patched[5:7] == [b"", b"literal 0"]
    assert patched[8:] == [b""]


def git_name(content: bytes) -> bytes:
    asked = ["git", "hash-object", "--no-filters", "--stdin"]
    return subprocess.run(asked, input=content, capture_output=True, check=True, env=UNTOUCHED).stdout.strip()


def test_binary_lines_of_every_length_are_read_by_git(runtime: Runtime, tmp_path: Path) -> None:
    noise = random.Random(5)
    wanted: Wanted = {b"%d" % size: text(b"\0" + noise.randbytes(size)) for size in range(1, 120)}
    first, second = recorded(runtime, {}), recorded(runtime, wanted)
    assert applied(tmp_path / "copy", {}, told(runtime.workspace.root, first, second)) == wanted


@pytest.mark.parametrize("before", [{}, {b"big": text(b"\0", 0o755)}, {b"big": text(b"x")}], ids=["new", "mode", "old"])
@pytest.mark.parametrize("way", ["there", "back"])
def test_patch_that_cannot_be_whole_is_refused_by_git(
    runtime: Runtime, tmp_path: Path, before: Wanted, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.engine.differences.unified.BINARY_BYTES_MAX", 1 << 20)
    after: Wanted = {b"big": text(bytes((1 << 20) + 1)), b"small": text(b"x\n")}
    points = [(recorded(runtime, before), before), (recorded(runtime, after), after)]
    (a, old), (b, _) = points if way == "there" else points[::-1]
    patched = told(runtime.workspace.root, a, b)
    assert b" differ\nover 1 MiB that are no text: not written here\n" in patched
    build_anew(tmp_path / "copy", old)
    assert apply(tmp_path / "copy", patched).returncode != 0
    assert look(tmp_path / "copy") == old


@pytest.mark.parametrize("before", [{}, {b"f": text(b"old\n")}], ids=["new", "old"])
def test_patch_of_bytes_that_are_lost_is_refused_by_git(tmp_path: Path, before: Wanted) -> None:
    blobs = MemoryBlobs()
    kept = {name: Entry("file", 0o644, blobs.put(leaf[2]), len(leaf[2])) for name, leaf in before.items() if leaf}
    lost = Entry("file", 0o644, digest_of(b"new\n"), 4)
    patched = b"".join(line + b"\n" for line in unified(blobs, Change("f", kept.get(b"f"), lost)))
    assert b"the bytes are not to be had" in patched
    build_anew(tmp_path / "copy", before)
    assert apply(tmp_path / "copy", patched).returncode != 0
    assert look(tmp_path / "copy") == before


def test_file_that_became_a_link_goes_and_comes(runtime: Runtime) -> None:
    first, second = recorded(runtime, {b"f": text(b"x\n")}), recorded(runtime, {b"f": link(b"x")})
    assert told(runtime.workspace.root, first, second, "f") == (
        b"diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        b"diff --git a/f b/f\nnew file mode 120000\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n"
        b"\\ No newline at end of file\n"
    )


def test_permissions_that_git_does_not_keep_are_told_beside_the_patch(runtime: Runtime, tmp_path: Path) -> None:
    before: Wanted = {b"f": text(b"x\n"), b"g": text(b"x\n")}
    after: Wanted = {b"f": text(b"y\n", 0o600), b"g": text(b"x\n", 0o600)}
    first, second = recorded(runtime, before), recorded(runtime, after)
    patched = told(runtime.workspace.root, first, second, ".").decode()
    notes = [f"b/{name}: mode 644 → 600, which no patch of git can hold" for name in "fg"]
    assert [line for line in patched.splitlines() if "mode" in line] == notes
    assert applied(tmp_path / "copy", before, patched.encode()) == {b"f": text(b"y\n"), b"g": text(b"x\n")}


NAMES = {
    b"tab\t.py": '"tab\\t.py"',
    b'quo"te\\': '"quo\\"te\\\\"',
    b"line\nfeed": '"line\\nfeed"',
    b"bell\x07\x1b\x7f": '"bell\\a\\033\\177"',
    b"caf\xe9": '"caf\\351"',
    "café.py".encode(): "café.py",
    "b\u202ek".encode(): '"b\\342\\200\\256k"',
    b"50%": "50%",
    b"%FF": "%FF",
    b"a b": "a b",
    b"a /b": '"a /b"',
}


@pytest.mark.parametrize(("name", "written"), NAMES.items())
def test_name_is_quoted_as_git_quotes_it(name: bytes, written: str) -> None:
    assert git_names.quoted(name) == written


def test_printed_names_are_those_of_the_real_files(runtime: Runtime) -> None:
    root = runtime.workspace.root
    first, second = recorded(runtime, {}), recorded(runtime, {name: text(b"x\n") for name in NAMES})
    only = told(root, first, second, "--name-only").decode().splitlines()
    assert sorted(only) == sorted(NAMES.values())
    counted = told(root, first, second, "--stat").decode()
    assert all(f"A {written}  +1 −0" in counted for written in NAMES.values())
    listed = msgspec.json.decode(told(root, first, second, "--json"))["data"]["diff"]["code"]["paths"]
    assert {decode_path(one["path"]) for one in listed} == set(NAMES)


def test_word_that_names_nothing_is_refused(runtime: Runtime) -> None:
    root = runtime.workspace.root
    first, second = recorded(runtime, {b"gone": text(b"x\n")}), recorded(runtime, {b"kept/f": text(b"x\n")})
    for words in ((second, "lastest~1"), (first, second, "kept/g"), (first, second, "gone", "gone/x")):
        said = told(root, *words, code=2)
        assert f"instar: {words[-1]} stands at neither point nor in the folder".encode() in said
        assert b"Give a seq, latest," in said
    assert told(root, first, second, "gone").startswith(b"diff --git a/gone b/gone\ndeleted")
    assert told(root, second, first, "gone").startswith(b"diff --git a/gone b/gone\nnew")
    assert told(root, first, second, "kept") == told(root, first, second, "kept/f")
    assert told(root, second, "gone", code=2)
    (root / "gone").write_bytes(b"y\n")
    assert b"+y\n" in told(root, second, "gone")
    assert told(root, second, str(runtime.reader.head()), "gone") == b""


def test_refused_word_that_is_no_utf8_is_said_in_json(runtime: Runtime) -> None:
    first = recorded(runtime, {})
    for words in ((os.fsdecode(b"\xff"),), (os.fsdecode(b"/\xff"),)):
        out = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with patch.object(sys, "stdout", out):
            assert main(["diff", first, *words, "--json", "-C", str(runtime.workspace.root)]) == 2
        assert msgspec.json.decode(out.buffer.getvalue())["error"]["exit_code"] == 2


def instar_script(script: str, folder: Path) -> str:
    command = [sys.executable, "-c", script, str(folder)]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUTF8": "1"}
    return subprocess.run(command, check=True, encoding="utf-8", stdout=subprocess.PIPE, env=environ).stdout


UNWRITABLE = """
import os, sys
from pathlib import Path
from instar.engine.cli.diff_output import lines_of
from instar.engine.cli.main import main
def compare(agent):
    for words in (["1", "snapshot:second"], ["1"], ["snapshot:second", "--name-only"], ["1", "nothing"]):
        print(main(["diff", *words, "-C", str(agent)]), flush=True)
folder = Path(sys.argv[1])
compare(folder / "copy")  # loads what another user may not be allowed to
print("---", flush=True)
if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)
compare(folder / "agent")
"""


def test_workspace_that_cannot_be_written_is_compared_and_left_alone() -> None:
    with public_folder() as folder:
        root = folder / "agent"
        runtime = code_only(root)
        (root / "heuristics.py").write_text("café\n", encoding="utf-8")
        take_snapshot(runtime, "second")
        runtime.close()
        shutil.copytree(root, folder / "copy")
        (root / "notes.txt").write_text("since\n")
        (root / "large.bin").write_bytes(bytes(9 << 20))
        closed = [root, root / ".instar", *(root / ".instar").rglob("*")]
        for place in closed:
            place.chmod(0o555 if place.is_dir() else 0o444)
        stood = {place: (place.stat().st_mtime_ns, place.is_file() and place.read_bytes()) for place in root.rglob("*")}
        try:
            done = instar_script(UNWRITABLE, folder)
            now = {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in root.rglob("*")}
        finally:
            for place in closed:
                place.chmod(0o755 if place.is_dir() else 0o644)
    assert now == stood
    said = done.partition("---\n")[2]
    recorded_points, folder_now, name_only, refused = re.split(r"^[02]$\n", said, flags=re.MULTILINE)[:4]
    assert re.findall(r"^[02]$", said, re.MULTILINE) == ["0", "0", "0", "2"]
    assert "+café\n" in recorded_points
    assert "since" not in recorded_points
    assert "+café\n" in folder_now
    assert "+since\n" in folder_now
    assert "literal 9437184\n" in folder_now
    assert name_only == "large.bin\nnotes.txt\n"
    assert refused == ""
