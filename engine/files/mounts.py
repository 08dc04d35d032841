"""Which file system a folder lies on, as the kernel's table of mounts names it."""

from __future__ import annotations

import os
import re
from pathlib import Path

_REMOTE = {"9p", "afs", "ceph", "cifs", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"}
_REMOTE |= {"virtiofs", "vboxsf"}
_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def file_system(folder: Path) -> str:
    """Names the type of the file system that holds a folder (``ext4``, ``tmpfs``, ``nfs4``); empty if nothing tells."""
    try:
        lines = _TABLE.read_bytes().decode("utf-8", "surrogateescape").splitlines()
        path = os.path.realpath(folder)
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        before, separator, after = line.partition(" - ")  # proc(5): optional fields end with a lone hyphen
        fields = before.split(" ")
        if separator and len(fields) > 4:
            place = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])
            within = place == "/" or path == place or path.startswith(f"{place}/")
            if within and len(place) >= len(best):  # of two mounts on one place, the later hides the earlier
                best, kind = place, after.split(" ", 1)[0]
    return kind


def tells_changes(folder: Path) -> bool:
    """Says whether the kernel sees every change below a folder; it does not where another machine makes them."""
    kind = file_system(folder)
    return kind not in _REMOTE and not kind.startswith("fuse")
