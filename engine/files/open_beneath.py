"""Opens a folder below another by its whole path in one call, where no link is followed on the way (openat2(2))."""

from __future__ import annotations

import ctypes
import errno
import os

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_OPENAT2 = 437
"""The same number on every architecture that this kernel interface came to after it was numbered alike (5.6)."""
_NO_SYMLINKS, _BENEATH = 0x04, 0x08  # linux/openat2.h; the former forbids the links of /proc too


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_how = _How(OPEN_FOLDER, 0, _NO_SYMLINKS | _BENEATH)
_syscall = getattr(ctypes.CDLL(None, use_errno=True), "syscall", None) if os.uname().sysname == "Linux" else None
if _syscall is not None:
    _syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
    _syscall.restype = ctypes.c_long


def open_beneath(fd: int, path: bytes) -> int | None:
    """Opens a folder for reading; whoever called closes it.

    Returns:
        None if that did not go, for whatever reason: opened name by name, it tells which part of the path stood in
        the way, and goes on kernels that do not know the call.
    """
    global _syscall
    if _syscall is None:
        return None
    opened: int = _syscall(_OPENAT2, fd, path, ctypes.byref(_how), ctypes.sizeof(_how))
    if opened >= 0:
        return opened
    if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM):  # an old kernel, or a filter of system calls
        _syscall = None
    return None
