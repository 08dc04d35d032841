"""A plugin that prints, ends the process or gives nonsense fails its effect, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from instar.engine.extensions import load_extension
from instar.engine.initialize import initialize
from instar.fsm.errors import ConfigError
from instar.fsm.events import EffectFailed
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT, agent_folder, instar

PLUGIN = """
import sys
print("loaded")

class Prints:
    name = "prints"
    def score(self, outcome, item):
        print("scored")
        return 0.5

class Exits(Prints):
    def score(self, outcome, item):
        sys.exit(7)

class Nothing(Prints):
    def score(self, outcome, item):
        return None
"""


@pytest.mark.parametrize(
    ("plugin", "failure"), [("Prints", None), ("Exits", "sys.exit(7)"), ("Nothing", "gave None for event 2")]
)
def test_run_prints_its_envelope_alone_and_goes_on(tmp_path: Path, plugin: str, failure: str | None) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    (tmp_path / "odd_plugin.py").write_text(PLUGIN)
    (folder / "instar.toml").write_text(f'[plugins]\nreward_model = "odd_plugin:{plugin}"\n')
    told = ("--task-type", "t", "--input", "x", "--outcome", "fail")
    assert instar("feedback", *told, cwd=folder, PYTHONPATH=f"{tmp_path}:{PROJECT}").returncode == 0
    done = instar("run", "--once", "--json", cwd=folder, PYTHONPATH=f"{tmp_path}:{PROJECT}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]
    reader = LogReader(folder / ".instar" / "log.db")
    failed = [record.event.reason for record in reader.read(types=[EffectFailed])]  # type: ignore[union-attr]
    reader.close()
    assert [reason for reason in failed if not (failure and failure in reason)] == []
    assert bool(failed) == bool(failure)


def test_plugin_that_ends_the_process_as_it_is_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exits_at_once.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot be loaded: SystemExit: 3"):
        load_extension("instar.planners", "exits_at_once:Planner")
