"""Finds what may have changed below a root that was seen before, by asking for the status of each name, and no more.

A scan then looks at what was found. This is all that a look costs that finds nothing, so it makes no object for a
folder, and opens none.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .ignore import SECRET
from .places import Place, Seen, raw_name

GITIGNORE = ".gitignore"
NESTED_GIT = "nested .git"
_BY_RULE = (SECRET, NESTED_GIT)
"""Reasons that hold as long as the name stands and the rules are the same."""


def suspects(fd: int, root: Place, cover: Callable[[str], None] | None) -> dict[str, bool]:
    """Names what is not certain to stand as it was seen last.

    Statuses are asked for by path: were a folder on the way swapped for a link, the folder's own status would tell.

    Args:
        fd: the root, open, on a file system that stamps a folder whenever a name in it comes or goes.
        root: what was seen last.
        cover: is told of each folder, by its path and a slash, before it is looked at.

    Returns:
        Paths as ``Scan.names`` takes them; the root's is empty.
    """
    found: dict[str, bool] = {}
    device = os.fstat(fd).st_dev
    left = [("", root)]
    while left:
        prefix, place = left.pop()
        if cover is not None:
            cover(prefix)
        path = prefix[:-1]
        seen = place.seen
        try:
            status = os.stat(path, dir_fd=fd, follow_symlinks=False) if path else os.fstat(fd)
        except OSError:
            found[path] = True
            continue
        if seen is None or seen.inode != status.st_ino or seen.mode != status.st_mode or status.st_dev != device:
            found[path] = True  # another one, or none: what is known of those below says nothing
            continue
        if seen.is_of(status):
            _look(fd, prefix, place, found)
        else:
            found[path] = False
        left += [(f"{prefix}{raw_name(name)}/", below) for name, below in place.folders.items()]
    return found


def _look(fd: int, prefix: str, place: Place, found: dict[str, bool]) -> None:
    """Compares the status of each file of a folder that has the same names."""
    ask = os.stat
    for name, row in place.rows.items():
        path = prefix + (name if name.isascii() and "%" not in name else raw_name(name))
        try:
            status = ask(path, dir_fd=fd, follow_symlinks=False)
        except OSError:
            found[path] = False
            continue
        if (  # Seen.is_of, in place: this runs for every file
            row.ctime_ns != status.st_ctime_ns
            or row.inode != status.st_ino
            or row.mtime_ns != status.st_mtime_ns
            or row.entry.size != status.st_size
            or row.mode != status.st_mode
            or not row.settled
        ):
            found[path] = False
    if place.unmanaged:
        again = (name for name, reason in place.unmanaged.items() if reason not in _BY_RULE)
        found.update((prefix + raw_name(name), False) for name in again)
    if place.rules is not None and not stands(fd, prefix + GITIGNORE, place.rules.seen):
        found[prefix + GITIGNORE] = False


def stands(fd: int, path: str, seen: Seen | None) -> bool:
    """Says whether what was seen at a path is certain to stand there still."""
    try:
        status = os.stat(path, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return False
    return seen is not None and seen.is_of(status)
