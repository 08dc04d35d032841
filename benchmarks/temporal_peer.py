"""Temporal's Replayer on a workflow's history that is made by hand: no server is needed for it.

The history is what a server records of an agent that runs one activity after the other: six history events an activity.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import default
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

QUEUE, RESULT = "agents", "os.scandir(path): an iterator of the entries, one each. " * 6


@workflow.defn(name="Agent")
class AgentWorkflow:
    """An agent that looks one thing up after the other."""

    @workflow.run
    async def run(self, steps: int) -> int:
        """Runs the activities; gives how many there were."""
        for number in range(steps):
            await workflow.execute_activity("lookup", f"request {number}", start_to_close_timeout=timedelta(seconds=60))
        return steps


class _History:
    """The events of one run, as a server writes them."""

    def __init__(self) -> None:
        self.events: list[HistoryEvent] = []
        self._started = datetime(2026, 5, 18, tzinfo=UTC)

    def add(self, name: str, **facts: Any) -> int:
        """Adds an event of a type, such as ``ACTIVITY_TASK_STARTED``, with its attributes; gives its number."""
        number = len(self.events) + 1
        event = HistoryEvent(
            event_id=number,
            event_type=EventType.Value(f"EVENT_TYPE_{name}"),
            **{f"{name.lower()}_event_attributes": facts},  # type: ignore[arg-type]
        )
        event.event_time.FromDatetime(self._started + timedelta(milliseconds=number))
        self.events.append(event)
        return number

    def workflow_task(self) -> int:
        """Adds the turn in which the workflow's code runs; gives the number of its last event."""
        scheduled = self.add("WORKFLOW_TASK_SCHEDULED", task_queue={"name": QUEUE}, attempt=1)
        started = self.add("WORKFLOW_TASK_STARTED", scheduled_event_id=scheduled)
        return self.add("WORKFLOW_TASK_COMPLETED", scheduled_event_id=scheduled, started_event_id=started)

    def activity(self, number: int, decided: int) -> None:
        """Adds an activity that ran and gave its result."""
        scheduled = self.add(
            "ACTIVITY_TASK_SCHEDULED",
            activity_id=str(number + 1),
            activity_type={"name": "lookup"},
            task_queue={"name": QUEUE},
            input=_payloads(f"request {number}"),
            start_to_close_timeout=timedelta(seconds=60),
            workflow_task_completed_event_id=decided,
        )
        started = self.add("ACTIVITY_TASK_STARTED", scheduled_event_id=scheduled, attempt=1)
        self.add(
            "ACTIVITY_TASK_COMPLETED",
            scheduled_event_id=scheduled,
            started_event_id=started,
            result=_payloads(f"{number}: {RESULT}"),
        )


def _payloads(value: Any) -> dict[str, Any]:
    return {"payloads": default().payload_converter.to_payloads([value])}


def agent_history(steps: int) -> WorkflowHistory:
    """Makes the history of a run of ``steps`` activities."""
    history = _History()
    history.add(
        "WORKFLOW_EXECUTION_STARTED",
        workflow_type={"name": "Agent"},
        task_queue={"name": QUEUE},
        input=_payloads(steps),
        original_execution_run_id="run",
        first_execution_run_id="run",
        attempt=1,
    )
    decided = history.workflow_task()
    for number in range(steps):
        history.activity(number, decided)
        decided = history.workflow_task()
    history.add("WORKFLOW_EXECUTION_COMPLETED", result=_payloads(steps), workflow_task_completed_event_id=decided)
    return WorkflowHistory("agent", history.events)


def replay_history(history: WorkflowHistory, *, sandboxed: bool = True) -> int:
    """Replays a history with the Replayer's default settings, or without its sandbox; gives the number of events.

    Raises:
        RuntimeError: the Replayer found a difference (``NondeterminismError`` and its kin).
    """
    runner: dict[str, Any] = {} if sandboxed else {"workflow_runner": UnsandboxedWorkflowRunner()}

    async def once() -> None:
        await Replayer(workflows=[AgentWorkflow], **runner).replay_workflow(history)

    asyncio.run(once())
    return len(history.events)
