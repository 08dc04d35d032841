"""Capture and rollback of a code tree against git, on the standard library's own sources."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from instar.engine.initialize import initialize
from instar.engine.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.watcher import rescan

from .compare import compare

CHANGED = 100


def sources(folder: Path) -> list[Path]:
    """Copies the standard library's Python files."""
    home = Path(sysconfig.get_path("stdlib"))
    for path in sorted(home.rglob("*.py")):
        relative = path.relative_to(home)
        if "site-packages" not in relative.parts:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / relative)
    return sorted(folder.rglob("*.py"))


def git(folder: Path, *command: str) -> None:
    """Runs git in a folder, with an identity of its own."""
    identity = ["-c", "user.name=b", "-c", "user.email=b@localhost", "-c", "gc.auto=0"]
    subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True)


def main() -> None:
    """Compares a capture that finds nothing, one of 100 changed files, and their rollback."""
    if shutil.which("git") is None:
        print("git is not installed: the tree benchmark is skipped")
        return
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Path(name, "ours"), Path(name, "git")
        files = {folder: sources(folder) for folder in (ours, theirs)}
        initialize(ours, with_model=False)
        runtime = Runtime(ours, actor="bench")
        git(theirs, "init", "-q")
        git(theirs, "add", "-A")
        git(theirs, "commit", "-q", "-m", "first")
        print(f"{len(files[ours])} files")
        rounds = iter(range(10_000))

        def edit(folder: Path) -> None:
            number = next(rounds)
            for path in files[folder][:CHANGED]:
                path.write_text(path.read_text(encoding="latin-1") + f"# {number}\n", encoding="latin-1")

        def ours_nothing() -> None:
            rescan(runtime)

        def git_nothing() -> None:
            git(theirs, "status", "--porcelain")

        compare("rescan that finds nothing", {"instar": ours_nothing, "git status": git_nothing}, unit="scans/s")

        def ours_changed() -> None:
            edit(ours)
            rescan(runtime)

        def git_changed() -> None:
            edit(theirs)
            git(theirs, "add", "-A")
            git(theirs, "commit", "-q", "-m", "next")

        ways = {"instar": ours_changed, "git add and commit": git_changed}
        compare("capture of 100 changed files", ways, unit="captures/s")

        def ours_back() -> None:
            ours_changed()
            roll_back(runtime, 1)

        def git_back() -> None:
            git_changed()
            git(theirs, "reset", "-q", "--hard", "HEAD~1")

        ways = {"instar, fsynced, safety snapshot": ours_back, "git commit, reset --hard": git_back}
        compare("capture and rollback of 100 files", ways, rounds=3, unit="rollbacks/s")
        runtime.close()
