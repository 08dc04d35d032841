"""What a notebook says beside its outputs: the code of its cells, and the text between them."""

from __future__ import annotations

import json
from typing import Final

SUFFIX: Final = ".ipynb"


def cells(text: str) -> tuple[str, str] | None:
    """Gives the code of a notebook and its text for people, or None where it is no notebook.

    Outputs, counts and ids change whenever it runs, and are left out.
    """
    try:
        held = json.loads(text)["cells"]
        told = [(one["cell_type"], one["source"]) for one in held]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    parts: dict[bool, list[str]] = {True: [], False: []}
    for kind, source in told:
        lines = source if isinstance(source, list) else [source]
        parts[kind == "code"].append("".join(line for line in lines if isinstance(line, str)))
    return "\n\n".join(parts[True]) + "\n", "\n\n".join(parts[False])
