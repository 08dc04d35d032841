"""A filter of system calls, as a program for the kernel's classic BPF machine (seccomp(2), linux/filter.h).

It refuses what no gate needs and what reaches out of a sandbox: tracing other processes, mounting, namespaces, keys,
BPF, io_uring, kernel modules, the clock. Everything else is let through.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from typing import Final

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; of an argument the low 4 bytes first
_X32 = 0x40000000
"""Numbers from here on are the same calls by another name, on x86_64."""
_NAMESPACES = 0x7E020080
"""The flags of clone(2) that make a new namespace of any kind."""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _AF_PACKET, _AF_VSOCK, _AF_XDP, _AF_BLUETOOTH, _AF_ALG = (
    1, 2, 10, 16, 17, 40, 44, 31, 38,
)  # fmt: skip
_SOCK_DGRAM, _SOCK_KINDS = 2, 0xF
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_SAME: Final = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427,
}  # fmt: skip
"""Calls with one number on every architecture."""

_X86_64: Final = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "mount": 165, "umount2": 166,
    "pivot_root": 155, "chroot": 161, "setns": 308, "unshare": 272, "keyctl": 250, "add_key": 248,
    "request_key": 249, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "init_module": 175,
    "finit_module": 313, "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320, "reboot": 169,
    "swapon": 167, "swapoff": 168, "acct": 163, "syslog": 103, "quotactl": 179, "settimeofday": 164,
    "clock_settime": 227, "name_to_handle_at": 303, "open_by_handle_at": 304, "vhangup": 153, "iopl": 172,
    "ioperm": 173,
}  # fmt: skip
_AARCH64: Final = {
    "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "mount": 40, "umount2": 39,
    "pivot_root": 41, "chroot": 51, "setns": 268, "unshare": 97, "keyctl": 219, "add_key": 217, "request_key": 218,
    "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "init_module": 105, "finit_module": 273,
    "delete_module": 106, "kexec_load": 104, "kexec_file_load": 294, "reboot": 142, "swapon": 224, "swapoff": 225,
    "acct": 89, "syslog": 116, "quotactl": 60, "settimeofday": 170, "clock_settime": 112, "name_to_handle_at": 264,
    "open_by_handle_at": 265, "vhangup": 58,
}  # fmt: skip

_MACHINES: Final[Mapping[str, tuple[int, Mapping[str, int], Mapping[str, int]]]] = {
    "x86_64": (0xC000003E, _X86_64, {"socket": 41, "socketpair": 53, "clone": 56, "clone3": 435, "ioctl": 16}),
    "aarch64": (0xC00000B7, _AARCH64, {"socket": 198, "socketpair": 199, "clone": 220, "clone3": 435, "ioctl": 29}),
}
"""For each kind of machine its mark in linux/audit.h, the calls refused, and those whose arguments are looked at."""

ABROAD = (_AF_INET, _AF_INET6, _AF_NETLINK, _AF_PACKET, _AF_VSOCK, _AF_XDP, _AF_BLUETOOTH, _AF_ALG)
"""Families of sockets that lead out of this machine, or into its kernel."""
LOCAL = (_AF_UNIX,)
"""Sockets that other programs of this machine listen on, by a path."""


def fault() -> str | None:
    """Says why there is no filter for this machine; None if there is one."""
    machine = os.uname().machine
    if machine not in _MACHINES or struct.calcsize("P") != 8:
        return f"no filter of system calls for {machine}"
    return None


def program(families: tuple[int, ...] = (), machine: str | None = None) -> bytes:
    """Makes the filter.

    Args:
        families: of sockets, none of which can be made; see ``ABROAD`` and ``LOCAL``.
        machine: its kind as uname(2) has it; this one's when absent. A program for another kind is killed.

    Raises:
        KeyError: there is no filter for that kind of machine.
    """
    mark, refused, looked_at = _MACHINES[machine or os.uname().machine]
    lines = [_op(_LOAD, _ARCHITECTURE), _op(_JUMP_EQUAL, mark, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, _NUMBER)]
    if (machine or os.uname().machine) == "x86_64":
        lines += [_op(_JUMP_AT_LEAST, _X32, 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    for number in sorted({**refused, **_SAME}.values()):
        lines += [_op(_JUMP_EQUAL, number, 0, 1), _op(_RETURN, _ERRNO | errno.EPERM)]
    # Its flags lie in memory, where a filter cannot look: without it a C library goes back to clone.
    lines += [_op(_JUMP_EQUAL, looked_at["clone3"], 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    lines += _when(looked_at["clone"], 0, [_op(_JUMP_ANY_BIT, _NAMESPACES, 0, 1), _op(_RETURN, _ERRNO | errno.EPERM)])
    lines += _when(looked_at["ioctl"], 1, _any_of((_TIOCSTI, _TIOCLINUX), errno.EPERM))
    if families:
        lines += _when(looked_at["socket"], 0, _any_of(families, errno.EACCES))
    if _AF_UNIX in families:  # a pair of datagram sockets can send to any path
        pair = [_op(_AND, _SOCK_KINDS), *_any_of((_SOCK_DGRAM,), errno.EACCES)]
        lines += _when(looked_at["socketpair"], 1, pair)
    lines.append(_op(_RETURN, _ALLOW))
    return b"".join(lines)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _any_of(values: tuple[int, ...], error: int) -> list[bytes]:
    return [part for value in values for part in (_op(_JUMP_EQUAL, value, 0, 1), _op(_RETURN, _ERRNO | error))]


def _when(number: int, argument: int, lines: list[bytes]) -> list[bytes]:
    """Looks at the low half of an argument of one call; behind it the number of the call is loaded again."""
    body = [_op(_LOAD, _ARGUMENTS + 8 * argument), *lines, _op(_LOAD, _NUMBER)]
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]
