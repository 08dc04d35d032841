"""The recorded settings that decisions rest on.

A policy is part of the log (``WorkspaceInitialized``, ``PolicyChanged``): a decision is a function of recorded facts
and the recorded policy, so it can be taken again later, under the same policy or another.
"""

from __future__ import annotations

from msgspec import Struct, field


class DriftPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """When meaning moved: ``threshold`` is for the similarity of code, 1 − drift, and for confidence.

    Each time that ``window`` more outcomes of a task type came, they are tested against the ``window`` before them;
    they drifted where chance gives that in less than ``p_max`` of all cases, over all tests of a cycle together.
    """

    threshold: float = 0.70
    window: int = 64
    p_max: float = 0.01


class RewardPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """When reward is low: the exponential mean of a task type under ``threshold`` after ``count_min`` outcomes."""

    threshold: float = 0.50
    smoothing: float = 0.10
    count_min: int = 5


class RetrainPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """What a retrain needs: ``rows_min`` more rows than the last one had; and how many may begin in an hour.

    ``heldout_share`` of all groups are the sealed test that judges a retrain; ``validation_share`` of them stop it, or
    judge it as well where nothing is to stop it early. Both calibrate it.
    """

    rows_min: int = 16
    heldout_share: float = 0.15
    validation_share: float = 0.05
    per_hour_max: int = 12


class MutationPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """What a mutation may not touch (gitignore syntax), how many may be tried in one recorded hour, and its probation.

    An applied mutation is watched over the ``probation`` outcomes that follow it (0: not at all). It is undone when the
    reward of a task type fell by more than ``fall_max``; chance makes that out of what did not in less than ``p_max``
    of all cases, over all task types together and however often it is asked.
    """

    protected: tuple[str, ...] = (
        "tests/",
        "test_*.py",
        "*_test.py",
        "conftest.py",
        "instar.toml",
        "pyproject.toml",
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        ".pytest.toml",
        "tox.ini",
        "setup.cfg",
        "sitecustomize.py",
        "usercustomize.py",
    )
    per_hour_max: int = 12
    probation: int = 64
    fall_max: float = 0.10
    p_max: float = 0.05


class CyclePolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """How many signals one cycle takes up, and after how many failed cycles in a row failures stop to start cycles."""

    signals_max: int = 256
    failures_max: int = 3
    judged_max: int = 256


class GatePolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """What a promotion needs.

    The lower end of the interval of the held-out gain must exceed ``gain_min``, which is in the unit of that gain
    (``CheckpointTrained.gain_of``), over at least ``heldout_min`` pairs, and no old ability that was measured on at
    least ``forgetting_min`` cases may fall by more than ``forgetting_max``. What was promoted is watched as a mutation
    is, over ``probation`` outcomes, and is undone by ``fall_max`` and ``p_max`` in the same way.
    """

    gain_min: float = 0.0
    heldout_min: int = 8
    forgetting_max: float = 0.02
    forgetting_min: int = 20
    probation: int = 64
    fall_max: float = 0.10
    p_max: float = 0.05


class CapturePolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """What no tree holds, in gitignore syntax, and the largest file that one does: as it was in force, whole.

    It follows from ``[watch]`` and what is built in. A log that did not record it says nothing here.
    """

    ignore: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    cap_bytes: int = 0


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a decision may rest on beside the facts.

    A field more is another version of the events that hold it, so that an older Instar says that it is too old.
    """

    monitored: tuple[str, ...] = ("fsm.py", "rules_engine.py", "heuristics.py")
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    reward: RewardPolicy = field(default_factory=RewardPolicy)
    retrain: RetrainPolicy = field(default_factory=RetrainPolicy)
    mutation: MutationPolicy = field(default_factory=MutationPolicy)
    cycle: CyclePolicy = field(default_factory=CyclePolicy)
    gate: GatePolicy = field(default_factory=GatePolicy)
    capture: CapturePolicy = field(default_factory=CapturePolicy)
