"""``instar run --once`` that is asked to end does so after the effect in progress, and says that it was not all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from instar.engine.runtime import Runtime
from instar.fsm.events import EffectFailed, MutationAccepted, MutationRejected
from instar.fsm.react import react
from tests.engine.agents import instar
from tests.engine.test_beginnings import owing_mutation

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")

ASKS_IT_TO_END = ["sh", "-c", "kill -TERM $PPID; sleep 0.2"]
"""A gate that asks its worker to end, where nothing confines it, and passes."""


def test_sigterm_ends_it_after_the_effect_in_progress(tmp_path: Path) -> None:
    workspace = owing_mutation(tmp_path / "agent", ASKS_IT_TO_END)
    done = instar("run", "--once", cwd=workspace.root, INSTAR_MUTATION__SANDBOX="rlimits")
    assert done.returncode == 143, done.stderr.decode()
    assert b"ended by SIGTERM" in done.stderr
    runtime = Runtime(workspace.root, actor="test")
    judged = [MutationAccepted, MutationRejected, EffectFailed]
    assert [type(record.event) for record in runtime.reader.read(types=judged)] == [MutationAccepted]
    assert react(runtime.state) is not None
    done = instar("run", "--once", cwd=workspace.root)
    assert done.returncode == 0, done.stderr.decode()
    assert react(runtime.state) is None
    assert len(list(runtime.reader.read(types=judged))) == 2
    runtime.close()
