"""Small workspaces for tests: real folders, real logs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from instar.engine.initialize import initialize
from instar.engine.runtime import Runtime

from .warm import run_warm

HEURISTICS = '''"""Scores."""


def score(a, b):
    """Adds two numbers."""
    return a + b
'''
PROJECT = Path(__file__).parent.parent.parent


def agent_folder(folder: Path) -> Path:
    """Writes a small agent."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "heuristics.py").write_text(HEURISTICS)
    (folder / "notes.txt").write_text("first line\n")
    return folder


def code_only(folder: Path) -> Runtime:
    """A workspace without a model: captured, watched and rolled back, never embedded."""
    agent_folder(folder)
    initialize(folder, with_model=False)
    return Runtime(folder, actor="test")


def with_model(folder: Path) -> Runtime:
    """A workspace with the real MiniLM."""
    agent_folder(folder)
    initialize(folder)
    return Runtime(folder, actor="test")


def instar(*arguments: str, cwd: Path, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the command line as a user would, in a process of its own."""
    whole = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1", **environ}
    return run_warm(arguments, cwd=cwd, stdin=stdin, environ=whole, model=_needs_model(arguments, cwd))


def _needs_model(arguments: tuple[str, ...], cwd: Path) -> bool:
    """Says whether a command loads the model: then it need not load the libraries by itself."""
    match arguments:
        case ("init", *others):
            return "--model" in others and not (cwd / ".instar").exists()
        case ("replay", *others) if "--reexecute" not in others:
            return False
        case ("replay" | "run" | "search" | "train", *_):
            return os.path.lexists(cwd / "run" / "checkpoints" / "active")
        case _:
            return False


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of the agent's own: mode and bytes."""
    own = {".instar", "run", "data", "__pycache__"}
    return {
        str(path.relative_to(folder)): (path.stat().st_mode & 0o777, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not own & set(path.relative_to(folder).parts)
    }
