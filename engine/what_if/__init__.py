"""What another policy would have decided, over the facts that were recorded. Runs no effect.

The log is folded as it stands. Beside the recorded state goes a shadow: the standings, budgets and counters as the
other policy would have them. At each decision both are asked, and where they part, both answers are kept, with the
facts and with the later events that rest on the recorded one. What only a run could tell (another data set, another
training, another batch to embed) is named, and taken as it was recorded from there on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instar.engine.replay.facts import Facts
from instar.fsm.evolve import evolve
from instar.fsm.rewards import Standings
from instar.fsm.state import AgentState
from instar.fsm.words import Seq
from instar.store.reader import LogReader

from .deciding import Deciding
from .dependents import walk
from .findings import Otherwise, WhatIf
from .overrides import Overrides, parse
from .shadow import Other

__all__ = ["Otherwise", "WhatIf", "parse", "what_if"]


def what_if(reader: LogReader, policy: Mapping[str, Any], *, to: Seq | None = None) -> WhatIf:
    """Lists each decision that would have been another under another policy.

    Args:
        reader: the log.
        policy: what to set otherwise, by dotted name, such as ``{"drift.threshold": 0.6}``.
        to: the last event; the head by default.

    Raises:
        ConfigError: a key is not known, or a value cannot stand there.
        IllegalTransition, LogCorrupt: the log does not fold; replay it first.
    """
    overrides = Overrides(policy)
    last = reader.head() if to is None else to
    facts = Facts(reader)
    deciding = Deciding(facts, Other(overrides))
    state = AgentState()
    for fact in facts.read(Seq(1), last):
        after = evolve(state, fact.event, seq=fact.seq, cause=fact.cause, at_us=fact.at_us)
        deciding.step(state, fact, after)
        state = after
    affected, gaps = walk(reader, last, deciding.otherwise)
    recorded, other = overrides.values(state.policy), overrides.values(overrides.on(state.policy))
    return WhatIf(
        policy={key: (recorded[key], other[key]) for key in overrides.given},
        events=state.head,
        decisions=dict(sorted(deciding.decisions.items())),
        otherwise=sorted(deciding.otherwise, key=lambda one: one.seq),
        affected=affected,
        to_run=dict(sorted(deciding.to_run.items())),
        standings=_moved(state.standings, deciding.shadow.standings),
        gaps=gaps,
        state=state,
    )


def _moved(recorded: Standings, other: Standings) -> dict[str, tuple[float, float]]:
    """Names the task types whose mean reward is another; one that only one side knows has 0 on the other."""
    names = sorted({*recorded, *other})
    means = {
        name: (recorded[name].mean if name in recorded else 0.0, other[name].mean if name in other else 0.0)
        for name in names
    }
    return {name: pair for name, pair in means.items() if pair[0] != pair[1]}
