"""What others wrote fails by itself: a worker records that and goes on, an audit says what it could not decide."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from instar import Engine, Settings
from instar.engine.doctor import examine
from instar.engine.extension_calls import ERROR_CHARS_MAX, asked, error_text
from instar.engine.extensions import load_extension
from instar.engine.initialize import initialize
from instar.engine.replay import Level, replay
from instar.engine.sandbox.choose import chosen
from instar.engine.settings import MutationSettings
from instar.engine.what_if import what_if
from instar.engine.worker import Worker
from instar.engine.workspace import open_workspace
from instar.fsm.errors import ConfigError, ExtensionFailed, ReplayDiverged
from instar.fsm.events import EffectFailed, MutationAccepted, PlanChosen, PlanStep
from tests.engine.agents import PROJECT, agent_folder
from tests.engine.decided_log import Story


class Speechless(Exception):
    """An error that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("none to be had")


ERRORS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "half a character": (lambda: ValueError("a file \udc80"), "ValueError: a file \\udc80"),
    "no text": (Speechless, "Speechless: (its text cannot be had: RuntimeError)"),
    "a long text": (lambda: ValueError("x" * 10_000_000), "ValueError: xxx"),
    "no Exception": (asyncio.CancelledError, "CancelledError"),
    "an end": (lambda: SystemExit(7), "called sys.exit(7)"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_an_extension_raises_is_told_as_its_failure(error: str) -> None:
    make, said = ERRORS[error]

    def fails() -> None:
        raise make()

    with pytest.raises(ExtensionFailed, match="the planner acme") as told:
        asked("the planner acme", fails)
    assert said in str(told.value)
    assert len(str(told.value).encode()) < ERROR_CHARS_MAX + 100


def test_interrupt_is_no_failure_of_an_extension() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked("the planner acme", interrupted)
    assert error_text(MemoryError()) == "MemoryError"


@pytest.mark.parametrize("error", ERRORS)
def test_worker_records_the_failure_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    make, said = ERRORS[error]

    def score(_outcome: object, _item: object) -> float:
        raise make()

    module = ModuleType("acme_rewards")
    module.__dict__["model"] = SimpleNamespace(name="acme", score=score)
    monkeypatch.setitem(sys.modules, "acme_rewards", module)
    root = agent_folder(tmp_path / "agent")
    (root / "instar.toml").write_text('[plugins]\nreward_model = "acme_rewards:model"\n')
    initialize(root, with_model=False)
    with Engine(root, worker=False) as engine:
        engine.feedback(task_type="t", input="a task", output="x", outcome="fail")
        Worker(engine.runtime).run_once()
        failures = [one.event for one in engine.events() if isinstance(one.event, EffectFailed)]
        assert [said in failure.reason for failure in failures] == [True]
        assert failures[0].detail  # the end of its traceback
        assert engine.status().state == "Idle"
        assert engine.replay().events == engine.status().head


def test_plan_of_plain_objects_is_one_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"rank": 1, "task_type": "t", "strategy": "rest", "reason": "because"}
    module = ModuleType("acme_planner")
    module.__dict__["planner"] = SimpleNamespace(name="acme", plan=lambda _standings, _policy: iter([step]))
    monkeypatch.setitem(sys.modules, "acme_planner", module)
    root = agent_folder(tmp_path / "agent")
    (root / "instar.toml").write_text('[plugins]\nplanner = "acme_planner:planner"\n')
    initialize(root, with_model=False)
    with Engine(root, worker=False) as engine:
        engine.feedback(task_type="t", input="a task", output="x", outcome="fail")
        Worker(engine.runtime).run_once()
        plans = [one.event for one in engine.events() if isinstance(one.event, PlanChosen)]
        assert plans[0].steps == (PlanStep(1, "t", "rest", "because"),)
        assert engine.runtime.state.plan == plans[-1].steps


def test_plan_that_would_swell_every_state_is_refused(tmp_path: Path) -> None:
    from instar.engine.verdicts import plan_steps

    many = [PlanStep(rank, "t", "rest", "x" * 1000) for rank in range(2000)]
    planner: Any = SimpleNamespace(name="acme", plan=lambda _standings, _policy: many)
    with pytest.raises(ExtensionFailed, match="gave a plan of 2"):
        plan_steps(planner, {}, Story(tmp_path).log.state.policy)


@pytest.mark.parametrize(
    ("name", "said"),
    [(5, "calls itself 5"), ("a\nb", r"calls itself 'a\\nb'"), ("", "calls itself ''"), ("builtin", "from what is")],
)
def test_name_that_the_log_could_not_tell_from_others_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: object, said: str
) -> None:
    module = ModuleType("acme_named")
    module.__dict__["model"] = SimpleNamespace(name=name, score=lambda _outcome, _item: 0.5)
    monkeypatch.setitem(sys.modules, "acme_named", module)
    with pytest.raises(ConfigError, match=said):
        load_extension("instar.reward_models", "acme_named:model")


# ---- an audit ------------------------------------------------------------------------------------------------------

PACKAGE = """
def score(outcome, item):
    return 0.125
def plan(standings, policy):
    return ()
class Rewards:
    name = "acme"
    def score(self, outcome, item):
        return score(outcome, item)
class Plans:
    name = "acme"
    def plan(self, standings, policy):
        return plan(standings, policy)
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    site = tmp_path / "site"
    (site / "acme-3.1.dist-info").mkdir(parents=True)
    (site / "acme-3.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 3.1\n")
    (site / "acme-3.1.dist-info" / "entry_points.txt").write_text(
        "[instar.reward_models]\nacme = acme_of_test:Rewards\n[instar.planners]\nacme = acme_of_test:Plans\n"
    )
    (site / "acme_of_test.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "acme_of_test", raising=False)
    import acme_of_test  # type: ignore[import-not-found]

    return acme_of_test


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A log in which a reward model of a package scored, and what is built in planned."""
    story = Story(tmp_path / "story")
    story.outside(story.feedback(1), story.feedback(2))
    story.start()
    story.embed()
    story.flag()
    story.dataset(1)
    story.judge(model="acme")
    return story


def raises(*_arguments: object) -> Any:
    raise ValueError("out of order \udc80")


def test_audit_names_what_a_failing_reward_model_left_undecided(acme: Any, story: Story) -> None:
    acme.score = raises
    found = replay(story.log.reader, level=Level.DECISIONS)
    [(why, count)] = found.untaken.items()
    assert why.startswith("rewards: reward model 'acme' fails here, first by this: the reward model acme failed")
    assert count == 2
    assert "rewards" not in found.decisions
    acme.score = lambda _outcome, _item: float("nan")
    assert "gave nan" in next(iter(replay(story.log.reader, level=Level.DECISIONS).untaken))


def test_audit_says_who_decided_otherwise_and_in_which_version(acme: Any, story: Story) -> None:
    acme.score = lambda _outcome, _item: 0.987
    with pytest.raises(ReplayDiverged, match=r"reward model 'acme' of acme 3\.1, installed here") as told:
        replay(story.log.reader, level=Level.DECISIONS)
    assert told.value.field.startswith("rewards[0]")


def test_audit_tells_another_name_from_no_package(acme: Any, story: Story) -> None:
    acme.Rewards.name = "acme-2"
    found = replay(story.log.reader, level=Level.DECISIONS)
    assert found.untaken == {"rewards: reward model 'acme' is installed here, and calls itself 'acme-2'": 2}


def test_failing_planner_leaves_plans_undecided_in_audit_and_what_if(acme: Any, tmp_path: Path, story: Story) -> None:
    from tests.engine.decided_log import Rows, forged

    def foreign(rows: Rows) -> None:
        rows[-1]["event"]["planner"] = "acme"
        rows[-2]["event"]["model"] = "elsewhere"

    log = forged(story.log, tmp_path / "forged", foreign)
    for acme.plan in (raises, lambda _standings, _policy: ["no step"]):
        found = replay(log, level=Level.DECISIONS)
        assert [count for why, count in found.untaken.items() if "planner 'acme' fails here" in why] == [1]
        would = what_if(log, {"reward.threshold": 0.6})
        assert [count for why, count in would.to_run.items() if "planner 'acme' fails here" in why] == [1]


# ---- a sandbox -----------------------------------------------------------------------------------------------------


class Box:
    """A sandbox of others."""

    name = "box"

    def fault(self, network: bool) -> str | None:
        return None

    def enforced(self, cell: object) -> str:
        return "box"

    def command(self, command: list[str], cell: object) -> list[str]:
        return list(command)


@pytest.mark.parametrize(
    ("question", "answer", "said"),
    [
        ("fault", raises, "fault of the sandbox box failed: ValueError: out of order"),
        ("fault", lambda *_: 5, "gave something else than a text or None"),
        ("command", raises, "command of the sandbox box failed: ValueError"),
        ("command", lambda *_: None, "gave something else than a list of texts"),
        ("command", lambda *_: "ls", "gave something else than a list of texts"),
    ],
)
def test_sandbox_that_fails_cannot_be_used_here(
    monkeypatch: pytest.MonkeyPatch, question: str, answer: object, said: str
) -> None:
    module = ModuleType("acme_box")
    module.__dict__["Box"] = Box
    monkeypatch.setitem(sys.modules, "acme_box", module)
    monkeypatch.setattr(Box, question, answer)
    with pytest.raises(ConfigError, match="this machine cannot run") as told:
        chosen(MutationSettings(sandbox="acme_box:Box"))
    assert said in str(told.value)


# ---- whoever looks before it runs ----------------------------------------------------------------------------------


def test_doctor_tells_what_is_named_and_cannot_serve(acme: Any, tmp_path: Path) -> None:
    root = agent_folder(tmp_path / "agent")
    initialize(root, with_model=False)

    def found(plugins: str) -> list[tuple[str, str]]:
        (root / "instar.toml").write_text(plugins)
        return [(one.level, one.text) for one in examine(open_workspace(root, {})) if one.subject == "extension"]

    assert found('[plugins]\nplanner = "nobody"\n')[0][0] == "bad"
    assert found('[plugins]\nplanner = "acme"\n') == [("ok", "instar.planners: acme of acme 3.1")]
    acme.Rewards.name = "another"
    [(level, text)] = found('[plugins]\nreward_model = "acme"\n')
    assert level == "note"
    assert "the log knows it as 'another'" in text
    assert found('[plugins]\nplanner = "acme_of_test:Plans"\n') == []


def test_sample_of_the_page_serves_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    page = (PROJECT / "docs" / "extensions.md").read_text()
    project, settings, _ = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.S))
    code = re.search(r"```python\n(.*?)```", page, re.S)
    assert code is not None
    (tmp_path / "acme_instar.py").write_text(code[1])
    folder = tmp_path / "acme_instar-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-instar\nVersion: 1\n")
    points = project["project"]["entry-points"]
    (folder / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in one.items())
            for group, one in points.items()
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    request.addfinalizer(lambda: sys.modules.pop("acme_instar", None))
    root = agent_folder(tmp_path / "agent")
    gate = ["{python}", "-c", "import heuristics; assert heuristics.score(1, 2) == 3"]
    chosen = msgspec.convert({**settings, "mutation": {"gate": gate}}, Settings)
    (root / "heuristics.py").write_text("def score(a, b):\n    return a - b\n")
    initialize(root, settings=chosen, with_model=False)
    with Engine(root, worker=False, settings=chosen) as engine:
        engine.feedback(task_type="t", input="a task", output="x", outcome="fail")
        engine.execute({"type": "mutate", "repair": True})
        Worker(engine.runtime).run_once()
        assert (root / "heuristics.py").read_text() == "def score(a, b):\n    return a + b\n"
        accepted = [one.event for one in engine.events() if isinstance(one.event, MutationAccepted)]
        assert [one.mutator for one in accepted] == ["acme-1"]
        found = engine.replay()
    assert found.untaken == {}
    assert (found.decisions["rewards"], found.decisions["plans"] > 0) == (1, True)
