"""What each event of ``full_log`` rests on, as its story tells it."""

from __future__ import annotations

EDGES: dict[int, dict[str, set[int]]] = {
    # WorkspaceInitialized
    1: {},
    # FeedbackReceived
    2: {},
    # FeedbackReceived
    3: {},
    # TaskQueued
    4: {},
    # FeedbackReceived
    5: {"outcome of": {4}},
    # ChangeObserved
    6: {"under policy": {1}, "version before": {1}},
    # CycleStarted
    7: {"takes up": {2, 3, 5, 6}, "under policy": {1}},
    # DiffComputed
    8: {"in cycle": {7}, "compares": {2, 3, 5, 6}, "against": {1}},
    # SignalEmbedded
    9: {"embeds": {8}, "row": {2, 3, 5, 6}, "space": {1}, "active since": {1}, "under policy": {1}},
    # RetrainFlagged
    10: {"flagged on": {9}, "trigger": {2, 3, 5, 6}, "under policy": {1}},
    11: {
        "asked by": {10},
        "under policy": {1},
        "row teaches": {2, 3},
        "row failed in": {9},
        "row judges": {5},
    },  # DatasetGenerated
    # CheckpointTrained
    12: {"dataset": {11}, "weights": {1}, "base": {1}},
    # MemoryReembedded
    13: {"space": {12}, "rows": {9}},
    # OutcomeRewarded
    14: {"judges": {12}, "after re-embedding": {13}, "scores": {2, 3, 5, 12}, "under policy": {1}},
    # PlanChosen
    15: {"plans on": {14}, "under policy": {1}},
    # SnapshotTaken
    16: {"holds checkpoint": {12}, "active since": {14}, "tree since": {6}},
    # ChangeObserved
    17: {"under policy": {1}, "version before": {6}},
    # CycleStarted
    18: {"takes up": {14, 17}, "under policy": {1}},
    # DiffComputed
    19: {"in cycle": {18}, "compares": {14, 17}, "against": {6}},
    20: {
        "embeds": {19},
        "row": {14, 17},
        "space": {12},
        "active since": {14},
        "drift against": {9},
        "shift from": {6},
        "under policy": {1},
    },  # SignalEmbedded
    21: {
        "flagged on": {20},
        "trigger": {17},
        "drift against": {9},
        "shift from": {6},
        "under policy": {1},
    },  # RetrainFlagged
    # EffectFailed
    22: {"while answering": {21}, "under policy": {1}},
    23: {
        "back to": {16},
        "holds checkpoint": {12},
        "tree since": {6},
        "learned last": {11},
        "decided at": {22},
    },  # RollbackStarted
    # RollbackFinished
    24: {"finishes": {23}},
    # ChangeObserved
    25: {"written by": {24}, "brings back": {6}, "under policy": {1}, "version before": {17}},
    # PolicyChanged
    26: {},
    # CycleStarted
    27: {"takes up": {22, 25}, "under policy": {26}},
    # DiffComputed
    28: {"in cycle": {27}, "compares": {22, 25}, "against": {17}},
    29: {
        "embeds": {28},
        "row": {22, 25},
        "space": {12},
        "active since": {14},
        "drift against": {9},
        "shift from": {6},
        "under policy": {26},
    },  # SignalEmbedded
    # RetrainFlagged
    30: {"flagged on": {29}, "trigger": {22}, "under policy": {26}},
    31: {
        "asked by": {30},
        "under policy": {26},
        "row teaches": {2, 3, 25},
        "row failed in": {9},
        "row corrects": {17},
        "row judges": {5},
    },  # DatasetGenerated
    # CheckpointTrained
    32: {"dataset": {31}, "weights": {12}, "base": {14}},
    # OutcomeRewarded
    33: {"judges": {32}, "scores": {32}, "under policy": {26}},
    # PlanChosen
    34: {"plans on": {33}, "under policy": {26}, "standing": {14}},
    # TaskQueued
    35: {},
    # CycleStarted
    36: {"takes up": {33}, "under policy": {26}},
    # DiffComputed
    37: {"in cycle": {36}, "compares": {33}},
    # SignalEmbedded
    38: {"embeds": {37}, "row": {33}, "space": {12}, "active since": {14}, "under policy": {26}},
    # CycleStarted
    39: {"takes up": {35}, "under policy": {26}},
    # MutationRejected
    40: {"in cycle": {39}, "tries": {35}, "under policy": {26}, "tree since": {24}},
    # OutcomeRewarded
    41: {"judges": {40}, "under policy": {26}},
    # PlanChosen
    42: {"plans on": {41}, "under policy": {26}},
    # TaskQueued
    43: {},
    # CycleStarted
    44: {"takes up": {41}, "under policy": {26}},
    # DiffComputed
    45: {"in cycle": {44}, "compares": {41}},
    # SignalEmbedded
    46: {"embeds": {45}, "row": {41}, "space": {12}, "active since": {14}, "under policy": {26}},
    # CycleStarted
    47: {"takes up": {43}, "under policy": {26}},
    # MutationAccepted
    48: {"in cycle": {47}, "tries": {43}, "under policy": {26}, "tree since": {24}},
    # MutationApplied
    49: {"carries out": {48}, "tries": {43}},
    # ChangeObserved
    50: {"written by": {49}, "under policy": {26}, "version before": {25}},
    # OutcomeRewarded
    51: {"judges": {49}, "under policy": {26}},
    # PlanChosen
    52: {"plans on": {51}, "under policy": {26}},
    # CycleStarted
    53: {"takes up": {50, 51}, "under policy": {26}},
    # DiffComputed
    54: {"in cycle": {53}, "compares": {50, 51}, "against": {25}},
    # SignalEmbedded
    55: {"embeds": {54}, "row": {50, 51}, "space": {12}, "active since": {14}, "under policy": {26}},
    # TaskQueued
    56: {},
    # CycleStarted
    57: {"takes up": {56}, "under policy": {26}},
    # RetrainFlagged
    58: {"flagged on": {57}, "trigger": {56}, "under policy": {26}},
    # DatasetGenerated
    59: {"asked by": {58}, "under policy": {26}},
    # OutcomeRewarded
    60: {"follows": {59}, "under policy": {26}},
    # PlanChosen
    61: {"plans on": {60}, "under policy": {26}},
    # InputSkipped
    62: {},
    # TreeCaptured
    63: {},
    # PayloadErased
    64: {"erases": {2}},
    # BlobsCollected
    65: {},
    # FeedbackReceived
    66: {},
    # CycleStarted
    67: {"takes up": {66}, "under policy": {26}},
    # DiffComputed
    68: {"in cycle": {67}, "compares": {66}},
    # SignalEmbedded
    69: {"embeds": {68}, "row": {66}, "space": {12}, "active since": {14}, "under policy": {26}},
    # OutcomeRewarded
    70: {"follows": {69}, "scores": {66}, "under policy": {26}},
    # PlanChosen
    71: {"plans on": {70}, "under policy": {26}},
    # ProbationEnded
    72: {"watches": {49}, "rewards since": {70}, "under policy": {26}},
}
