"""Random lives of a workspace against a model that keeps whole copies of it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.workspace_life import WorkspaceLife
from tests.properties.workspace_machine import WorkspaceMachine

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, report_multiple_bugs=False)


def live(machine: type[WorkspaceLife], lives: int, steps: int) -> str:
    """Lets workspaces live; gives what was done in all of them."""
    machine.steps.clear()
    run_state_machine_as_test(machine, settings=settings(QUIET, max_examples=lives, stateful_step_count=steps))
    done = machine.steps
    return f"{done.total()} steps ({', '.join(f'{name} {count}' for name, count in done.most_common())})"


def test_nothing_is_lost_in_a_short_life() -> None:
    live(WorkspaceMachine, 8, 15)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_long_lives() -> None:
    done = live(WorkspaceMachine, 60, 60)
    assert WorkspaceMachine.steps.total() >= 1000
    print(f"\n{done}: byte for byte after each rollback, and every captured version can be read")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_nothing_is_mixed_in_long_lives_with_a_model() -> None:
    from tests.properties.model_machine import ModelMachine

    done = live(ModelMachine, 30, 50)
    assert ModelMachine.steps.total() >= 1000
    assert set(ModelMachine.reembedded) == {"for a promotion", "for a rollback"}
    counts = ", ".join(f"{count} {why}" for why, count in ModelMachine.reembedded.items())
    print(f"\n{done}; memory embedded anew {counts}")
    print("memory of one space, a whole checkpoint, and byte for byte after each rollback")
