"""Planning, when a mutation is proposed: hands the queued patch to the kernel and records the verdict."""

from __future__ import annotations

from instar.fsm.events import TaskQueued
from instar.fsm.react import Effect
from instar.fsm.state import AgentState
from instar.store.log import Pending

from .effects.signals import current
from .kernel import judge
from .runtime import Runtime
from .watcher import rescan


def mutate(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Judges the mutation of the cycle in progress; an accepted one is then rolled forward like any restore."""
    cycle = current(state)
    task = runtime.reader.get(cycle.span.first)
    assert isinstance(task.event, TaskQueued)
    rescan(runtime)
    verdict = judge(runtime, runtime.state, task.seq, task.event)
    return [Pending(verdict, cause=effect.answers)]
