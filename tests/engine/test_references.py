"""What a user may call a point of the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.engine import references
from instar.engine.references import resolve
from instar.engine.restoring.rollback import roll_back
from instar.engine.snapshot import take_snapshot
from instar.fsm.errors import ConfigError, InputRefused
from instar.store.clock import iso
from tests.engine.agents import code_only, instar
from tests.engine.dashboard_log import NEW, sample_log


def test_each_form_names_its_position(tmp_path: Path) -> None:
    log = sample_log(tmp_path)
    reader, head = log.reader, log.reader.head()
    assert resolve(reader, 3) == resolve(reader, "3") == 3
    assert (resolve(reader, "latest"), resolve(reader, "latest~2")) == (head, head - 2)
    assert resolve(reader, f"checkpoint:{NEW[:8]}") == resolve(reader, "last-good") == head - 1
    assert resolve(reader, iso(reader.get(5).recorded_at_us)) >= 5
    for wrong in ("0", "999", "latest~999", "checkpoint:", "snapshot:x", "soon", "1999-01-01"):
        with pytest.raises(ConfigError):
            resolve(reader, wrong)


def test_last_good_is_a_users_snapshot_and_never_a_rollbacks_own(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    assert resolve(runtime.reader, "last-good") == 1
    good = take_snapshot(runtime, "before-the-experiment").seq
    (runtime.workspace.root / "notes.txt").write_text("worse\n")
    roll_back(runtime, 1)
    assert resolve(runtime.reader, "last-good") == good


def test_last_good_is_found_however_much_came_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_LATEST", 2)
    runtime = code_only(tmp_path / "agent")
    for points in (0, 1):
        good = take_snapshot(runtime, f"good-{points}").seq if points else 1
        for number in range(5):
            (runtime.workspace.root / "notes.txt").write_text(f"worse {points} {number}\n")
            roll_back(runtime, 1)
        assert resolve(runtime.reader, "last-good") == good


def test_name_as_rollbacks_give_is_refused_to_a_user(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    head = runtime.state.head
    for name in ("before-rollback-x", "before-rollback-12", "before-rollback-"):
        with pytest.raises(InputRefused, match="Choose another name"):
            take_snapshot(runtime, name)
    told = instar("snapshot", "before-rollback-x", cwd=runtime.workspace.root)
    assert told.returncode == 2
    assert b"gc" in told.stderr
    assert runtime.state.head == head
    assert take_snapshot(runtime, "before-rollback").seq == head + 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "9" * 5000),
        ("show", f"latest~{'9' * 5000}"),
        ("why", "9" * 5000),
        ("why", f"memory:1.{'9' * 5000}"),
        ("log", "-c", "9" * 30),
        ("dataset", "show", "-c", "9" * 30),
        ("dataset", "show", "--skip", "9" * 30),
        ("restore", "notes.txt", "--displaced", "9" * 30),
    ],
)
def test_number_of_any_length_is_a_mistake_of_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code_only(tmp_path / "agent").close()
    told = instar(*arguments, cwd=tmp_path / "agent")
    assert told.returncode == 2, told.stderr[-500:]
    assert b"should not happen" not in told.stderr
    assert len(told.stderr) < 6000


def test_number_with_zeros_in_front_is_the_number(tmp_path: Path) -> None:
    log = sample_log(tmp_path)
    assert resolve(log.reader, "0" * 5000 + "3") == 3
    with pytest.raises(ConfigError, match="no position"):
        resolve(log.reader, 10**5000)
