"""kill -9 before every system call of a promotion: never a half checkpoint, never a search in a mixed space.

The work is real from the feedback on: a training of a small model, the gate, memory embedded anew, the switch of the
active checkpoint, the cycle that takes the verdict up, and the index that is saved.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from instar.engine.initialize import initialize
from instar.engine.keeping.integrity import check
from instar.engine.replay import replay
from instar.engine.runtime import Runtime
from instar.engine.settings import load_settings
from instar.fsm import events as e
from instar.fsm.words import Digest, State
from instar.store.log import Pending
from instar.store.model_folder import hash_folder
from tests.crash.forked import Forked, Site
from tests.crash.lessons import rows
from tests.crash.syscalls import why_not
from tests.crash.tree_scenes import MEMORY, spread
from tests.engine.agents import agent_folder, instar
from tests.engine.one_space import check_memory, live_texts, right_vector
from tests.engine.tiny_model import tiny_model

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.model, pytest.mark.torture]

SETTINGS = """
[policy]
retrain = { rows_min = 8 }
gate = { gain_min = -100.0, heldout_min = 1, forgetting_max = 1.0 }
[embedding]
precision = "float32"
[training]
threads = 1
[training.recipe]
epochs = 1
batch = 8
tokens_max = 32
general = 0.0
frozen_layers = 0
"""
RUN = ("run", "--once")
ASKED = "open a file and read it"
SEARCH = ("search", ASKED, "-k", "1000", "--json")
NEAR = 1e-3


@dataclass
class Promotion:
    """A workspace whose candidate waits for its verdict.

    Attributes:
        template: copied for each kill.
        base, promoted: the checkpoint before and after.
        models: both as folders outside the workspace, whole.
        events: how many of each kind an undisturbed promotion leaves.
    """

    template: Path
    base: Digest
    promoted: Digest
    models: dict[Digest, Path]
    events: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def promotion(place: Path) -> Promotion:
    model = tiny_model(place / "model")
    root = agent_folder(place / "template")
    (root / "instar.toml").write_text(SETTINGS)
    initialize(root, settings=load_settings(root, {}, model=str(model)))
    runtime = Runtime(root, actor="test")
    runtime.log.transact(lambda _: [Pending(e.FeedbackReceived(**row)) for row in rows(48)])
    base = runtime.state.checkpoint
    runtime.close()
    assert base is not None
    assert instar(*RUN, cwd=root, INSTAR_FAILPOINTS="train.recorded=kill").returncode == -9
    runtime = Runtime(root, actor="test")
    assert runtime.state.machine is State.REWARDING
    trained = runtime.reader.tail(1, [e.CheckpointTrained])[0].event
    assert isinstance(trained, e.CheckpointTrained)
    promoted = Digest(trained.checkpoint)
    candidate = shutil.copytree(unpacked := runtime.models.folder(promoted), place / "promoted")
    runtime.close()
    shutil.rmtree(unpacked)
    return Promotion(root, base, promoted, {base: model, promoted: candidate})


@pytest.fixture(scope="module")
def forked(place: Path, promotion: Promotion) -> Iterator[Forked]:
    with Forked(WARM_MODEL=str(promotion.models[promotion.base])) as server:
        yield server


def test_killed_promotion_leaves_one_whole_checkpoint_and_one_space(
    promotion: Promotion, forked: Forked, place: Path
) -> None:
    root = place / "tried"
    sites = _sites(promotion, forked, root, RUN)
    assert promotion.events["MemoryReembedded"] == 1
    kills, outcomes = _kill(promotion, forked, root, RUN, sites)
    assert len(outcomes) == 2
    print(f"\npromotion: {kills.total()} kills ({', '.join(f'{name} {n}' for name, n in kills.most_common())})")
    print(f"{dict(outcomes)}, 0 half, 0 mixed; each went on to the promotion, once")


def test_killed_save_of_the_index_leaves_one_that_is_right(promotion: Promotion, forked: Forked, place: Path) -> None:
    """After the promotion, where the first search brings the index of the new space to disk."""
    root, ended = place / "tried", place / "promoted-workspace"
    shutil.copytree(promotion.template, ended, symlinks=True)
    assert forked.run(*RUN, "-C", str(ended)).code == 0
    promoted = replace(promotion, template=ended)
    sites = _sites(promoted, forked, root, SEARCH)
    assert any("/memory/" in site.what for site in sites), "no index was saved"
    kills, outcomes = _kill(promoted, forked, root, SEARCH, sites)
    assert set(outcomes) == {"promoted"}
    print(f"\nindex: {kills.total()} kills ({', '.join(f'{name} {n}' for name, n in kills.most_common())}), 0 wrong")


def _sites(promotion: Promotion, forked: Forked, root: Path, command: Sequence[str]) -> list[Site]:
    """Runs a command undisturbed, keeps what it leaves, and gives its calls that change something."""
    shutil.copytree(promotion.template, root, symlinks=True)
    ended, sites = forked.record(root, *command, "-C", str(root))
    assert ended.code == 0, ended.said
    assert _stands(promotion, forked, root) == "promoted"
    promotion.events = _events(root)
    shutil.rmtree(root)
    return list(spread(sites, 1))


def _kill(
    promotion: Promotion, forked: Forked, root: Path, command: Sequence[str], sites: Sequence[Site]
) -> tuple[Counter[str], Counter[str]]:
    """Kills a command before each of its calls, looks at what stands, and lets the next worker go on."""
    kills, outcomes = Counter[str](), Counter[str]()
    for site in sites:
        shutil.copytree(promotion.template, root, symlinks=True)
        ended = forked.run(*command, "-C", str(root), inject=f"{site.name}:signal=SIGKILL:when={site.number}")
        assert ended.code in (-9, 0), f"{site}: {ended.said}"
        try:
            active = _stands(promotion, forked, root)
            again = forked.run(*RUN, "-C", str(root))
            assert again.code == 0, again.said
            assert _stands(promotion, forked, root) == "promoted"
            _ended_once(promotion, root)
        except Exception as error:
            raise AssertionError(f"killed before {site}: {error}") from error
        kills[site.name] += ended.code == -9
        outcomes[active] += ended.code == -9
        shutil.rmtree(root)
    return kills, outcomes


def _stands(promotion: Promotion, forked: Forked, root: Path) -> str:
    """Says which checkpoint is active: the log, the link and memory have to agree, and a search has to be of it alone.

    A link that a killed worker left behind the log leads to a whole checkpoint too; the next worker moves it.
    """
    runtime = Runtime(root, actor="test")
    try:
        state = runtime.state
        verdicts = [one.event for one in runtime.reader.read(types=[e.OutcomeRewarded])]
        said = any(isinstance(one, e.OutcomeRewarded) and one.verdict == "promoted" for one in verdicts)
        assert state.checkpoint == (promotion.promoted if said else promotion.base)
        model = promotion.models[state.checkpoint]
        assert check_memory(runtime, model) > 0
        texts = live_texts(runtime)
    finally:
        runtime.close()
    link = (root / "run" / "checkpoints" / "active").resolve()
    assert _files(link) == _files(promotion.models[Digest(link.name)]), "a half checkpoint is active"
    asked = right_vector(model, ASKED)
    wanted = sorted((float(asked @ right_vector(model, text)) for text in texts.values()), reverse=True)
    ended = forked.run(*SEARCH, "-C", str(root))
    assert ended.code == 0, ended.said
    found = [row["similarity"] for row in json.loads(ended.said.splitlines()[-1])["data"]]
    assert found == pytest.approx(wanted, abs=NEAR), "a search mixed two spaces"
    return "promoted" if said else "earlier"


def _ended_once(promotion: Promotion, root: Path) -> None:
    assert (root / "run" / "checkpoints" / "active").resolve().name == promotion.promoted
    assert _events(root) == promotion.events
    runtime = Runtime(root, actor="test")
    try:
        assert not list(runtime.workspace.checkpoints.glob(".*.partial"))
        assert not list(check(runtime.reader).problems)
        assert replay(runtime.reader).state == runtime.state
    finally:
        runtime.close()


def _events(root: Path) -> Counter[str]:
    runtime = Runtime(root, actor="test")
    try:
        return Counter(type(record.event).__name__ for record in runtime.reader.read(1))
    finally:
        runtime.close()


def _files(folder: Path) -> dict[str, Digest]:
    """Hashes the files that a checkpoint has; a model's own folder holds a page about it as well."""
    return {path: digest for path, digest in hash_folder(folder).items() if path.endswith((".safetensors", ".json"))}
