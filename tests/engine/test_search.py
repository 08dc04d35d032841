from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from instar.engine.embedder import MiniLMEmbedder
from instar.engine.embedding import models
from instar.engine.embedding.models import active_space
from instar.engine.feedback_rows import check_feedback
from instar.engine.memory.answers import answer, right_answer
from instar.engine.memory.search import Filter, filter_of, moment_us, search
from instar.engine.runtime import Runtime
from instar.engine.service import Client, Service
from instar.engine.worker import Worker
from instar.fsm.errors import ConfigError
from instar.fsm.events import FeedbackReceived
from instar.fsm.words import digest_of
from instar.store.log import Pending
from tests.engine.agents import instar, with_model
from tests.engine.steady_products import need_steady_products
from tests.engine.warm import run_warm_code

KNOWN = [
    ("open a file for reading", "open"),
    ("read a whole file as text", "open"),
    ("open a text file", "open"),
    ("sort a list of numbers", "sorted"),
    ("put a list in order", "sorted"),
    ("what is the weather like", "none of ours"),
]


def told() -> list[FeedbackReceived]:
    rows = [{"task_type": "lookup", "input": text, "output": out, "outcome": "pass"} for text, out in KNOWN[:-1]]
    rows.append({"task_type": "chat", "input": KNOWN[-1][0], "output": "sunny", "reference": KNOWN[-1][1]})
    rows.append({"task_type": "lookup", "input": "open a door", "output": "open", "outcome": "fail"})
    return [check_feedback(row) for row in rows]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    runtime = with_model(tmp_path_factory.mktemp("search") / "agent")
    runtime.log.transact(lambda _: [Pending(event) for event in told()])
    Worker(runtime).run_once()
    yield runtime
    runtime.close()


@pytest.mark.model
def test_filters_leave_what_they_name_and_no_more(runtime: Runtime) -> None:
    every = search(runtime, "open a file", 100)
    assert len([row for row in every if row.task_type == "chat"]) == 1
    (chat,) = search(runtime, "open a file", 10, filter_of(task_types=["chat"]))
    assert chat.text == "what is the weather like"
    assert {row.kind for row in search(runtime, "x", 100, filter_of(kinds=["failure"]))} == {"failure"}
    assert search(runtime, "x", 100, filter_of(units=["look*"])) == search(
        runtime, "x", 100, filter_of(units=["lookup"])
    )
    assert search(runtime, "x", 100, filter_of(units=["look"])) == []
    times = sorted({row.at_us for row in every})
    later = search(runtime, "x", 100, Filter(since_us=times[-1]))
    assert later
    assert {row.at_us for row in later} == {times[-1]}
    assert search(runtime, "x", 100, Filter(until_us=times[0] - 1)) == []
    assert len(search(runtime, "x", 100, Filter(since_us=times[0], until_us=times[-1]))) == len(every)


@pytest.mark.model
def test_search_verb_takes_every_filter_and_gives_the_answer(runtime: Runtime) -> None:
    root = runtime.workspace.root
    run = instar("search", "open a file", "-k", "3", "--kind", "feedback", "--task", "lookup", "--json", cwd=root)
    rows = json.loads(run.stdout)["data"]
    assert [row["kind"] for row in rows] == ["feedback"] * 3
    none = instar("search", "x", "--unit", "nobody", "--since", "2026-01-01", "--until", "2099-01-01", cwd=root)
    assert (none.returncode, none.stdout.strip()) == (0, b"nothing in memory fits")
    wrong = instar("search", "x", "--since", "yesterday", "--json", cwd=root)
    assert (wrong.returncode, b"is no time" in wrong.stdout) == (2, True)
    asked = instar("search", "open a file to read it", "--answer", "--json", cwd=root)
    assert json.loads(asked.stdout)["data"]["output"] == "open"


@pytest.mark.model
def test_answer_is_what_the_neighbours_know_to_be_right(runtime: Runtime) -> None:
    given = answer(runtime, "open a file to read it")
    assert (given.output, given.fitted, given.voters) == ("open", False, 6)
    assert 0.7 < given.confidence <= 1
    assert [row.similarity for row in given.support] == sorted((row.similarity for row in given.support), reverse=True)
    assert {row.text for row in given.support} <= {text for text, output in KNOWN if output == "open"}
    weather = answer(runtime, "how is the weather today")
    assert weather.output == "none of ours"  # the reference, not what was answered
    nothing = answer(runtime, "open", wanted=filter_of(task_types=["nobody"]))
    assert (nothing.output, nothing.confidence, nothing.support) == (None, 0.0, [])
    between = answer(runtime, "list the weather files in order")
    assert between.confidence < given.confidence


def test_right_answer_is_the_reference_or_the_output_of_what_passed() -> None:
    outcomes = {event.input: right_answer(event) for event in told()}
    assert outcomes["what is the weather like"] == "none of ours"
    assert outcomes["open a text file"] == "open"
    assert outcomes["open a door"] is None


@pytest.mark.model
@pytest.mark.parametrize("text", ["a\0b", "\ud800 half", "🙂" * 50, "שלום عالم \u202e", "word " * 200_000])
def test_odd_texts_are_searched_here_and_by_the_service(runtime: Runtime, text: str) -> None:
    here = search(runtime, text, 3)
    assert len(here) == 3
    service = Service(runtime)
    service.start()
    try:
        client = Client(runtime.workspace.socket)
        assert client.search(text, 3) == here
        assert client.answer(text, 5).voters == answer(runtime, text, 5).voters
        np.testing.assert_array_equal(
            client.embed([text])[1], runtime.models.embed_each(active_space(runtime.state), [text])[0]
        )
        with pytest.raises(ConfigError, match="the search text is empty"):
            client.search(" \n", 3)
    finally:
        service.stop()


def test_filter_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no time"):
        filter_of(since="noon")
    with pytest.raises(ConfigError, match="list of names"):
        filter_of(kinds="unit")
    assert moment_us("1970-01-01T00:00:01") == 1_000_000
    assert moment_us("1970-01-01T01:00:01+01:00") == 1_000_000


@pytest.mark.model
def test_reembedding_that_was_killed_goes_on_to_the_same_bits(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_steady_products()  # it goes on in other batches
    script = f"""
import sys
from pathlib import Path
from instar.engine.runtime import Runtime
from instar.engine.embedding.models import active_space
import instar.engine.embedding.models as models
models._CHUNK = 4
runtime = Runtime(Path({str(runtime.workspace.root)!r}), actor="test")
texts = [f"text number {{n}} " * (n % 5 + 1) for n in range(20)]
runtime.models.reembed(active_space(runtime.state), texts, runtime.progress)
"""
    run = run_warm_code(script, INSTAR_FAILPOINTS="reembed.kept=kill@3")
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    space = active_space(runtime.state)
    (part,) = runtime.workspace.memory.glob("*.part")
    assert part.stat().st_size == 32 + 12 * (32 + 4 * 384 + 4)
    texts = [f"text number {n} " * (n % 5 + 1) for n in range(20)]
    seen: list[int] = []
    runtime.progress.listen(lambda effect, step, steps, note: seen.append(step) if effect == "re-embed" else None)
    monkeypatch.setattr(models, "_CHUNK", 4)
    vectors, failures = runtime.models.reembed(space, texts, runtime.progress)
    assert (failures, seen) == ([None] * 20, [16, 20])  # the first 12 are kept
    np.testing.assert_array_equal(vectors, runtime.models.embed_each(space, texts)[0])
    runtime.models.forget_kept()
    assert not list(runtime.workspace.memory.glob("*.part"))


@pytest.mark.model
def test_search_waits_for_no_embedding_in_another_space(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, space = runtime.models, active_space(runtime.state)
    other = digest_of(b"the space that is to follow")
    shelf.embed_each(space, ["warm"])
    folder = shelf.folder(space)
    monkeypatch.setattr(shelf, "folder", lambda _, **__: folder)
    encode, begun, asked = MiniLMEmbedder._encode, threading.Event(), threading.Event()

    def slow_elsewhere(self: MiniLMEmbedder, texts: list[str]) -> NDArray[np.float32]:
        if self.space == other:
            begun.set()
            assert asked.wait(200)
        return encode(self, texts)

    monkeypatch.setattr(MiniLMEmbedder, "_encode", slow_elsewhere)
    with ThreadPoolExecutor(2) as pool:
        runs = pool.submit(shelf.embed_each, other, ["a text of memory"])
        try:
            assert begun.wait(100)
            found = pool.submit(lambda: [search(runtime, f"open {number}", 2) for number in range(3)])
            assert all(found.result(timeout=100))
            assert shelf.embedder(space).space == space
            assert not runs.done()
        finally:
            asked.set()
        assert runs.result()[1] == [None]
