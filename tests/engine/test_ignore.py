from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.engine.trees.ignore import Ignore, spared_by
from instar.store.trees import Tree
from tests.engine.workspaces import look, scan
from tests.store.memory_blobs import MemoryBlobs


def write(root: Path, *paths: str, **contents: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(contents.get(path, path))


def test_built_in_patterns_are_neither_captured_nor_named(tmp_path: Path) -> None:
    ignored = (
        *(".git/HEAD", ".instar/log.db", ".venv/x", "venv/x", "a/node_modules/x", "a/__pycache__/x.pyc", "stray.pyc"),
        *(".mypy_cache/x", ".ruff_cache/x", ".pytest_cache/x", "run/checkpoints/x", "data/nlp_training_sets/x"),
        *("data/logs/system/x.log",),
    )
    write(tmp_path, "kept.py", "a/run/checkpoints/x", "a/data/logs/x", *ignored)
    tree = scan(tmp_path, MemoryBlobs())
    assert set(tree.files) == {"kept.py", "a/run/checkpoints/x", "a/data/logs/x"}
    assert tree.unmanaged == {}


def test_secrets_are_named_and_not_stored(tmp_path: Path) -> None:
    secrets = (".env", "deploy/.env.production", "tls/server.pem", "server.key", "id_rsa", "home/id_ed25519", ".netrc")
    write(tmp_path, *secrets, ".env.example", "id_rsa.pub", "envs.py")
    blobs = MemoryBlobs()
    tree = scan(tmp_path, blobs)
    assert set(tree.files) == {".env.example", "id_rsa.pub", "envs.py"}
    assert tree.unmanaged == dict.fromkeys(secrets, "secret")
    assert not {secret.encode() for secret in secrets} & set(blobs.contents.values())


def test_gitignore_cannot_take_in_a_secret_or_a_built_in(tmp_path: Path) -> None:
    write(tmp_path, ".env", "venv/x", ".git/HEAD", "a.py")
    (tmp_path / ".gitignore").write_text("!.env\n!venv/\n!.git\n")
    assert set(scan(tmp_path, MemoryBlobs()).files) == {".gitignore", "a.py"}


def test_configured_pattern_takes_in_a_secret_or_a_built_in(tmp_path: Path) -> None:
    write(tmp_path, "tests/fixture.pem", "prod.pem", "venv/x", ".git/HEAD", "out/x")
    patterns = ("!/tests/fixture.pem", "!venv/", "!.git", "/out/")
    tree = scan(tmp_path, MemoryBlobs(), patterns=patterns)
    assert set(tree.files) == {"tests/fixture.pem", "venv/x"}


def test_nested_gitignore_overrules_the_outer_one(tmp_path: Path) -> None:
    write(tmp_path, "a.log", "b/a.log", "b/c/a.log", "b/keep.txt")
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "b" / ".gitignore").write_text("!a.log\n/keep.txt\n")
    (tmp_path / "b" / "c" / ".gitignore").write_text("a.*\n")
    tree = scan(tmp_path, MemoryBlobs())
    assert set(tree.files) == {".gitignore", "b/.gitignore", "b/a.log", "b/c/.gitignore"}


def test_pattern_that_is_not_understood_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "a.log", "b.py")
    (tmp_path / ".gitignore").write_bytes(b"///\n!\n\xff\xfe\n*.log\n")
    assert set(scan(tmp_path, MemoryBlobs()).files) == {".gitignore", "b.py"}


_parts = st.sampled_from(["a", "b", "c.log", "d.py", "*", "**", "*.log", "?.py", "[ab]", "a*", "\\!x", "#y"])
_lines = st.builds(
    lambda negated, start, parts, end: negated + start + "/".join(parts) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(_parts, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
)
_files = [f"{folder}{name}" for folder in ("", "a/", "b/", "a/b/") for name in ("c.log", "d.py", "x", "#y", "!x")]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the judge here")
@given(st.lists(_lines, max_size=4), st.lists(_lines, max_size=3))
@settings(deadline=None, max_examples=60)
def test_rules_agree_with_git(outer: list[str], inner: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, *_files)
        (root / ".gitignore").write_text("\n".join(outer))
        (root / "a" / ".gitignore").write_text("\n".join(inner))
        subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
        command = ["git", "-c", "core.excludesFile=", "ls-files", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout
        assert set(scan(root, MemoryBlobs()).files) == set(filter(None, listed.decode().split("\0")))


def test_tree_says_which_paths_its_own_rules_left_out(tmp_path: Path) -> None:
    write(tmp_path, "out/a.csv", "out/b.py", "c.csv")
    (tmp_path / ".gitignore").write_text("*.csv\n")
    (tmp_path / "out" / ".gitignore").write_text("b.*\n")
    blobs = MemoryBlobs()
    reason = spared_by(scan(tmp_path, blobs), blobs, Ignore(("/conf/",)))
    assert [reason(path) for path in ("c.csv", "out/b.py", "out/z.csv", "conf/x", "n/.env")] == [
        *["ignored"] * 4,
        "secret",
    ]
    assert [reason(path) for path in ("c.py", "b.py", "n/conf/x")] == [None] * 3


def test_folder_of_ignored_files_only_is_an_empty_folder(tmp_path: Path) -> None:
    write(tmp_path, "logs/a.pyc")
    assert scan(tmp_path, MemoryBlobs()) == Tree(files={}, folders=frozenset({"logs"}))
    assert b"logs/a.pyc" in look(tmp_path)
