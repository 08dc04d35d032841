"""The bytecode that Python keeps of a source file.

It is trusted when the source's size and its time in whole seconds are the same (PEP 3147, ``importlib``): a file
restored within the second in which it was changed would go on running its old code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from contextlib import suppress

from instar.engine.files.beneath import names
from instar.engine.files.open_beneath import OPEN_FOLDER

CACHE = "__pycache__"

_COMPILED = re.compile(rb"(.+?)\.[^.]+(?:\.opt-[^.]+)?\.pyc", re.DOTALL)


def source_of(compiled: bytes) -> bytes | None:
    """Names the source of a compiled file, or None if the name is not one that Python gives.

    >>> source_of(b"rules.cpython-311.opt-1.pyc")
    b'rules.py'
    """
    found = _COMPILED.fullmatch(compiled)
    return found[1] + b".py" if found else None


def forget(fd: int, sources: Collection[bytes], *, tidy: bool) -> None:
    """Removes the compiled forms of source files.

    Args:
        fd: the open folder.
        sources: the names of files in it; any that is no source is passed over.
        tidy: whether to remove the cache folder too, if it is empty then.
    """
    if not any(name.endswith(b".py") for name in sources):
        return
    try:
        cache = os.open(CACHE, OPEN_FOLDER, dir_fd=fd)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for listed in names(cache):
            if source_of(listed) in sources:
                with suppress(FileNotFoundError):
                    os.unlink(listed, dir_fd=cache)
    finally:
        os.close(cache)
    if tidy:
        with suppress(OSError):  # not empty
            os.rmdir(CACHE, dir_fd=fd)
