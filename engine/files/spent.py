"""Folders whose files are no longer needed, removed beside what goes on: some disks take milliseconds for each file.

Whoever dies before leaves such a folder, which the next one removes. A process that ends by itself ends its removals.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

SUFFIX = ".spent"
SLOW_S = 0.001
"""What takes longer to remove is removed beside what goes on …"""
FILES_MIN = 16
"""… if so many files are left."""

_removing: set[Path] = set()


def remove_beside(folder: Path) -> None:
    """Removes a folder by a thread of its own."""
    _removing.add(folder)
    threading.Thread(target=_remove, args=(folder,), name="instar-remove").start()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _removing.discard(folder)


def remove_left(folder: Path) -> None:
    """Removes a folder now, unless a thread of this process is at it."""
    if folder not in _removing:
        shutil.rmtree(folder, ignore_errors=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_removing.clear)  # a child has none of its parent's threads
