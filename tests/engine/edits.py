"""What a user does to a folder: puts something at a path, whatever stands there or in the way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.engine.workspaces import Leaf, put_leaf


def put(root: Path, path: bytes, leaf: Leaf | None) -> None:
    """Puts a file, a link or (None) an empty folder at a path of a root."""
    place = root / os.fsdecode(path)
    for above in place.parents:
        if above != root and above.is_relative_to(root) and (above.is_symlink() or above.is_file()):
            above.unlink()
    remove(place)
    put_leaf(place, leaf)


def remove(place: Path) -> None:
    """Removes a file, a link, or a folder with all that is in it."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif place.parent.is_dir():
        place.unlink(missing_ok=True)
