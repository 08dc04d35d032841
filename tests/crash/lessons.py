"""Real pairs to learn from, small enough for a test: what the standard library says of its own functions."""

from __future__ import annotations

import base64
import json
import os.path
import shutil
import statistics
import string
import textwrap
from types import ModuleType
from typing import Any

MODULES: tuple[ModuleType, ...] = (base64, json, os.path, shutil, statistics, string, textwrap)


def rows(count: int) -> list[dict[str, Any]]:
    """Gives feedback rows: a docstring's first line asked, a neighbouring function wrongly answered."""
    found: list[dict[str, Any]] = []
    for module in MODULES:
        functions = [
            (name, thing)
            for name, thing in sorted(vars(module).items())
            if callable(thing) and not name.startswith("_") and (getattr(thing, "__doc__", "") or "").strip()
        ]
        for place, (name, thing) in enumerate(functions):
            wrong = functions[place - 1][0]
            found.append(
                {
                    "task_type": "lookup",
                    "input": thing.__doc__.strip().splitlines()[0],
                    "output": f"{module.__name__}.{wrong}",
                    "reference": f"{module.__name__}.{name}",
                    "outcome": "fail",
                    "confidence": 0.4,
                    "group": f"{module.__name__}.{name}",
                }
            )
    # Taken evenly from all modules, the same ones on every machine.
    return found[:: max(1, len(found) // count)][:count]
