"""Random lives of a workspace against a model that keeps whole copies of it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.workspace_machine import WorkspaceMachine

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def live(lives: int, steps: int) -> str:
    """Lets workspaces live; gives what was done in all of them."""
    WorkspaceMachine.steps.clear()
    run_state_machine_as_test(WorkspaceMachine, settings=settings(QUIET, max_examples=lives, stateful_step_count=steps))
    done = WorkspaceMachine.steps
    return f"{done.total()} steps ({', '.join(f'{name} {count}' for name, count in done.most_common())})"


def test_nothing_is_lost_in_a_short_life() -> None:
    live(8, 15)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_long_lives() -> None:
    done = live(60, 40)
    assert WorkspaceMachine.steps.total() >= 1000
    print(f"\n{done}: byte for byte after each rollback, and every captured version can be read")
