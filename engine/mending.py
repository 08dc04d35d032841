"""Finds the patch of a mutation that names none: what the mutators propose is tried, each in a copy of its own.

The gate is run on the tree as it is first: only what fails can be repaired, and what it says is what the mutators go
by (Weimer et al. 2009; Le Goues et al. 2012). What passes here is a patch like any other, and judged as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from instar.fsm.decisions import seed_of
from instar.fsm.errors import ConfigError, EffectSuspended, InputRefused
from instar.fsm.events import Repair
from instar.fsm.react import EffectName
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.trees import Tree

from .extension_calls import recordable
from .mutators.port import Mutator, Proposal, RepairRequest
from .repair import as_patch, chosen_mutators, material, past_edits, search
from .runtime import Runtime
from .shell_executor import Captured

OUTPUT_CHARS = 20_000
"""How much of what the gate said the mutators are given: its end."""
DESCRIPTION_CHARS = 200
"""How much of the words of a proposal is shown while it is tried."""

Run = Callable[[Proposal | None], Captured]
"""Runs the gate in a fresh copy of the tree, with a proposal in it."""
Barred = Callable[[str], str | None]
"""Says why what somebody of that name proposes is not even tried here."""


class Mended(Struct, frozen=True, kw_only=True):
    """What a search came to: a patch and whose it is, or why there is none.

    Attributes:
        tried: how many proposals were tried.
        captured: how the gate ended on the tree as it was.
    """

    patch: bytes | None = None
    mutator: str = ""
    tried: int = 0
    reason: str = ""
    captured: Captured | None = None


def _asked(runtime: Runtime, mutator: Mutator, request: RepairRequest) -> Iterator[Proposal]:
    """Asks a mutator for one proposal after another, until the worker is to end."""
    for proposal in mutator.propose(request):
        if runtime.ending():
            raise EffectSuspended("the repair was put off: the worker is to end")
        yield proposal


def mend(
    runtime: Runtime,
    state: AgentState,
    tree: Tree,
    repair: Repair,
    asked: Digest,
    command: tuple[str, ...],
    run: Run,
    barred: Barred,
) -> Mended:
    """Searches for a patch with which the gate passes.

    Args:
        runtime: the workspace.
        state: its policy says what may be changed.
        tree: the tree that stands.
        repair: what was asked for.
        asked: the hash of the event that asks; the seed follows from it.
        command: the gate.
        run: runs it.
        barred: who may not propose anything here.

    Raises:
        EffectSuspended: the worker is to end; the search begins anew with the next one.
    """
    try:
        files, context = material(runtime.blobs, state, tree, repair.paths)
        mutators = chosen_mutators(runtime.settings.mutators, repair.mutators)
        first = run(None)
    except (InputRefused, ConfigError) as error:
        return Mended(reason=f"nothing can be repaired: {error}")
    if first.passed:
        return Mended(reason="there is nothing to repair: the gate passes as it is", captured=first)
    request = RepairRequest(
        files=files,
        context=context,
        command=command,
        output=first.output.decode("utf-8", "replace")[-OUTPUT_CHARS:],
        seed=seed_of(asked),
        edits=past_edits(runtime.reader, runtime.blobs),
    )
    refused = {one.name: why for one in mutators if (why := barred(one.name))}
    proposals = {one.name: _asked(runtime, one, request) for one in mutators if one.name not in refused}
    count = 0

    def passes(name: str, proposal: Proposal) -> bool:
        nonlocal count
        count += 1
        told = recordable(f"{name}: {proposal.description[:DESCRIPTION_CHARS]}")
        runtime.progress.report(EffectName.MUTATE, count, repair.tries, told)
        return run(proposal).passed

    found = search(proposals, passes, tries=repair.tries, time_s=runtime.settings.mutators.time_s, files=files)
    if found.proposal is None:
        told = ", ".join(f"{number} of {name}" for name, number in found.tried.items()) or "none"
        more = "".join(f"; {name} was not asked: {why}" for name, why in refused.items())
        why = f"no proposal passes the gate ({found.why}; tried {told}{more})"
        return Mended(tried=count, reason=why, captured=first)
    patch = as_patch(runtime.blobs, tree.files[found.proposal.path], found.proposal)
    return Mended(patch=patch, mutator=found.mutator, tried=count, captured=first)
