"""kill -9 in each of the eight states: the log alone says how to go on, and the cycle ends as it would have.

What a worker leaves does not depend on its model: the suite takes a small one, a torture run the real MiniLM.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.fsm.events import CheckpointTrained, DatasetGenerated, SignalEmbedded, TreeCaptured
from instar.fsm.react import EffectName, react
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import State
from instar.store.reader import LogReader
from tests.crash.lessons import rows
from tests.engine.agents import agent_folder, instar
from tests.engine.tiny_model import tiny_model_made_apart

SETTINGS = """
[policy]
retrain = {{ rows_min = 8 }}
gate = {{ gain_min = -100.0, heldout_min = 2, forgetting_max = 1.0 }}
[training.recipe]
epochs = 1
batch = 8
frozen_layers = {frozen}
general = 0.0
"""

KILLS = {
    State.IDLE: EffectName.START_CYCLE,
    State.DIFFING: EffectName.DIFF,
    State.EMBEDDING: EffectName.EMBED,
    State.FLAGGED: EffectName.FLAG,
    State.GENERATING: EffectName.GENERATE,
    State.TRAINING: EffectName.TRAIN,
    State.REWARDING: EffectName.REWARD,
    State.PLANNING: EffectName.PLAN,
}
POINTS = [f"{effect}.{moment}" for effect in KILLS.values() for moment in ("owed", "done", "recorded")]
POINTS.insert(POINTS.index("reward.recorded"), "promoted")
"""Every failpoint of a cycle, in the order in which they are passed."""


@dataclass
class Killed:
    """What a killed worker left."""

    exit_code: int
    state: AgentState
    head: int
    blob_files: set[str]


@dataclass
class Story:
    """One life with a kill in every state, and the same without any."""

    kills: dict[State, Killed]
    killed: Path
    undisturbed: Path


def reader(root: Path) -> LogReader:
    return LogReader(root / ".instar" / "log.db")


def blob_files(root: Path) -> set[str]:
    return {str(path) for path in (root / ".instar" / "blobs").rglob("*") if path.is_file()}


def waiting_agent(folder: Path, *model: str, frozen: int) -> None:
    """An agent with failures and an edit that no cycle has taken up yet."""
    agent_folder(folder)
    (folder / "instar.toml").write_text(SETTINGS.format(frozen=frozen))
    assert instar("init", *model, cwd=folder).returncode == 0
    lines = "\n".join(json.dumps(row) for row in rows(30)).encode()
    assert instar("feedback", "--jsonl", "-", cwd=folder, stdin=lines).returncode == 0
    (folder / "heuristics.py").write_text("def score(a, b):\n    return a * b\n")


def told(root: Path) -> list[tuple[str, str, str]]:
    """The story of a log: each event's type and the states around it, but for folders that a scan happened to find."""
    return [
        (type(record.event).__name__, record.state_before, record.state_after)
        for record in reader(root).read()
        if not isinstance(record.event, TreeCaptured)
    ]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("killed")
    killed, undisturbed = folder / "killed", folder / "undisturbed"
    model = tiny_model_made_apart(folder / "model", width=512)  # some of its tensors are files of their own
    waiting_agent(killed, "--model", str(model), frozen=0)
    shutil.copytree(killed, undisturbed, symlinks=True)
    ended = instar("run", "--once", cwd=undisturbed)
    assert ended.returncode == 0, ended.stderr.decode()
    kills = {}
    for state, effect in KILLS.items():
        done = instar("run", "--once", cwd=killed, INSTAR_FAILPOINTS=f"{effect}.done=kill")
        log = reader(killed)
        kills[state] = Killed(done.returncode, log.state_at(), log.head(), blob_files(killed))
        log.close()
    ended = instar("run", "--once", cwd=killed)
    assert ended.returncode == 0, ended.stderr.decode()
    return Story(kills, killed, undisturbed)


@pytest.mark.parametrize("state", list(State))
def test_worker_killed_in_state_leaves_its_effect_owed(story: Story, state: State) -> None:
    left = story.kills[state]
    assert left.exit_code == -9
    assert left.state.machine is state
    effect = react(left.state)
    assert effect is not None
    assert effect.name is KILLS[state]


@pytest.mark.parametrize("state", list(State))
def test_restarted_worker_records_the_outcome_once(story: Story, state: State) -> None:
    left = story.kills[state]
    answers = [
        record
        for record in reader(story.killed).read(left.head + 1)
        if record.state_before is state and record.state_after is not state and record.cycle <= 1
    ]
    assert len(answers) == 1
    if state is not State.IDLE:
        assert answers[0].cause == left.state.since


def test_cycle_ends_as_it_would_have(story: Story) -> None:
    assert told(story.killed) == told(story.undisturbed)
    assert reader(story.killed).state_at().machine is State.IDLE
    assert reader(story.killed).state_at().waiting_count == 0


def of_type(root: Path, kind: type) -> list[Recorded]:
    return list(reader(root).read(types=[kind]))


def test_data_set_and_memory_are_what_they_would_have_been(story: Story) -> None:
    datasets = [[record.event.dataset for record in of_type(root, DatasetGenerated)] for root in both(story)]  # type: ignore[union-attr]
    assert datasets[0] == datasets[1]
    assert len(datasets[0]) == 1
    vectors = [[record.event.vectors for record in of_type(root, SignalEmbedded)] for root in both(story)]  # type: ignore[union-attr]
    assert vectors[0][0] == vectors[1][0]
    assert [len(found) for found in vectors] == [2, 2]  # the second is of the retrain, whose seed is of its own log


def both(story: Story) -> tuple[Path, Path]:
    return story.killed, story.undisturbed


def test_training_that_was_killed_gives_the_same_checkpoint_again(story: Story) -> None:
    """The killed run stored its tensors before it could record them; the second run adds none."""
    stored = story.kills[State.TRAINING].blob_files
    assert stored > story.kills[State.GENERATING].blob_files
    assert story.kills[State.REWARDING].blob_files == stored
    assert len(of_type(story.killed, CheckpointTrained)) == 1


def test_no_event_is_lost_or_recorded_twice(story: Story) -> None:
    records = list(reader(story.killed).read())
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    keys = Counter(record.key for record in records if record.key)
    assert all(count == 1 for count in keys.values())
    assert replay(reader(story.killed)).events == len(records)
    assert instar("verify", cwd=story.killed).returncode == 0


def test_result_of_the_retrain_is_in_memory_and_not_replaceable(story: Story) -> None:
    items = [item for record in of_type(story.killed, SignalEmbedded) for item in record.event.items]  # type: ignore[union-attr]
    (retrain,) = [item for item in items if item.kind == "retrain"]
    assert retrain.replaceable is False  # type: ignore[union-attr]
    trained = of_type(story.killed, CheckpointTrained)[0].event
    assert retrain.lineage == trained.lineage  # type: ignore[union-attr]


@pytest.mark.model
@pytest.mark.torture
def test_worker_killed_before_and_after_every_effect_and_record(tmp_path: Path) -> None:
    """Three kills a state, and one between a promotion's record and its activation."""
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    waiting_agent(killed, frozen=3)
    shutil.copytree(killed, undisturbed, symlinks=True)
    assert instar("run", "--once", cwd=undisturbed).returncode == 0
    kills = 0
    for point in POINTS:
        done = instar("run", "--once", cwd=killed, INSTAR_FAILPOINTS=f"{point}=kill")
        assert done.returncode in (0, -9), done.stderr.decode()
        kills += done.returncode == -9
    assert instar("run", "--once", cwd=killed).returncode == 0
    assert told(killed) == told(undisturbed)
    active = (killed / "run" / "checkpoints" / "active").resolve().name
    assert active == reader(killed).state_at().checkpoint
    print(f"{kills} kills at {len(POINTS)} failpoints: the same {len(told(killed))} events as without any")
