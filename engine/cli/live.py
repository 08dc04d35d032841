"""Shows the cycle live: a line an event, a bar while an effect counts its steps."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from instar.engine.describe import describe
from instar.engine.visible import visible
from instar.fsm.record import Recorded

from .output import stderr_console

if TYPE_CHECKING:
    from rich.progress import TaskID


class Live:
    """Draws on standard error; plain lines where that is no terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = stderr_console()
        self._bars = Progress(
            TextColumn("  {task.description:<12}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._effect = ""

    def event(self, record: Recorded) -> None:
        """Prints one event."""
        from rich.text import Text

        moved = record.state_before != record.state_after
        name = type(record.event).__name__
        state = f"{record.state_after:<10}", "bold cyan" if moved else "dim"
        told = Text.assemble(f"{record.seq:>6}  ", state, f"  {name:<20}  {visible(describe(record.event))}")
        self._console.print(told, soft_wrap=True)

    def report(self, effect: str, step: int, steps: int, note: str) -> None:
        """Moves the bar of the effect that runs."""
        if self._task is not None and effect != self._effect:
            self._bars.remove_task(self._task)
            self._task = None
        self._effect = effect
        note = visible(note)
        if steps <= 1 or not self._console.is_terminal:
            return
        if self._task is None:
            self._task = self._bars.add_task(effect, total=steps, note=note)
        self._bars.update(self._task, completed=step, total=steps, note=note)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
