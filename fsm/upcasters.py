"""How a payload of an older version gets the shape of the next one: when it is read; nothing is rewritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def _environment_unknown(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 of what effects computed says where it was computed; of an older outcome that is not known."""
    content.setdefault("environment", None)
    return content


def _restored_unknown(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 says which changes a restore made; before, they raised flags like others, and so they do in replay."""
    content.setdefault("restored", None)
    return content


def _whole_rollback(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 says what a rollback brings back; before, it was all there is."""
    content.setdefault("parts", ["code", "checkpoint", "memory"])
    content.setdefault("paths", [])
    content.setdefault("undoes", None)
    return content


def _abilities_unknown(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 says what a candidate can still do, and its temperature; before, that was not measured."""
    content.setdefault("abilities", None)
    content.setdefault("temperature", None)
    content.setdefault("base_temperature", None)
    content.setdefault("validated", [])
    content.setdefault("probes", None)
    content.setdefault("general", None)
    return content


def _gain_both_ways(content: dict[str, Any]) -> dict[str, Any]:
    """Version 4 says what the interval of the gain covers; before, that was 95 %."""
    content.setdefault("gain_level", 0.95)
    return content


def _gain_of_ranks(content: dict[str, Any]) -> dict[str, Any]:
    """Version 5 says what the gain was measured by; before, that was the reciprocal rank."""
    content.setdefault("gain_of", "reciprocal rank")
    return content


def _kept_under_base(content: dict[str, Any]) -> dict[str, Any]:
    """Version 6 says under which checkpoint general texts lay where they were to stay; before, that was the base."""
    content.setdefault("origin", None)
    return content


def _trained_here(content: dict[str, Any]) -> dict[str, Any]:
    """Version 7 says whether the weights were brought; before, all were trained."""
    content.setdefault("brought", None)
    return content


def _without_weights(content: dict[str, Any]) -> dict[str, Any]:
    """Version 4 can bring weights; before, no order did."""
    content.setdefault("checkpoint", None)
    return content


def _not_cancelled(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 says whether somebody had the effect ended; before, nobody could."""
    content.setdefault("cancelled", False)
    return content


def _as_configured(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 can order another recipe; before, the configured one was used."""
    content.setdefault("recipe", {})
    return content


def _unchanged(content: dict[str, Any]) -> dict[str, Any]:
    """The next version knows one more verdict."""
    return content


def _shorter_policy(content: dict[str, Any]) -> dict[str, Any]:
    """The policy of the next version has more fields, which have their defaults where they are not there."""
    return content


def _split_by_answer(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 has more splits, and vectors; before, a row's group was its answer unless it was told another."""
    content.setdefault("validation", 0)
    content.setdefault("memory", 0)
    content.setdefault("grouping", None)
    content.setdefault("space", None)
    content.setdefault("vectors", None)
    content.setdefault("dim", 0)
    return content


def _given_patch(content: dict[str, Any]) -> dict[str, Any]:
    """The next version knows patches that the engine finds itself; before, each was given."""
    return content


def _passed_once(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 says how often the gate passed; before, once."""
    content.setdefault("runs", 1)
    return content


def _not_watched(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 says how long a mutation is watched; before, none was."""
    content.setdefault("probation", None)
    return content


def _watched_alone(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 is watched beside the mutations before it; before, each ended the watch on the one before."""
    content.setdefault("beside", False)
    return content


def _promotion_not_watched(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 says how long a promoted checkpoint is watched; before, none was."""
    content.setdefault("probation", None)
    return content


def _of_mutation(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 says what was watched; before, it was a mutation."""
    content.setdefault("subject", "mutation")
    return content


def _by_size(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 measures Python by drift, and says why; before, by the size of what changed."""
    for item in content["items"]:
        item.setdefault("because", [])
        item.setdefault("drifts", {})
    return content


UPCASTERS: dict[tuple[str, int], Upcaster] = {
    **{
        (kind, 1): _environment_unknown
        for kind in ("DiffComputed", "SignalEmbedded", "DatasetGenerated", "CheckpointTrained", "MemoryReembedded")
    },
    ("DiffComputed", 2): _by_size,
    ("SignalEmbedded", 2): _restored_unknown,
    ("DatasetGenerated", 2): _split_by_answer,
    ("CheckpointTrained", 2): _abilities_unknown,
    ("CheckpointTrained", 3): _gain_both_ways,
    ("CheckpointTrained", 4): _gain_of_ranks,
    ("CheckpointTrained", 5): _kept_under_base,
    ("CheckpointTrained", 6): _trained_here,
    ("WorkspaceInitialized", 1): _shorter_policy,
    ("PolicyChanged", 1): _shorter_policy,
    ("OutcomeRewarded", 1): _unchanged,
    ("OutcomeRewarded", 2): _promotion_not_watched,
    ("EffectFailed", 1): _not_cancelled,
    ("TaskQueued", 1): _as_configured,
    ("TaskQueued", 2): _given_patch,
    ("TaskQueued", 3): _without_weights,
    ("MutationRejected", 1): _given_patch,
    ("MutationAccepted", 1): _given_patch,
    ("MutationAccepted", 2): _passed_once,
    ("MutationApplied", 1): _not_watched,
    ("MutationApplied", 2): _watched_alone,
    ("ProbationEnded", 1): _of_mutation,
    ("RollbackStarted", 1): _whole_rollback,
}
"""From ``(type, version)`` to a function that gives the payload in the shape of ``version + 1``."""
