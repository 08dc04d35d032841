"""How far code or text drifted from its last version, and why.

``compare`` takes two versions of one file; ``windows`` compares what came in over time.
"""

from __future__ import annotations

from .compare import compare
from .result import BOUNDARY, Drift, UnitDrift, with_shift

__all__ = ["BOUNDARY", "Drift", "UnitDrift", "compare", "with_shift"]
