"""Commits of a git repository, one after the other, put into a folder as ``git checkout`` does."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

from tests.engine.agents import PROJECT

BUNDLES = PROJECT.parent / "shared" / "data" / "histories"
Tree = dict[str, tuple[str, bytes]]
"""By path: ``file``, ``program`` (a file that may be executed) or ``link``, and the bytes or the target."""

_AUTHOR = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
_NOBODY = {
    **_AUTHOR,
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


class History:
    """A bare repository, and the folder of its work tree, in which there is no ``.git``."""

    def __init__(self, repository: Path, work_tree: Path) -> None:
        self.repository = repository
        self.work_tree = work_tree

    @classmethod
    def of_bundle(cls, bundle: Path, folder: Path, work_tree: Path) -> History:
        """Clones a bundle's branch ``main``."""
        git("clone", "-q", "--bare", "-b", "main", str(bundle), str(folder))
        return cls(folder, work_tree)

    def commits(self) -> list[str]:
        """The commits, the oldest first."""
        return self("rev-list", "--reverse", "--first-parent", "main").decode().split()

    def check_out(self, commit: str) -> None:
        """Brings the work tree to a commit: git writes, changes and deletes what differs."""
        self("checkout", "-q", "-f", "--detach", commit)

    def archive(self, commit: str) -> Tree:
        """What a commit holds, by ``git archive``."""
        tree: Tree = {}
        with tarfile.open(fileobj=io.BytesIO(self("archive", "--format=tar", commit))) as archive:
            for member in archive:
                if member.issym():
                    tree[member.name] = "link", os.fsencode(member.linkname)
                elif member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    tree[member.name] = "program" if member.mode & 0o100 else "file", content.read()
        return tree

    def __call__(self, *arguments: str) -> bytes:
        """Runs git on the repository and the work tree."""
        return git(f"--git-dir={self.repository}", f"--work-tree={self.work_tree}", *arguments, cwd=self.work_tree)


def git(*arguments: str, cwd: Path | None = None) -> bytes:
    """Runs git as nobody in particular."""
    return subprocess.run(
        ["git", *arguments], check=True, stdout=subprocess.PIPE, cwd=cwd, env={**os.environ, **_NOBODY}
    ).stdout


def standing(root: Path) -> Tree:
    """What stands in a workspace, Instar's own left out."""
    tree: Tree = {}
    for place in root.rglob("*"):
        name = str(place.relative_to(root))
        if name.partition("/")[0] == ".instar":
            continue
        if place.is_symlink():
            tree[name] = "link", os.fsencode(place.readlink())
        elif place.is_file():
            tree[name] = "program" if place.stat().st_mode & 0o100 else "file", place.read_bytes()
    return tree
