"""Confines this process step by step, then becomes the command: a program of its own, which imports nothing of ours.

It is run as ``python -I -S confine.py STEPS COMMAND…`` where STEPS is JSON, made by ``steps.py``. All that is set holds
for the command and whatever it starts. A step that fails ends this process with 125 before the command has run: half a
sandbox is none. It runs as a process of its own because a preexec function could deadlock a program that has threads.

After landlock(7), seccomp(2), user_namespaces(7), pid_namespaces(7) and capabilities(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import struct
import sys
from pathlib import Path
from typing import Any

FAILED = 125
_NOT_RUNNABLE, _NOT_FOUND = 126, 127
_RIGHTS_OF_FILES = 0x1 | 0x2 | 0x4 | 0x4000 | 0x8000  # execute, write, read, truncate, ioctl
_ADD_RULE, _RESTRICT_SELF, _CREATE_RULESET = 445, 446, 444
_PATH_BENEATH = 1
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_CAP_AMBIENT = 1, 24, 38, 22, 47
_FILTER = 2
_AMBIENT_CLEAR_ALL = 4
_CAP_VERSION_3 = 0x20080522
_CLONE_NEWNS, _CLONE_NEWNET, _CLONE_NEWUSER = 0x00020000, 0x40000000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_SLAVE = 2, 4, 8, 4096, 16384, 1 << 19
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 1
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41

_libc = ctypes.CDLL(None, use_errno=True)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main(arguments: list[str]) -> None:
    """Takes the steps that the first argument names, and becomes the rest."""
    steps: dict[str, Any] = json.loads(arguments[0])
    command = arguments[1:]
    try:
        if "cgroup" in steps:
            (Path(steps["cgroup"]) / "cgroup.procs").write_text("0")
        if "namespaces" in steps:
            _enter_namespaces(**steps["namespaces"])
        for kind, value in steps.get("limits", {}).items():
            _limit(getattr(resource, kind), value)
        if steps.get("weak"):
            _give_up_rights()
        if "landlock" in steps:
            _restrict_files(**steps["landlock"])
        if "filter" in steps:
            _filter_calls(bytes.fromhex(steps["filter"]))
    except (OSError, ValueError) as error:
        _end(FAILED, f"the sandbox cannot be set up: {error}")
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        _end(
            _NOT_FOUND,
            f"{command[0]!r} cannot be run: there is no such program in the sandbox, or no interpreter for it",
        )
    except OSError as error:
        _end(_NOT_RUNNABLE, f"{command[0]!r} cannot be run: {error.strerror}")


def _end(code: int, text: str) -> None:
    os.write(2, f"{text}\n".encode())
    os._exit(code)


def _call(what: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _syscall(what: str, number: int, *arguments: Any) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _call(what, _libc.syscall(ctypes.c_long(number), *wide))


def _prctl(what: str, *arguments: Any) -> None:
    wide = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    wide += [ctypes.c_ulong(0)] * (5 - len(wide))
    _call(what, _libc.prctl(*wide))


def _limit(kind: int, value: int) -> None:
    """Sets a limit, or the lower one that is in force already."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _enter_namespaces(flags: int, writable: list[str]) -> None:
    """Goes on in a child, in new namespaces, where it is a process of the first one's; that one dies with this one.

    The process that was started waits, and ends as the command does. If it is killed, the first process of the new
    process namespace is too, and the kernel kills all the others in it.
    """
    user, group = os.getuid(), os.getgid()
    _call("unshare", _libc.unshare(ctypes.c_int(flags | _CLONE_NEWUSER)))
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    alive, held = os.pipe()
    first = os.fork()
    if first:
        os.close(alive)
        _end_as(first)
    os.close(held)
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if select.select([alive], [], [], 0)[0]:  # it died before that was set
        os._exit(FAILED)
    if flags & _CLONE_NEWNS:
        _mount_own(writable)
    if flags & _CLONE_NEWNET:
        _raise_loopback()
    second = os.fork()
    if second:
        _end_as(second)
    os.close(alive)


def _end_as(child: int) -> None:
    """Waits for a child, and for any other that is left to this process, and ends as that child does."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # whoever reads what the command says sees its end
        os.dup2(null, fd)
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            os._exit(FAILED)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    result = _libc.mount(source, target, kind, ctypes.c_ulong(flags), options)
    _call(f"mount {target.decode()}", result)


def _mount_own(writable: list[str]) -> None:
    """Makes everything read-only but what may be written: Landlock guards no mode, owner or time of a file.

    Gives shared memory of its own too, and a ``/proc`` of its own where the kernel allows one.
    """
    here = Path.cwd()
    _mount(b"none", b"/", None, _MS_REC | _MS_SLAVE)
    places = [os.fsencode(place) for place in writable if Path(place).exists()]
    for place in places:
        _mount(place, place, None, _MS_BIND | _MS_REC)
    _read_only(b"/", True, _AT_RECURSIVE)
    for place in places:
        try:
            _read_only(place, False, _AT_RECURSIVE)
        except OSError:  # something that is mounted in it has been read-only before, and stays so
            _read_only(place, False, 0)
    os.chdir(here)  # the folder that is mounted there now
    _mount(b"tmpfs", b"/dev/shm", b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=1777,size=1g")
    with contextlib.suppress(OSError):  # not in a container that hides parts of /proc
        _mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _read_only(place: bytes, wanted: bool, flags: int) -> None:
    attribute = struct.pack("=4Q", _READ_ONLY * wanted, _READ_ONLY * (not wanted), 0, 0)
    what = f"mount_setattr {os.fsdecode(place)}"
    _syscall(what, _MOUNT_SETATTR, _AT_FDCWD, place, flags, attribute, len(attribute))


def _raise_loopback() -> None:
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(
            any_socket, _SIOCSIFFLAGS, b"lo".ljust(16, b"\0") + _IFF_UP_RUNNING.to_bytes(2, sys.byteorder) + bytes(22)
        )


def _give_up_rights() -> None:
    """Drops every capability, and any way to gain one by running a program; uid 0 then has the rights of its files."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3) < 0:
            break  # beyond the last one, or no right to drop them: then there are none to keep either
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_AMBIENT_CLEAR_ALL), *[ctypes.c_ulong(0)] * 3)
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    _call("capset", _libc.capset(header, (ctypes.c_uint32 * 6)()))


def _restrict_files(attributes: str, rules: list[tuple[str, int]]) -> None:
    """Lets the process do to each place what its rule says, and to any other nothing of what the attributes name."""
    attribute = bytes.fromhex(attributes)
    ruleset = _syscall("landlock_create_ruleset", _CREATE_RULESET, attribute, len(attribute), 0)
    for path, rights in rules:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what is not there, or not to be reached, is not let in
        if not Path(f"/proc/self/fd/{fd}").is_dir():
            rights &= _RIGHTS_OF_FILES
        rule = _PathBeneath(rights, fd)
        _syscall(f"landlock_add_rule {path}", _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
        os.close(fd)
    _syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _filter_calls(program: bytes) -> None:
    loaded = _Program(len(program) // 8, program)
    _prctl("PR_SET_SECCOMP", _PR_SET_SECCOMP, _FILTER, ctypes.byref(loaded))


if __name__ == "__main__":
    main(sys.argv[1:])
