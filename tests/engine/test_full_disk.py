"""A full disk is no fault of an effect: it stays owed, nothing is recorded, and the next run does it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from instar.engine.effects import diffing
from instar.engine.replay import replay
from instar.engine.worker import Worker
from instar.fsm.errors import EffectFailedError, LogUnavailable
from instar.fsm.events import DiffComputed, EffectFailed
from tests.engine.agents import code_only


@pytest.mark.parametrize("wrapped", [False, True])
def test_effect_stays_owed_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    runtime = code_only(tmp_path / "agent")
    (tmp_path / "agent" / "heuristics.py").write_text("def score(a, b):\n    return a * b\n")

    def full(*_: object) -> object:
        error = OSError(errno.ENOSPC, "No space left on device")
        if wrapped:
            raise EffectFailedError("the model cannot be saved") from error
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(diffing, "diff", full)
        with pytest.raises(LogUnavailable, match="make room"):
            Worker(runtime).run_once()
    head = runtime.state.head
    assert runtime.state.machine == "Diffing"
    assert not list(runtime.reader.read(types=[EffectFailed]))
    Worker(runtime).run_once()
    assert runtime.state.head > head
    assert len(list(runtime.reader.read(types=[DiffComputed]))) == 1
    assert not list(runtime.reader.read(types=[EffectFailed]))
    assert replay(runtime.reader).events == runtime.state.head
    runtime.close()
