"""How long a user waits for the light verbs and for the import."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from instar.engine.initialize import initialize

from .compare import compare

PROJECT = Path(__file__).parent.parent


def main() -> None:
    """Times ``import instar`` and ``instar status`` as whole processes, against a bare interpreter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "heuristics.py").write_text("x = 1\n")
        initialize(folder, with_model=False)
        environ = {**os.environ, "PYTHONPATH": str(PROJECT)}

        def run(*command: str) -> None:
            subprocess.run([sys.executable, *command], cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL)

        ways = {
            "instar status": lambda: run("-m", "instar.engine.cli.main", "status"),
            "import instar, take Engine": lambda: run("-c", "import instar; instar.Engine"),
            "import instar": lambda: run("-c", "import instar"),
            "python -c pass": lambda: run("-c", "pass"),
        }
        medians = compare("start-up of a process", ways, rounds=9, unit="starts/s")
    for way, rate in medians.items():
        print(f"{way}: {1000 / rate:.0f} ms")
