"""The documents are held to the code."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from instar.engine.settings import Settings, load_settings
from instar.fsm import errors
from instar.fsm.codec import TYPES
from instar.fsm.words import State

PROJECT = Path(__file__).parent.parent


def generator() -> dict[str, object]:
    spec = importlib.util.spec_from_file_location("generate_docs", PROJECT / "tools" / "generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: render() for name, render in module.PAGES.items()}


@pytest.mark.parametrize("page", ["state-machine.md", "events.md", "verbs.md", "engine.md"])
def test_generated_page_is_what_the_code_gives(page: str) -> None:
    written = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    assert written == generator()[page], "run `make docs`"


def test_catalogue_has_every_event_and_the_diagram_every_state() -> None:
    catalogue = (PROJECT / "docs" / "events.md").read_text()
    assert all(f"### {name}\n" in catalogue for name in TYPES)
    diagram = (PROJECT / "docs" / "state-machine.md").read_text().split("```")[1]
    assert all(f"{state} -->" in diagram and f"--> {state}" in diagram for state in State)


def test_changelog_counts_the_event_types() -> None:
    assert f"{len(TYPES)} event types" in (PROJECT / "CHANGELOG.md").read_text()


def test_error_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or "")) | {"InstarError"}
    real = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, Exception)}
    assert drawn == real


def test_documented_settings_are_all_that_there_are_with_their_defaults(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "operations.md").read_text()
    block = re.search(r"```toml\n(.*?)```", page, re.S)
    assert block is not None
    (tmp_path / "instar.toml").write_text(block[1])
    assert load_settings(tmp_path) == Settings()
    defaults = msgspec.to_builtins(Settings())
    del defaults["policy"]["capture"]  # it cannot be set
    assert "# log_url is not set" in block[1]
    assert defaults.pop("log_url") is None
    assert _keys(tomllib.loads(block[1])) == _keys(defaults)


def _keys(settings: dict[str, Any], prefix: str = "") -> set[str]:
    """Names each setting, with the tables that it lies in."""
    found = set[str]()
    for name, value in settings.items():
        inner = isinstance(value, dict) and value
        found |= _keys(value, f"{prefix}{name}.") if inner else {prefix + name}
    return found


def test_every_page_that_is_named_exists() -> None:
    for page in [PROJECT / "README.md", PROJECT / "ARCHITECTURE.md", *(PROJECT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} names {target}"


def test_architecture_names_every_room_of_the_engine() -> None:
    text = (PROJECT / "ARCHITECTURE.md").read_text().split("### The rooms of `engine/`")[1].split("###")[0]
    rooms = {place.parent.name for place in (PROJECT / "engine").glob("*/__init__.py")}
    assert set(re.findall(r"`(\w+)/`", text)) == rooms


def test_modules_that_architecture_names_exist() -> None:
    text = (PROJECT / "ARCHITECTURE.md").read_text()
    table = text.split("## One cycle")[1].split("##")[0]
    for name in re.findall(r"`([\w/]+\.py)`", table):
        assert (PROJECT / "engine" / name).exists() or (PROJECT / name).exists(), name
    modules = re.search(r"### Where the brief's modules are\n\n(.*?) are modules", text, re.S)
    assert modules is not None
    for name in re.findall(r"`(\w+)`", modules[1]):
        assert (PROJECT / "engine" / f"{name}.py").exists(), name


@pytest.mark.model
def test_readme_example_runs_as_printed(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.S)
    assert code is not None
    assert len(code[1].strip().splitlines()) <= 22
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "heuristics.py").write_text("def score(a):\n    return a\n")
    light = "import sys\nassert not {'torch', 'sentence_transformers'} & set(sys.modules), 'the agent is not light'\n"
    script = code[1].replace("path/to/agent", str(agent)) + light
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, timeout=280)
    assert done.returncode == 0, done.stderr.decode()
    told = done.stdout.decode()
    assert "Idle" in told
    assert "read a whole file as text" in told
    assert "events verified" in told


def test_public_names_are_importable_and_typed() -> None:
    import instar

    for name in instar.__all__:
        assert getattr(instar, name) is not None
    assert dir(instar) == sorted(instar.__all__)
    with pytest.raises(AttributeError):
        _ = instar.Nonsense
    import doctest

    assert doctest.testmod(instar).failed == 0


def test_what_engine_gives_is_public_and_documented() -> None:
    import instar

    page = (PROJECT / "docs" / "engine.md").read_text().split("## What is given")[1]
    given = set[str]()
    for name, member in inspect.getmembers(instar.Engine, inspect.isfunction):
        if not name.startswith("_"):
            given |= set(re.findall(r"[A-Z]\w+", member.__annotations__["return"]))
    given -= {"None", "NDArray", "Self"}
    assert {"Found", "RollbackPlan", "Status"} <= given <= set(instar.__all__)
    assert all(f"### {name}\n" in page for name in given)
    assert instar.errors.InstarError is instar.InstarError


def test_documented_recipe_is_the_default() -> None:
    from instar.engine.training.recipe import Recipe

    page = (PROJECT / "docs" / "training.md").read_text().split("## Recipe")[1].split("## Embedding")[0]
    told = dict(re.findall(r"`(\w+)` \| (\S+)", page))
    defaults = Recipe().as_dict()
    assert set(told) == set(defaults)
    for name, value in defaults.items():
        assert told[name] == value if isinstance(value, str) else float(told[name]) == value, name
