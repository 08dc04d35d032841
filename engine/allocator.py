"""Keeps freed memory for what is asked for next while a model learns, and gives it back after a model.

glibc maps each large block anew and gives it back when it is freed. A step of a training asks for thousands of blocks
of some hundred kilobytes; on a virtual machine touching fresh pages costs more than the arithmetic on them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _MAPPED = 1 << 30, 32 << 20
_DEFAULT = 128 << 10
"""glibc's own; it takes no larger one for mapping than ``_MAPPED``."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Has glibc keep up to a gigabyte of what is freed, and gives it back at the end; elsewhere it does nothing."""
    libc = _glibc()
    if libc is None:
        yield
        return
    adjust = libc.mallopt
    adjust(_MMAP_THRESHOLD, _MAPPED)
    adjust(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        adjust(_MMAP_THRESHOLD, _DEFAULT)
        adjust(_TRIM_THRESHOLD, _DEFAULT)
        libc.malloc_trim(0)


def give_back() -> None:
    """Gives what was freed back to the system; does nothing where the C library is another one."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
