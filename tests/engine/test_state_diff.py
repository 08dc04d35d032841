"""What differs between two positions: each part by itself, there and back again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.numpy import save_file

from instar.engine.cli.replay_diff import show
from instar.engine.differences.checkpoint_diff import compare_checkpoints
from instar.engine.differences.memory_diff import without
from instar.engine.differences.state_diff import StateDiff, compare_states
from instar.engine.differences.tree_diff import compare_code
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.fsm.events import FeedbackReceived, PolicyChanged, Span
from instar.fsm.policy import DriftPolicy
from instar.fsm.words import Digest, Seq
from instar.store.checkpoints import import_checkpoint
from instar.store.log import EventLog, Pending
from tests.engine.agents import PROJECT, code_only
from tests.engine.dashboard_log import BASE, NEW, sample_log
from tests.store.memory_blobs import MemoryBlobs


@pytest.fixture
def edited(tmp_path: Path) -> Runtime:
    """An agent of which one file was changed, one added, one deleted, one made executable; a snapshot was taken."""
    runtime = code_only(tmp_path / "agent")
    root = runtime.workspace.root
    (root / "run.sh").write_text("true\n")
    (root / "run.sh").chmod(0o644)
    take_snapshot(runtime, "before")
    (root / "heuristics.py").write_text("def score(a, b):\n    return a * b\n\n\ndef rank(a):\n    return -a\n")
    (root / "notes.txt").unlink()
    (root / "picture").write_bytes(b"\0\1\2")
    (root / "run.sh").chmod(0o755)
    take_snapshot(runtime, "edited")
    return runtime


def between(runtime: Runtime, a: int, b: int) -> StateDiff:
    return compare_states(runtime.reader, runtime.blobs, Seq(a), Seq(b))


def test_code_is_compared_path_by_path(edited: Runtime) -> None:
    snapshots = edited.state.snapshots
    found = between(edited, snapshots["before"], snapshots["edited"])
    told = {one.path: (one.change, one.lines_added, one.lines_removed) for one in found.code.paths}
    assert told == {
        "heuristics.py": ("modified", 4, 4),
        "notes.txt": ("deleted", 0, 1),
        "picture": ("added", None, None),
        "run.sh": ("mode", None, None),
    }
    assert found.code.lines == (4, 5)
    by_path = {one.path: one for one in found.code.paths}
    assert by_path["heuristics.py"].units_changed == ("score",)
    assert by_path["heuristics.py"].units_added == ("rank",)
    assert by_path["run.sh"].note == "mode 644 → 755"
    assert by_path["picture"].note == "binary"
    assert [(one.name, one.before, one.after) for one in found.snapshots] == [("edited", None, snapshots["edited"])]


def test_way_back_is_the_mirror_of_the_way_there(edited: Runtime) -> None:
    there, back = between(edited, 1, edited.state.head), between(edited, edited.state.head, 1)
    assert (there.a, there.b) == (back.b, back.a)
    assert there.code.lines == back.code.lines[::-1]
    assert {one.path for one in there.code.paths} == {one.path for one in back.code.paths}
    for name in ("snapshots", "machine", "budgets", "waiting", "policy"):
        mirrored = [(one.name, one.after, one.before) for one in getattr(back, name)]
        assert [(one.name, one.before, one.after) for one in getattr(there, name)] == mirrored


def test_same_position_differs_in_nothing(edited: Runtime) -> None:
    assert between(edited, 3, 3).same
    assert not between(edited, 1, edited.state.head).same


def test_rollback_brings_the_code_back_and_nothing_else_is_claimed(edited: Runtime) -> None:
    before = edited.state.snapshots["before"]
    roll_back(edited, before)
    found = between(edited, before, edited.state.head)
    assert found.code.before == found.code.after
    assert found.code.paths == ()
    assert not found.same, "snapshots and waiting signals are more than before"


def test_path_that_is_no_longer_captured_is_named(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    settings = replace(runtime.settings, watch=replace(runtime.settings.watch, cap_bytes=100))
    runtime.close()
    small = Runtime(tmp_path / "agent", actor="test", settings=settings)
    (small.workspace.root / "notes.txt").write_text("x" * 200)
    take_snapshot(small, "grown")
    found = between(small, 1, small.state.head)
    assert [(one.path, one.change) for one in found.code.paths] == [("notes.txt", "unmanaged")]
    assert found.code.paths[0].note


def test_file_whose_bytes_are_gone_is_still_named(edited: Runtime) -> None:
    class Forgetful(MemoryBlobs):
        """Has the trees and none of the files."""

        def get(self, digest: Digest) -> bytes:
            content = edited.blobs.get(digest)
            return content if content.startswith(b'{"files"') else super().get(digest)

    snapshots = edited.state.snapshots
    trees = [edited.reader.state_at(snapshots[name]).tree for name in ("before", "edited")]
    found = compare_code(Forgetful(), *trees)
    assert [(one.path, one.change, one.lines_added) for one in found.paths if one.change == "modified"] == [
        ("heuristics.py", "modified", None)
    ]
    assert "no blob" in found.paths[0].note


def test_policy_waiting_and_budgets_are_compared_by_name(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    other = replace(runtime.state.policy, drift=DriftPolicy(threshold=0.6), monitored=("a.py",))
    runtime.log.append(PolicyChanged(policy=other))
    feedback = FeedbackReceived(task_type="t", input="i")
    runtime.log.transact(lambda _: [Pending(feedback), Pending(feedback)])
    found = between(runtime, 1, runtime.state.head)
    assert [(one.name, one.after) for one in found.policy] == [("monitored", ("a.py",)), ("drift.threshold", 0.6)]
    assert [(one.name, one.before, one.after) for one in found.waiting] == [("signals", 0, 2)]
    assert (found.machine, found.budgets, found.rewards) == ((), (), ())


@pytest.fixture
def cycled(tmp_path: Path) -> EventLog:
    """A log in which a checkpoint was trained and promoted, and memory embedded again."""
    return sample_log(tmp_path)


def test_checkpoint_memory_rewards_and_plan_are_compared(cycled: EventLog) -> None:
    head = cycled.state.head
    found = compare_states(cycled.reader, cycled.blobs, Seq(1), head)
    checkpoint = found.checkpoint
    assert (checkpoint.before, checkpoint.after, checkpoint.lineage) == (BASE, NEW, (BASE, NEW))
    assert [(one.checkpoint, one.verdict) for one in checkpoint.trainings] == [(NEW, "promoted")]
    assert "not in the store" in checkpoint.note, "the weights of this log are made up"
    assert (found.memory.added.rows, found.memory.added.kinds) == (9, {"failure": 9})
    assert found.memory.hidden.rows == 0
    assert [(one.space, one.rows) for one in found.memory.reembedded] == [(NEW, 9)]
    ((task_type, before, after),) = [(one.task_type, one.before, one.after) for one in found.rewards]
    assert (task_type, before) == ("find", None)
    assert after == cycled.state.standings["find"]
    assert [step.task_type for step in found.plan_after] == ["find"]
    changed = {one.name: (one.before, one.after) for one in (*found.machine, *found.budgets)}
    assert changed["cycles"] == (0, 1)
    assert changed["retrains in the last hour"] == (0, 1)
    assert changed["rows learned from last"] == (0, 40)
    back = compare_states(cycled.reader, cycled.blobs, head, Seq(1))
    assert (back.memory.added.rows, back.memory.hidden.rows) == (0, 9)
    assert back.checkpoint.lineage == (BASE, NEW), "it leads from the older to the newer"


def test_cycle_in_progress_is_told(cycled: EventLog) -> None:
    embedded = cycled.state.memory[0].first
    changed = {one.name: one.after for one in compare_states(cycled.reader, cycled.blobs, Seq(1), embedded).machine}
    assert changed["state"] == "Flagged"
    assert changed["cycle in progress"] == "1 (signals)"


def test_tensors_are_compared_by_name(tmp_path: Path, cycled: EventLog) -> None:
    def checkpoint(name: str, **tensors: np.ndarray) -> Digest:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        save_file(tensors, folder / "model.safetensors")
        return import_checkpoint(cycled.blobs, folder)

    same, old, new = np.ones(8, np.float32), np.zeros(4, np.float32), np.ones(4, np.float32)
    before = checkpoint("before", same=same, changed=old, removed=old)
    after = checkpoint("after", same=same, changed=new, added=new)
    found = compare_checkpoints(cycled.reader, cycled.blobs, (Seq(1), before), (Seq(2), after))
    assert (found.tensors, found.changed, found.added, found.removed) == (3, ("changed",), ("added",), ("removed",))
    assert (found.bytes_changed, found.bytes_all) == (32, 64)
    assert (found.lineage, found.trainings, found.note) == ((), (), "")
    assert compare_checkpoints(cycled.reader, cycled.blobs, (Seq(1), before), (Seq(2), before)).changed == ()


def test_position_that_is_not_there_is_refused(cycled: EventLog) -> None:
    from instar.fsm.errors import LogCorrupt

    with pytest.raises(LogCorrupt):
        compare_states(cycled.reader, cycled.blobs, Seq(1), Seq(9_999))


spans = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10)), max_size=5).map(
    lambda pairs: tuple(Span(Seq(first), Seq(first + length)) for first, length in pairs)
)


def covered(found: tuple[Span, ...]) -> set[int]:
    return {seq for span in found for seq in range(span.first, span.last + 1)}


@given(spans, spans)
def test_spans_without_others_cover_the_rest(one: tuple[Span, ...], other: tuple[Span, ...]) -> None:
    left = without(one, other)
    assert covered(left) == covered(one) - covered(other)
    assert all(span.first <= span.last for span in left)


def test_difference_is_printed_for_people_and_for_programs(edited: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    show(edited.reader, [], a="snapshot:before", b="latest", as_json=False)
    text = capsys.readouterr().out
    assert "M heuristics.py  +4 −4  score, +rank" in text
    assert "D notes.txt  +0 −1" in text
    assert text.splitlines()[-1].startswith("the same")
    show(edited.reader, [], a="1", b="1", as_json=False)
    assert "the same    everything" in capsys.readouterr().out
    show(edited.reader, [], a="1", b="latest", as_json=True)
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["same"] is False
    assert [one["path"] for one in told["diff"]["code"]["paths"]] == ["heuristics.py", "notes.txt", "picture", "run.sh"]
    assert told["diff"]["a"]["seq"] == 1


def test_difference_needs_no_model_and_no_statement_builder(edited: Runtime) -> None:
    edited.close()
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from instar.engine.cli.output import reader_at\n"
        "from instar.engine.cli.replay_diff import show\n"
        "show(reader_at(Path(sys.argv[1])), [], a='1', b='latest', as_json=False)\n"
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'usearch', 'sentence_transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", script, str(edited.workspace.root)]
    done = subprocess.run(command, capture_output=True, env=environ, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
