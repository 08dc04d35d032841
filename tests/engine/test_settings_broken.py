"""A configuration that the agent broke: what reads the log goes on, and what puts code back can mend it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from instar import Engine
from instar.engine.last_settings import KEPT, load_for_work, load_to_read
from instar.engine.settings import Settings, as_environ
from instar.fsm.errors import ConfigError
from tests.engine.agents import agent_folder, contents, instar

GOOD = 'name = "mine"\n[watch]\nignore = ["junk/"]\n[paths]\nlogs = "told"\n'
BROKEN = {
    "syntax": "bad = = \n",
    "bounds": "[policy]\ndrift = { threshold = 5 }\n",
    "key": "nmae = 1\n",
    "bytes": "\udcff",
}


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    root = agent_folder(tmp_path / "agent")
    (root / "instar.toml").write_text(GOOD)
    (root / "junk").mkdir()
    (root / "junk" / "ours.bin").write_text("not the agent's")
    assert instar("init", "--no-model", cwd=root).returncode == 0
    return root


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "lost"])
def test_broken_settings_are_put_back(agent: Path, text: str, kept: bool) -> None:
    before = contents(agent)
    (agent / "instar.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert (agent / KEPT).is_file()
    if not kept:
        (agent / KEPT).unlink()
    refused = instar("run", "--once", cwd=agent)
    assert refused.returncode == 2, refused.stderr
    planned = instar("restore", "instar.toml", "--at", "last-good", "-n", cwd=agent)
    assert planned.returncode == 0, planned.stderr
    assert b"last worked are used" in planned.stderr if kept else b"defaults are used" in planned.stderr
    done = instar("rollback", "1", "-y", cwd=agent)
    assert done.returncode == 0, done.stderr
    assert contents(agent) == before
    again = instar("status", cwd=agent)
    assert (again.returncode, again.stderr) == (0, b"")


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "diff 1",
        "diff 1 latest",
        "log",
        "show 1",
        "replay",
        "verify",
        "why 1",
        "lineage",
        "anchor",
        "dataset",
        "restore notes.txt --at 1 -n",
    ],
)
def test_log_is_read_with_broken_settings(agent: Path, command: str) -> None:
    whole = instar(*command.split(), "--json", cwd=agent)
    (agent / "pyproject.toml").write_text('[project\nname = "x"\n')
    (agent / "instar.toml").unlink()
    told = instar(*command.split(), "--json", cwd=agent)
    assert told.returncode == whole.returncode, told.stderr
    assert json.loads(told.stdout)["ok"] == json.loads(whole.stdout)["ok"]
    assert told.stderr.count(b"pyproject.toml is no valid TOML") == 1
    assert b"instar restore pyproject.toml --at last-good" in told.stderr


def test_doctor_names_what_broke_and_looks_at_the_rest(agent: Path) -> None:
    (agent / "instar.toml").write_text(BROKEN["bounds"])
    told = instar("doctor", "--json", cwd=agent)
    found = {row["subject"]: row for row in json.loads(told.stdout)["data"]}
    assert found["settings"]["level"] == "bad"
    assert "policy.drift.threshold is 5.0" in found["settings"]["text"]
    assert found["log"]["level"] == "ok"


def test_what_a_file_said_is_kept_without_passwords_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "instar.toml").write_text('name = "mine"\nlog_url = "postgresql+psycopg://me:secret@host/logs"\n')
    assert load_for_work(tmp_path, {}).name == "mine"
    assert not (tmp_path / KEPT).exists()  # no workspace yet
    (tmp_path / ".instar").mkdir()
    environ = {"INSTAR_POLICY__DRIFT__THRESHOLD": "0.5"}
    assert load_for_work(tmp_path, environ).policy.drift.threshold == 0.5
    assert json.loads((tmp_path / KEPT).read_text()) == {"name": "mine"}
    (tmp_path / "instar.toml").write_text("name = 3")
    settings, fault = load_to_read(tmp_path, environ)
    assert (settings.name, settings.policy.drift.threshold, settings.log_url) == ("mine", 0.5, None)
    assert "those that last worked are used" in fault
    with pytest.raises(ConfigError):
        load_to_read(tmp_path, {"INSTAR_POLICY__DRIFT__THRESHOLD": "5"})
    for broken in ("{", '{"nmae": 1}'):
        (tmp_path / KEPT).write_text(broken)
        settings, fault = load_to_read(tmp_path, {})
        assert settings == Settings()
        assert "the defaults are used" in fault


@pytest.mark.parametrize("text", [BROKEN["bounds"], BROKEN["key"]], ids=["bounds", "key"])
def test_file_that_does_not_fit_is_never_kept(agent: Path, text: str) -> None:
    before = (agent / KEPT).read_bytes()
    (agent / "instar.toml").write_text(text)
    environ = {"INSTAR_POLICY__DRIFT__THRESHOLD": "0.6"}
    if text == BROKEN["bounds"]:  # which the variable hides
        assert load_for_work(agent, environ).policy.drift.threshold == 0.6
    whole = as_environ(Settings(name="given in code"))
    assert load_for_work(agent, whole).name == "given in code"
    with Engine(agent, worker=False, settings=Settings()) as engine:
        engine.feedback(task_type="t", input="a", outcome="pass")
    assert (agent / KEPT).read_bytes() == before
    assert instar("status", cwd=agent).returncode == 0
    assert instar("rollback", "1", "-y", cwd=agent).returncode == 0
    assert (agent / "instar.toml").read_text() == GOOD


def test_kept_file_that_no_longer_fits_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".instar").mkdir()
    (tmp_path / "instar.toml").write_text("{")
    (tmp_path / KEPT).write_text("{")
    settings, fault = load_to_read(tmp_path, {})
    assert settings == Settings()
    assert "the defaults are used" in fault
