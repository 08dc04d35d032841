"""What a gate needs to read beside its copy: the system's programs, this interpreter and its packages, its program."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from instar.fsm.errors import ConfigError

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_OWN = ".instar"
_LINKS_MAX = 40
_SHIMMED = ("bin", "libexec", "lib", "versions", "version", "pyenv.d", "plugins", "completions")
_PARTS = ("bin", "lib", "lib64", "libexec", "include", "share", "pyvenv.cfg")
"""What of an interpreter's folder is its own, where that folder holds other things as well."""


def needed(command: str, environ: Mapping[str, str], root: Path) -> tuple[Path, ...]:
    """Lists the places that a command needs, apart from the system's.

    Args:
        command: its program.
        environ: its environment, of which PATH counts.
        root: the workspace. Of its files only an environment of Python that lies in it is listed; what is installed
            from it (``pip install -e``) is not, see ``installed_from``.
    """
    found: list[Path] = []
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        found += _interpreter(Path(prefix), root)
    found += [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    program = shutil.which(command, path=environ.get("PATH"))
    for start in filter(None, (sys.executable, program)):
        for hop in _hops(Path(start)):
            found.append(hop)
            if _is_python(hop.parent.parent):
                found += _interpreter(hop.parent.parent, root)
    for folder in map(Path, filter(lambda text: text.startswith("/"), environ.get("PATH", "").split(os.pathsep))):
        # The scripts of pyenv and its like start what lies beside them.
        found += [folder, *((folder.parent / part for part in _SHIMMED) if folder.name == "shims" else ())]
    found += [place for place in editable() if not place.is_relative_to(root)]
    return narrowed(found, root)


def narrowed(found: Iterable[Path], root: Path) -> tuple[Path, ...]:
    """Leaves out what holds a home or the workspace, follows links, and never gives a log of ours away."""
    wide = {*_homes(), root, root / _OWN}
    kept: dict[Path, None] = {}
    for place in found:
        for path in (Path(os.path.abspath(place)), Path(os.path.realpath(place))):  # noqa: PTH100 (links stay)
            if any(one.is_relative_to(path) for one in wide) or path.is_relative_to(root / _OWN):
                continue
            if not path.exists() or any(path.is_relative_to(other) for other in ("/proc", "/dev", "/sys")):
                continue
            if any(path.is_relative_to(place) for place in SYSTEM) and not path.is_relative_to(root):
                continue
            kept.update(dict.fromkeys(without_own(path)))
    return tuple(path for path in kept if not any(parent in kept for parent in path.parents))


def around(place: Path, root: Path) -> list[Path]:
    """Gives a place, or what it holds beside the workspace, if that lies in it."""
    if place.is_symlink() or not root.is_relative_to(place):
        return [place]
    if place == root:
        return []
    if not os.access(place, os.R_OK):
        return []
    return [part for child in sorted(place.iterdir()) for part in around(child, root)]


def listed(places: Sequence[str], root: Path) -> tuple[Path, ...]:
    """Reads paths of the settings: ``~`` is a home, and what is relative lies in the workspace."""
    return tuple(Path(os.path.abspath(root / Path(place).expanduser())) for place in places)  # noqa: PTH100 (links stay)


def check_listed(readable: Sequence[str], writable: Sequence[str], root: Path) -> None:
    """Makes sure that no setting gives a gate the log to read, or what it is not to judge to write.

    Raises:
        ConfigError: one does.
    """
    root = root.resolve()
    for text, place in zip(writable, listed(writable, root), strict=True):
        for path in (place, place.resolve()):
            if path.is_relative_to(root) or root.is_relative_to(path):
                raise ConfigError(
                    f"mutation.writable names {text!r}, which is, holds or lies in the workspace: a gate writes to its "
                    "copy and to TMPDIR, and what it wrote here stays unjudged. Name a folder elsewhere."
                )
    for text, place in zip(readable, listed(readable, root), strict=True):
        for path in (place, place.resolve()):
            if path.is_relative_to(root / _OWN) or root.is_relative_to(path):
                raise ConfigError(
                    f"mutation.readable names {text!r}, which would show a gate {_OWN}, the log and all that it holds. "
                    "Name the folders that it needs one by one"
                )


def without_own(place: Path) -> list[Path]:
    """Gives a place, or, if a workspace of ours lies there, what is beside the folder of its log."""
    if not (place / _OWN).exists():
        return [place]
    return [child for child in sorted(place.iterdir()) if child.name != _OWN]


def editable() -> list[Path]:
    """Lists the folders from which packages of this interpreter are installed (``pip install -e``)."""
    found: list[Path] = []
    for name in ("purelib", "platlib"):
        for listed in sorted(Path(sysconfig.get_path(name)).glob("*.pth")):
            try:
                lines = listed.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError):
                continue
            found += [Path(line) for line in lines if line.startswith("/")]
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            found += [Path(path).parent for path in getattr(module, "MAPPING", {}).values()]
    return list(dict.fromkeys(found))


def installed_from(root: Path) -> list[Path]:
    """Lists the folders of the workspace from which packages are installed, relative to it: a gate tries the copy's."""
    inside = [place.resolve() for place in editable()]
    prefix = Path(sys.prefix).resolve()
    return [
        place.relative_to(root)
        for place in dict.fromkeys(inside)
        if place.is_relative_to(root) and not (place.is_relative_to(prefix) and prefix.is_relative_to(root))
    ]


def public(folder: Path) -> Iterator[Path]:
    """Yields the largest parts of a folder that every user may read, down to its files; a link is a part by itself."""
    parts, whole = _public(folder)
    yield from [folder] if whole else parts


def _public(folder: Path) -> tuple[list[Path], bool]:
    parts: list[Path] = []
    whole = True
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return [], False
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            parts.append(path)
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) and mode & stat.S_IROTH and mode & stat.S_IXOTH:
            inner, entire = _public(path)
            parts += [path] if entire else inner
            whole = whole and entire
        elif stat.S_ISREG(mode) and mode & stat.S_IROTH:
            parts.append(path)
        else:
            whole = False
    return parts, whole


def _homes() -> set[Path]:
    mine = {os.environ.get("HOME", "/"), "/root", "/home"}
    with suppress(KeyError):
        mine.add(pwd.getpwuid(os.getuid()).pw_dir)
    # An account without a home has one that is not there, or the root of everything.
    return {Path(one).resolve() for one in mine if Path(one).is_dir()}


def _interpreter(prefix: Path, root: Path) -> list[Path]:
    """Gives the folder of an interpreter, or its own parts where a home or the workspace lies there."""
    if any(one.is_relative_to(prefix.resolve()) for one in (*_homes(), root)):
        return [prefix / part for part in _PARTS]
    return [prefix]


def _is_python(prefix: Path) -> bool:
    return (prefix / "pyvenv.cfg").is_file() or any(prefix.glob("lib/python3.*/os.py"))


def _hops(start: Path) -> Iterator[Path]:
    """Yields a program and each link on the way to its file."""
    for _ in range(_LINKS_MAX):
        yield start
        if not start.is_symlink():
            return
        start = start.parent / start.readlink()
