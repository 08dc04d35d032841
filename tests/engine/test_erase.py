"""Erasure on request: the text is gone from every file, what was decided stands, and the log verifies."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.engine.keeping.erase import erase, plan_erasure
from instar.engine.keeping.integrity import check
from instar.engine.loop import Loop
from instar.engine.memory.search import search
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.worker import Worker
from instar.fsm.errors import BlobMissing, ConfigError, RollbackRefused
from instar.fsm.events import ChangeObserved, DiffComputed, FeedbackReceived, SignalEmbedded
from instar.fsm.words import Seq
from tests.engine.agents import code_only, instar, with_model

NAME = "Augusta Ada King of Lovelace"
REASON = "the person asked for it"


def asked(text: str) -> FeedbackReceived:
    return FeedbackReceived(task_type="lookup", input=text, output="os.open", outcome="pass", confidence=0.9)


def held_by(root: Path, text: str) -> list[Path]:
    """Every file below ``root`` that holds a text as it is."""
    return [path for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def blobs_with(runtime: Runtime, text: str) -> list[str]:
    """Every blob whose uncompressed bytes hold a text."""
    stored = [*(digest for digest, _ in runtime.reader.stored_blobs()), *runtime.blobs.files()]
    return [digest for digest in stored if text.encode() in runtime.blobs.get(digest)]


@pytest.mark.model
def test_feedback_is_erased_with_its_diff_its_text_and_its_vector(tmp_path: Path) -> None:
    runtime = with_model(tmp_path)
    others = ["open a file", "join two paths", "parse a date"]
    for text in (others[0], f"send {NAME} a letter", *others[1:]):
        runtime.log.append(asked(text))
    Loop(runtime).run_until_idle()
    state, head = runtime.state, runtime.reader.head()
    assert any(NAME in row.text for row in search(runtime, NAME, 5))
    target = Seq(3)
    plan = plan_erasure(runtime, target, REASON)
    kinds = [type(runtime.reader.get(seq).event) for seq in plan.events]
    assert kinds == [FeedbackReceived, DiffComputed, SignalEmbedded]
    assert blobs_with(runtime, NAME)
    erase(runtime, plan)
    assert not blobs_with(runtime, NAME)
    found = search(runtime, NAME, 5)
    assert sorted(row.text for row in found) == sorted(others)
    runtime.memory.save()
    runtime.close()
    assert not held_by(tmp_path, NAME)
    again = Runtime(tmp_path, actor="test")
    assert again.reader.state_at(head) == state
    assert check(again.reader).problems == []
    assert [row.text for row in search(again, "join two paths", 1)] == ["join two paths"]
    again.close()


@pytest.mark.model
def test_second_erasure_of_a_cycle_leaves_no_text_in_the_first(tmp_path: Path) -> None:
    runtime = with_model(tmp_path)
    for text in (f"call {NAME}", "open a file", "call Grace Brewster Murray Hopper"):
        runtime.log.append(asked(text))
    Loop(runtime).run_until_idle()
    erase(runtime, plan_erasure(runtime, Seq(2), REASON))
    plan = plan_erasure(runtime, Seq(4), REASON)
    erase(runtime, plan)
    assert not blobs_with(runtime, "Hopper")
    assert [row.text for row in search(runtime, "Hopper", 5)] == ["open a file"]
    assert check(runtime.reader).problems == []
    runtime.memory.save()
    runtime.close()
    assert not held_by(tmp_path, "Hopper") + held_by(tmp_path, NAME)


def test_secret_in_a_file_is_erased_from_every_version_that_held_it(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    secret = "token = 'k9-super-secret'\n"
    file = tmp_path / "heuristics.py"
    for text in (secret, "token = None\n", secret, "token = 1\n"):
        file.write_text(text)
        Worker(runtime).run_once()
    (first, *_) = [
        record.seq
        for record in runtime.reader.read(types=[ChangeObserved])
        if isinstance(record.event, ChangeObserved) and record.event.path == "heuristics.py"
    ]
    before = list(runtime.reader.read())
    erase(runtime, plan_erasure(runtime, first, REASON))
    assert not blobs_with(runtime, "k9-super-secret")
    assert check(runtime.reader).problems == []
    assert [type(record.event) for record in runtime.reader.read(1, before[-1].seq)] == [type(r.event) for r in before]
    with pytest.raises(BlobMissing):
        roll_back(runtime, first)
    roll_back(runtime, 1)
    runtime.close()


def test_content_that_still_stands_is_not_erased(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    (tmp_path / "heuristics.py").write_text("token = 'k9'\n")
    Worker(runtime).run_once()
    with pytest.raises(RollbackRefused, match=r"heuristics\.py still has the content"):
        plan_erasure(runtime, Seq(2), REASON)
    runtime.close()


def test_what_holds_no_text_of_its_own_is_refused(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    runtime.log.append(asked(NAME))
    Loop(runtime).run_until_idle()
    for seq in (1, 3, 4):
        with pytest.raises(ConfigError, match="holds no text of its own"):
            plan_erasure(runtime, Seq(seq), REASON)
    with pytest.raises(ConfigError, match="give --reason"):
        plan_erasure(runtime, Seq(2), " ")
    erase(runtime, plan_erasure(runtime, Seq(2), REASON))
    with pytest.raises(ConfigError, match="erased by event"):
        plan_erasure(runtime, Seq(2), REASON)
    runtime.close()


def test_command_shows_asks_and_erases(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    runtime.log.append(asked(NAME))
    runtime.close()
    looked = instar("erase", "2", "-n", cwd=tmp_path)
    assert looked.returncode == 0
    assert "would be erased" in looked.stdout.decode()
    unasked = instar("erase", "2", "--reason", REASON, cwd=tmp_path)
    assert unasked.returncode == 4
    assert held_by(tmp_path, NAME)
    done = instar("erase", "2", "--reason", REASON, "-y", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert "erased, by events 3" in done.stdout.decode()
    assert not held_by(tmp_path, NAME)
    assert REASON in instar("show", "3", cwd=tmp_path).stdout.decode()
    assert instar("verify", cwd=tmp_path).returncode == 0
    assert instar("show", "2", cwd=tmp_path).returncode == 0
