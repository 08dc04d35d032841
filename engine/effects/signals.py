"""The signals that a cycle took up."""

from __future__ import annotations

from instar.fsm.decisions import SIGNALS as SIGNALS
from instar.fsm.decisions import waits_for_cycle
from instar.fsm.errors import EffectFailedError
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState, Cycle
from instar.store.reader import LogReader


def current(state: AgentState) -> Cycle:
    """Gives the cycle in progress."""
    if state.cycle is None:
        raise EffectFailedError(f"state {state.machine} has no cycle in progress; run `instar replay --verify`")
    return state.cycle


def starts_cycle(record: Recorded) -> bool:
    """Says whether a recorded event waits to be taken up by a cycle of signals."""
    return waits_for_cycle(record.event)


def signals_of(reader: LogReader, cycle: Cycle) -> list[Recorded]:
    """Reads the signals of a cycle, in the order in which they were recorded."""
    if cycle.entry != "signals":
        return []
    taken = [record for record in reader.read(cycle.span.first, cycle.span.last, SIGNALS) if starts_cycle(record)]
    if len(taken) != cycle.count:
        raise EffectFailedError(f"the cycle took up {cycle.count} signals, the log holds {len(taken)}")
    return taken
