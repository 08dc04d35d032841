"""Searches while checkpoints are promoted and rolled back: each answer is wholly of one embedding space."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from instar.engine import initialize as beginning
from instar.engine.loop import Loop
from instar.engine.memory.search import Found, search
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.settings import EmbeddingSettings, Settings
from instar.fsm import events as e
from instar.fsm.policy import Policy, RetrainPolicy
from instar.fsm.words import Digest
from instar.store.log import Pending
from tests.engine.candidates import ROWS_MIN, bring_candidate
from tests.engine.one_space import live_texts, right_vector
from tests.engine.tiny_model import tiny_model

TEXTS = ["open a file", "sort a list", "parse json", "zip 2 lists", "read stdin?", "x" * 50, "[1, 2, 3]", "a b c d e f"]
ASKED = ["how to open files", "json!", "sorted(x)"]
TURNS, THREADS, CLOSE = 2, 2, 3e-3


@pytest.mark.model
def test_every_answer_is_of_one_space_while_checkpoints_come_and_go(tmp_path: Path) -> None:
    folders = [tiny_model(tmp_path / name, seed) for name, seed in (("one", 1), ("two", 2))]
    root = tmp_path / "agent"
    root.mkdir()
    settings = Settings(
        model=str(folders[0]),
        embedding=EmbeddingSettings(precision="float32", cache_mb=0),
        policy=Policy(retrain=RetrainPolicy(rows_min=ROWS_MIN, per_hour_max=10_000)),
    )
    beginning.initialize(root, settings=settings)
    runtime = Runtime(root, actor="test", settings=settings)
    try:
        rows = [e.FeedbackReceived(task_type="find", input=text, output="o", outcome="fail") for text in TEXTS]
        runtime.log.transact(lambda _: [Pending(row) for row in rows])
        Loop(runtime).run_until_idle()
        other = runtime.models.import_weights(str(folders[1]))
        answers = _asked_meanwhile(runtime, other)
        texts = {f"memory:{seq}.{item}": text for (seq, item), text in live_texts(runtime).items()}
        seen = {_space(text, found, texts, folders) for text, found in answers}
        assert seen == {0, 1}
    finally:
        runtime.close()


def _asked_meanwhile(runtime: Runtime, other: Digest) -> list[tuple[str, list[Found]]]:
    """Promotes and rolls back in turns while threads search; gives what they asked and found."""
    answers: list[tuple[str, list[Found]]] = []
    faults: list[BaseException] = []
    done = threading.Event()

    def ask(number: int) -> None:
        try:
            while not done.wait(0.05):
                text = ASKED[number % len(ASKED)]
                answers.append((text, search(runtime, text, 1000)))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        base = runtime.state.checkpoint
        for _ in range(TURNS):
            before = runtime.log.state.head
            bring_candidate(runtime, other)
            Loop(runtime).step()
            assert runtime.state.checkpoint == other
            _await_answers(answers, threads)
            roll_back(runtime, before, only=["checkpoint"])
            assert runtime.state.checkpoint == base
            _await_answers(answers, threads)
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert not faults
    return answers


def _await_answers(answers: list[tuple[str, list[Found]]], threads: list[threading.Thread]) -> None:
    """Waits until each thread has had the time to begin a search and to end it."""
    wanted = len(answers) + 2 * len(threads)
    while len(answers) < wanted and all(thread.is_alive() for thread in threads):
        time.sleep(0.01)


def _space(asked: str, found: list[Found], texts: dict[str, str], folders: list[Path]) -> int:
    """Says which model alone explains every similarity of an answer."""
    assert len(found) >= len(TEXTS)
    similarities = np.array([row.similarity for row in found])
    fits: list[int] = []
    for number, folder in enumerate(folders):
        right = np.array([right_vector(folder, asked) @ right_vector(folder, texts[row.reference]) for row in found])
        if np.abs(similarities - right).max() < CLOSE:
            fits.append(number)
    assert len(fits) == 1, f"an answer to {asked!r} is of {len(fits)} spaces"
    return fits[0]
