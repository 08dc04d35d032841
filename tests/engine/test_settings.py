"""Settings: files, environment, flags, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.engine.settings import Settings, as_environ, load_settings
from instar.fsm.errors import ConfigError


def test_defaults_work_without_a_file(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings()


def test_own_file_is_read_and_beats_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.instar]\nname = "shared"\n')
    assert load_settings(tmp_path).name == "shared"
    (tmp_path / "instar.toml").write_text('name = "own"\n[policy]\ndrift = { threshold = 0.6 }\n')
    settings = load_settings(tmp_path)
    assert (settings.name, settings.policy.drift.threshold) == ("own", 0.6)


def test_environment_beats_the_file_and_a_flag_beats_both(tmp_path: Path) -> None:
    (tmp_path / "instar.toml").write_text("[policy]\ndrift = { threshold = 0.6 }\n")
    environ = {"INSTAR_POLICY__DRIFT__THRESHOLD": "0.5", "INSTAR_FAILPOINTS": "x=kill", "PATH": "/bin"}
    assert load_settings(tmp_path, environ).policy.drift.threshold == 0.5
    assert load_settings(tmp_path, environ, policy__drift__threshold=0.4).policy.drift.threshold == 0.4
    assert load_settings(tmp_path, environ, model=None).model == Settings().model


def test_settings_travel_to_a_worker_whole(tmp_path: Path) -> None:
    (tmp_path / "instar.toml").write_text("[policy]\ndrift = { threshold = 0.6 }\nretrain = { rows_min = 3 }\n")
    settings = load_settings(tmp_path)
    (tmp_path / "instar.toml").unlink()
    assert load_settings(tmp_path, as_environ(settings)) == settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "no valid TOML"),
        ("nmae = 'x'", "unknown field `nmae`"),
        ("[policy]\ndrift = { threshold = 'high' }", "Expected `float`"),
        ("[policy]\ndrift = { threshold = 1.5 }", "must lie in 0 … 1"),
        ("[paths]\nlogs = '/etc'", "must be a path inside the workspace"),
        ("[paths]\nlogs = '../x'", "must be a path inside the workspace"),
        ("[watch]\nrescan_s = 0", "must lie in"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "instar.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings(tmp_path)
    assert caught.value.exit_code == 2
