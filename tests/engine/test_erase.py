"""Erasure on request: the text is gone from every file, what was decided stands, and the log verifies."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import pytest
from msgspec.structs import replace

from instar.engine.initialize import initialize
from instar.engine.keeping import erasure_copies
from instar.engine.keeping.erase import erase, plan_erasure
from instar.engine.keeping.gc import collect
from instar.engine.keeping.integrity import check
from instar.engine.keeping.named_blobs import Named, NamedBlobs
from instar.engine.loop import Loop
from instar.engine.memory.search import search
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.tool_executor import execute
from instar.engine.watcher import rescan
from instar.engine.worker import Worker
from instar.fsm.errors import BlobErased, BlobMissing, ConfigError, RollbackRefused
from instar.fsm.events import (
    ChangeObserved,
    DatasetGenerated,
    DiffComputed,
    EffectFailed,
    FeedbackReceived,
    SignalEmbedded,
    TaskQueued,
)
from instar.fsm.retention import Retention
from instar.fsm.words import Seq, State, digest_of
from tests.engine.agents import agent_folder, code_only, instar, with_model

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


def test_erasures_of_one_cycle_cost_the_same_each(tmp_path: Path) -> None:
    """Each one erased all that the earlier ones had left: the twelfth was recorded as two thousand events."""
    runtime = code_only(tmp_path)
    told = [runtime.log.append(asked(f"{NAME} number {number}")).seq for number in range(8)]
    Loop(runtime).run_until_idle()
    counts = [len(erase(runtime, plan_erasure(runtime, seq, REASON))) for seq in told]
    assert counts[2:] == [counts[1]] * 6
    assert not blobs_with(runtime, NAME)
    assert check(runtime.reader).problems == []
    runtime.close()
    assert not held_by(tmp_path, NAME)


def test_data_set_that_a_checkpoint_learned_from_is_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = code_only(tmp_path)
    seq = runtime.log.append(replace(asked(NAME), outcome="fail", reference="io.open")).seq
    Loop(runtime).run_until_idle()
    (made,) = runtime.reader.read(types=[DatasetGenerated])
    assert isinstance(made.event, DatasetGenerated)
    assert NAME.encode() in runtime.blobs.get(made.event.dataset)
    dataset = made.event.dataset

    class AsTrained(NamedBlobs):
        """What the events of a log name, with a CheckpointTrained among them."""

        def __iter__(self) -> Iterator[Named]:
            yield from super().__iter__()
            yield Named("blob", dataset, seq, seq)

    monkeypatch.setattr(erasure_copies, "NamedBlobs", AsTrained)
    plan = plan_erasure(runtime, seq, REASON)
    assert dataset in plan.blobs
    runtime.close()


def test_what_a_file_held_from_the_first_event_on_is_erased_by_its_path(tmp_path: Path) -> None:
    agent_folder(tmp_path)
    (tmp_path / "heuristics.py").write_text(f"OWNER = {NAME!r}\n")
    initialize(tmp_path, with_model=False)
    runtime = Runtime(tmp_path, actor="test")
    with pytest.raises(RollbackRefused, match="still has the content"):
        plan_erasure(runtime, Seq(1), REASON, "heuristics.py")
    (tmp_path / "heuristics.py").write_text("OWNER = None\n")
    Worker(runtime).run_once()
    with pytest.raises(ConfigError, match=r"no file stood at nowhere\.py"):
        plan_erasure(runtime, Seq(1), REASON, "nowhere.py")
    erase(runtime, plan_erasure(runtime, Seq(1), REASON, "heuristics.py"))
    assert not blobs_with(runtime, NAME)
    assert check(runtime.reader).problems == []
    with pytest.raises(BlobErased, match="was erased by event"):
        roll_back(runtime, 1)
    runtime.close()
    assert not held_by(tmp_path, NAME)  # not in the reasons of the drift either
    assert instar("replay", cwd=tmp_path).returncode == 0


def test_patch_goes_with_its_task_and_with_the_content_that_it_quotes(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    old = (tmp_path / "heuristics.py").read_text()
    told = f'raise SystemExit("{NAME}")'
    for gate, new in (("false", f"{told}\n{old}"), ("true", f"# {NAME}\n{old}"), ("true", old)):
        patch = "".join(unified_diff(_lines(tmp_path), new.splitlines(True), "a/heuristics.py", "b/heuristics.py"))
        task = {"type": "mutate", "patch": patch, "gate": ["python3", "heuristics.py"] if gate == "false" else [gate]}
        execute(runtime, task, source="cli")
        Loop(runtime).run_until_idle()
        Worker(runtime).run_once()
    rejected, kept, _ = (record.seq for record in runtime.reader.read(types=[TaskQueued]))
    assert (tmp_path / "heuristics.py").read_text() == old
    waiting = runtime.log.append(
        TaskQueued(task="mutate", source="cli", patch=runtime.blobs.put(b"--- a\n+++ b\n"))
    ).seq
    with pytest.raises(RollbackRefused, match="was not tried yet"):
        plan_erasure(runtime, waiting, REASON)
    erase(runtime, plan_erasure(runtime, rejected, REASON))
    (change, *_) = (record.seq for record in runtime.reader.read(kept, types=[ChangeObserved]))
    plan = plan_erasure(runtime, change, REASON)
    assert kept in plan.events
    erase(runtime, plan)
    collect(runtime, Retention(days=0))  # the files of the rejected patch, which no event names
    assert not blobs_with(runtime, NAME)
    assert check(runtime.reader).problems == []
    runtime.close()
    assert not held_by(tmp_path, NAME)
    assert instar("replay", cwd=tmp_path).returncode == 0


def test_lines_of_a_log_file_are_erased_once_they_stand_there_no_more(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    logs = tmp_path / "data" / "logs" / "services"
    logs.mkdir(parents=True)
    (logs / "a.log").write_text(f"ERROR could not write to {NAME}\nERROR the disk is broken\n")
    for text in ("open a file", "join two paths"):
        runtime.log.append(replace(asked(text), outcome="fail", reference="x"))
        Loop(runtime).run_until_idle()
    first, _ = (record.seq for record in runtime.reader.read(types=[DatasetGenerated]))
    with pytest.raises(RollbackRefused, match="still stands in"):
        plan_erasure(runtime, first, REASON)
    (logs / "a.log").write_text("ERROR the disk is broken\n")
    erase(runtime, plan_erasure(runtime, first, REASON))
    assert not blobs_with(runtime, NAME)
    assert check(runtime.reader).problems == []
    runtime.close()
    assert not held_by(tmp_path, NAME)


def test_content_that_comes_back_after_another_process_erased_it_is_stored_again(tmp_path: Path) -> None:
    """The worker took it for stored: the next rollback displaced the file, and there was no way back to it."""
    runtime = code_only(tmp_path)
    file, aside = tmp_path / "heuristics.py", tmp_path.parent / "aside.py"
    file.write_text("TOKEN = 'k9'\n")
    Worker(runtime).run_once()
    file.rename(aside)
    file.write_text("TOKEN = None\n")
    Worker(runtime).run_once()
    (change, *_) = (record.seq for record in runtime.reader.read(types=[ChangeObserved]))
    other = Runtime(tmp_path, actor="cli")
    erase(other, plan_erasure(other, change, REASON))
    other.close()
    aside.rename(file)  # with the times that it had
    Worker(runtime).run_once()
    back = runtime.reader.head()
    roll_back(runtime, 1)
    assert "k9" not in file.read_text()
    roll_back(runtime, back)
    assert "k9" in file.read_text()
    runtime.close()


def test_output_that_is_what_a_file_holds_leaves_the_file_in_the_store(tmp_path: Path) -> None:
    """`cat notes.txt`, erased, took the version out of the store that stands there: no rollback led to it again."""
    runtime = code_only(tmp_path)
    content = (tmp_path / "notes.txt").read_bytes()
    done = execute(runtime, {"type": "shell", "command": "cat notes.txt"}, source="agent")
    plan = plan_erasure(runtime, Seq(done.feedback or 0), REASON)
    assert digest_of(content) in plan.kept
    erase(runtime, plan)
    assert runtime.blobs.get(digest_of(content)) == content
    runtime.close()


def test_change_that_is_erased_while_it_waits_keeps_no_cycle_from_ending(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    file = tmp_path / "heuristics.py"
    for text in ("token = 'k9-super-secret'\n", "token = None\n"):
        file.write_text(text)
        rescan(runtime)
    runtime.log.append(asked("open a file"))
    (first, *_) = [record.seq for record in runtime.reader.read(types=[ChangeObserved])]
    erase(runtime, plan_erasure(runtime, first, REASON))
    Loop(runtime).run_until_idle()
    (diffed,) = [record.event for record in runtime.reader.read(types=[DiffComputed])]
    assert isinstance(diffed, DiffComputed)
    assert [(item.kind, item.meaning_changed) for item in diffed.items][:2] == [("code_diff", False)] * 2
    assert len(diffed.items) == 3
    assert list(runtime.reader.read(types=[EffectFailed])) == []
    assert runtime.state.machine is State.IDLE
    runtime.close()


def test_what_another_program_said_in_a_trigger_file_goes_whole(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    trigger = runtime.workspace.retrain_trigger
    trigger.parent.mkdir(parents=True, exist_ok=True)
    trigger.write_text(f'{{"trigger": "{NAME}", "note": "{NAME}", "more": "{NAME}"}}')
    Worker(runtime).run_once()
    (task,) = (record.seq for record in runtime.reader.read(types=[TaskQueued]))
    trigger.unlink(missing_ok=True)
    erase(runtime, plan_erasure(runtime, task, REASON))
    assert not blobs_with(runtime, NAME)
    runtime.close()
    assert not held_by(tmp_path, NAME)


def test_copy_that_came_between_plan_and_erasure_goes_too(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    seq = runtime.log.append(asked(NAME)).seq
    plan = plan_erasure(runtime, seq, REASON)
    Loop(runtime).run_until_idle()
    assert len(erase(runtime, plan)) > len(plan.events) == 1
    assert not blobs_with(runtime, NAME)
    runtime.close()


def test_effect_that_read_what_was_erased_meanwhile_is_done_again(tmp_path: Path) -> None:
    runtime = code_only(tmp_path)
    seq = runtime.log.append(asked(NAME)).seq
    loop = Loop(runtime)
    loop.step()  # the cycle begins

    def between(name: str) -> None:
        if name == "diff.done" and runtime.reader.erased(seq) is None:
            other = Runtime(tmp_path, actor="other")
            erase(other, plan_erasure(other, seq, REASON))
            other.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("instar.engine.loop.failpoint", between)
        loop.run_until_idle()
    assert runtime.reader.erased(seq) is not None
    assert runtime.state.machine is State.IDLE
    assert not blobs_with(runtime, NAME)
    runtime.close()


def _lines(folder: Path) -> list[str]:
    return (folder / "heuristics.py").read_text().splitlines(True)
