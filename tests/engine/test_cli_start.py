"""How the command line starts: what it loads, what it needs for that, and what a process that is warm could hide."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.engine.agents import PROJECT, agent_folder, instar
from tests.engine.warm import USUAL


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = agent_folder(tmp_path_factory.mktemp("agent"))
    assert instar("init", "--no-model", cwd=folder).returncode == 0
    return folder


def test_light_verbs_load_no_heavy_library(agent: Path) -> None:
    script = (
        "import sys; from instar.engine.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = [m for m in ('torch', 'sentence_transformers', 'sqlalchemy', 'usearch') if m in sys.modules];"
        "sys.exit(code or (9 if heavy else 0))"
    )
    for arguments in (["status"], ["log"], ["replay"], ["lineage"], ["show", "1"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=agent,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            timeout=60,
        )
        assert done.returncode == 0, (arguments, done.stderr.decode())


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, instar; instar.Engine; sys.exit(any(m in sys.modules for m in ('torch', 'sentence_transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=PROJECT, timeout=60).returncode == 0


def test_interrupt_while_the_verbs_are_imported_is_silent(agent: Path, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)\n")
    paths = f"{tmp_path}{os.pathsep}{PROJECT}"
    # What runs the tests in the background may ignore SIGINT, and so would its children.
    script = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    script += "from instar.engine.cli.main import main; sys.exit(main(['status']))"
    for words in (["-c", script], ["-m", "instar.engine.cli.main", "status"]):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=agent,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": paths},
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_package_is_run_as_the_command_line(agent: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "instar", "--version"], cwd=PROJECT, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout[:7], done.stderr) == (0, b"instar ", b"")


_EACH_ALONE = """
import os, sys
import alembic.command, alembic.config, msgspec, numpy, pydantic, sqlalchemy, transitions, typer

assert not [name for name in sys.modules if name == "instar" or name.startswith("instar.")]
for usual in sys.argv[1:]:
    child = os.fork()
    if not child:
        from instar.engine.cli.main import main

        code = main(usual.split())
        sys.stdout.flush()
        os._exit(code)
    print(">", usual, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Other people's libraries are loaded once; of ours nothing is, when a command begins."""


def test_each_usual_command_loads_what_it_needs(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", _EACH_ALONE, *USUAL]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, timeout=120)
    ended = [line for line in done.stdout.decode().splitlines() if line.startswith("> ")]
    assert ended == [f"> {usual} 0" for usual in USUAL], done.stderr.decode()


def test_command_is_killed_where_its_own_variable_says_and_the_next_is_not(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path)
    assert instar("init", "--no-model", cwd=folder, INSTAR_FAILPOINTS="log.made=kill").returncode == -9
    done = instar("init", "--no-model", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    told = instar("status", "--nonsense", cwd=folder)
    assert (told.returncode, told.stdout) == (2, b"")
