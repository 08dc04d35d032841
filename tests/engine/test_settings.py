"""Settings: files, environment, flags, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
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
        ("[policy]\ngate = { gain_min = nan }", "policy.gate.gain_min is nan; it must lie in"),
        ("[mutation]\ntimeout_s = -1", "mutation.timeout_s is -1.0; it must lie in"),
        ("[training.recipe]\nepochz = 3", "training.recipe cannot be used.*epochz"),
        ("[training.recipe]\nrate = nan", "training.recipe cannot be used: rate is nan"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "instar.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings(tmp_path)
    assert caught.value.exit_code == 2


def test_every_number_has_bounds_that_no_wild_value_passes(tmp_path: Path) -> None:
    paths = list(_numbers(Settings()))
    assert {"policy.gate.gain_min", "mutation.memory_bytes", "retention.days"} <= set(paths)
    for path in paths:
        for value in ("nan", "inf", "-1e30", "1e30"):
            *tables, name = path.split(".")
            (tmp_path / "instar.toml").write_text(f"[{'.'.join(tables)}]\n{name} = {value}\n")
            with pytest.raises(ConfigError, match=r"must lie in|Expected `int`|capture cannot be set"):
                load_settings(tmp_path)


def _numbers(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _numbers(getattr(value, name), f"{path}.{name}".lstrip("."))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def test_environment_gives_lists_numbers_and_parts_of_the_recipe(tmp_path: Path) -> None:
    environ = {
        "INSTAR_WATCH__IGNORE": "*.log,build/",
        "INSTAR_POLICY__MONITORED": '["a b.py", "c,d.py"]',
        "INSTAR_TRAINING__RECIPE__EPOCHS": "3",
        "INSTAR_TRAINING__RECIPE__LOSS": "pairs",
        "INSTAR_POLICY__GATE__HELDOUT_MIN": "4",
    }
    settings = load_settings(tmp_path, environ)
    assert settings.watch.ignore == ("*.log", "build/")
    assert settings.policy.monitored == ("a b.py", "c,d.py")
    assert settings.training.recipe == {"epochs": 3, "loss": "pairs"}
    assert settings.policy.gate.heldout_min == 4
    with pytest.raises(ConfigError, match="is no list"):
        load_settings(tmp_path, {"INSTAR_WATCH__IGNORE": "[*.log"})


def test_variable_that_is_no_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"INSTAR_HOME is set in the environment.*unset it"):
        load_settings(tmp_path, {"INSTAR_HOME": "/x"})
    with pytest.raises(ConfigError, match="unknown field `threshhold`"):
        load_settings(tmp_path, {"INSTAR_POLICY__DRIFT__THRESHHOLD": "0.5"})
