"""A disk whose power can be cut: what was written, and what of it is sure to be there afterwards.

What a file holds is durable by an fsync of that file alone, a name by an fsync of the folder that holds it; a syncfs is
both for all. All else may be kept, dropped, or kept in part, in any order. That is stricter than ext4, and is all that
POSIX promises.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path, PurePosixPath

from tests.crash.syscalls import Call, buffer_of, unescaped

SECTOR = 512
REBUILT = ("-shm",)
"""Endings of files that SQLite maps into memory and rebuilds: no crash state holds them."""


@dataclass(frozen=True)
class Written:
    """Bytes that a file was given, or, with ``content`` None, a new length."""

    offset: int
    content: bytes | None
    number: int = -1
    """Its place among all writes, as they happened."""


class Fate(Enum):
    """What becomes of one change that was not synced."""

    KEPT = auto()
    DROPPED = auto()
    TORN = auto()
    """Some sectors of a write."""
    ZEROS = auto()
    """The file has grown, and the bytes never came."""


Choose = Callable[[Written | None], Fate]
"""Chooses the fate of a pending write; None stands for a change of a folder's names."""


@dataclass(eq=False)
class File:
    """One inode."""

    live: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Written] = field(default_factory=list)
    synced: int = 0
    """How many changes ever made are durable; ``synced + len(pending)`` were made."""

    def made(self) -> int:
        """Counts the changes so far."""
        return self.synced + len(self.pending)

    def change(self, one: Written) -> None:
        """Writes, to memory alone."""
        _apply(self.live, one)
        self.pending.append(one)

    def sync(self, made: int) -> None:
        """Makes the first ``made`` changes durable."""
        while self.synced < made:
            _apply(self.durable, self.pending.pop(0))
            self.synced += 1

    def after_cut(self, choose: Choose, rng: random.Random) -> bytes:
        """Gives what is found when the power is back."""
        found = bytearray(self.durable)
        for one in self.pending:
            fate = choose(one)
            if fate is Fate.KEPT:
                _apply(found, one)
            elif fate is Fate.TORN and one.content is not None:
                for start in range(0, len(one.content), SECTOR):
                    if rng.random() < 0.5:
                        _apply(found, Written(one.offset + start, one.content[start : start + SECTOR]))
            elif fate is Fate.ZEROS and one.content is not None:
                found.extend(bytes(max(0, one.offset + len(one.content) - len(found))))
        return bytes(found)


Names = dict[str, "File | Folder | None"]


@dataclass(eq=False)
class Folder:
    """One folder: its names, and the changes of them that only memory has. A name that is set to None is removed."""

    live: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[Names] = field(default_factory=list)
    synced: int = 0

    def made(self) -> int:
        """Counts the changes so far."""
        return self.synced + len(self.pending)

    def change(self, names: Names) -> None:
        """Sets or removes names in one step."""
        _rename(self.live, names)
        self.pending.append(names)

    def sync(self, made: int) -> None:
        """Makes the first ``made`` changes durable."""
        while self.synced < made:
            _rename(self.durable, self.pending.pop(0))
            self.synced += 1

    def after_cut(self, choose: Choose) -> dict[str, File | Folder]:
        """Gives the names that are found when the power is back."""
        found = dict(self.durable)
        for names in self.pending:
            if choose(None) is Fate.KEPT:
                _rename(found, names)
        return found


def _apply(content: bytearray, one: Written) -> None:
    end = one.offset + len(one.content or b"")
    if one.content is None:
        del content[one.offset :]
    content.extend(bytes(max(0, end - len(content))))
    if one.content is not None:
        content[one.offset : end] = one.content


def _rename(names: dict[str, File | Folder], changed: Names) -> None:
    for name, node in changed.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


Content = dict[str, bytes]
"""What a disk holds: the bytes of each file, by its path below the root."""


class Disk:
    """The files below one folder, fed with the calls of one process or several.

    Args:
        root: the folder; its own name is taken to be durable, all in it is not.
        ignored: kinds of sync, as ``kind_of_sync`` names them, that are to do nothing, as if the code left them out.
    """

    def __init__(self, root: Path, ignored: Iterable[str] = ()) -> None:
        self.root = PurePosixPath(root)
        self.top = Folder()
        self.ignored = frozenset(ignored)
        self.syncs: dict[str, int] = {}
        self.moved = 0
        """Counts every change, and every sync that made one durable."""
        self._offsets: dict[tuple[str, str], int] = {}

    def hold(self, folder: Folder, place: Path) -> None:
        """Takes what lies in a real folder as there and durable."""
        for path in place.iterdir():
            node: File | Folder = Folder()
            if isinstance(node, Folder) and path.is_dir():
                self.hold(node, path)
            else:
                node = File(bytearray(path.read_bytes()), bytearray(path.read_bytes()))
            folder.live[path.name] = folder.durable[path.name] = node

    # ---- finding ---------------------------------------------------------------------------------------------------

    def below(self, path: str) -> str | None:
        """Gives a path as seen from the root; None if it lies elsewhere, was deleted, or is rebuilt anyway."""
        place = PurePosixPath(path)
        if not place.is_relative_to(self.root) or path.endswith(REBUILT):
            return None
        return str(place.relative_to(self.root))

    def find(self, path: str) -> File | Folder | None:
        """Finds what a path names now."""
        node: File | Folder | None = self.top
        for part in PurePosixPath(path).parts:
            node = node.live.get(part) if isinstance(node, Folder) else None
        return node

    def file(self, path: str) -> File:
        """Finds a file."""
        found = self.find(path)
        assert isinstance(found, File), f"{path} is no file of the model"
        return found

    def folder_of(self, path: str) -> tuple[Folder, str]:
        """Finds the folder that holds a name, and the name."""
        place = PurePosixPath(path)
        found = self.find(str(place.parent))
        assert isinstance(found, Folder), f"{place.parent} is no folder of the model"
        return found, place.name

    # ---- being fed -------------------------------------------------------------------------------------------------

    def feed(self, call: Call) -> None:
        """Takes up one call that ended.

        Raises:
            NotImplementedError: the call changes a file in a way that this model does not know.
        """
        match call.name:
            case "open" | "openat" | "creat":
                self._open(call)
            case "write" | "pwrite64" | "lseek" | "ftruncate":
                self._by_descriptor(call)
            case "rename" | "renameat" | "renameat2" | "link" | "linkat":
                self._two_names(call)
            case "unlink" | "unlinkat" | "rmdir" | "mkdir" | "mkdirat":
                self._one_name(call)
            case "mmap":
                if call.arguments[4].partition("<")[0] != "-1" and "MAP_SHARED" in call.arguments[3]:
                    self._refuse(call, call.arguments[4])
            case (
                "fsync" | "fdatasync" | "syncfs" | "close" | "sync_file_range"
            ):  # the last is a hint, and promises nothing
                pass
            case _:
                for argument in (*call.arguments, f"<{call.result_path}>"):
                    self._refuse(call, argument)

    def _refuse(self, call: Call, argument: str) -> None:
        path = argument if argument.startswith('"') else described(argument)[1]
        if self.below(unescaped(path.strip('"'))) is not None:
            raise NotImplementedError(f"{call.name} on {path}: the model of the disk does not know this call")

    def _open(self, call: Call) -> None:
        path = self.below(call.result_path)
        flags = " ".join(call.arguments)
        if path is None or "O_DIRECTORY" in flags or isinstance(self.find(path), Folder):
            return
        self._offsets[str(call.result), path] = 0
        if self.find(path) is None:
            assert "O_CREAT" in flags or call.name == "creat", f"{path} was opened and is not in the model"
            folder, name = self.folder_of(path)
            self._change(folder, {name: File()})
        elif "O_TRUNC" in flags or call.name == "creat":
            self._change(self.file(path), Written(0, None, self.moved))
        if "O_APPEND" in flags:
            self._offsets[str(call.result), path] = len(self.file(path).live)

    def _by_descriptor(self, call: Call) -> None:
        number, described_as = described(call.arguments[0])
        path = self.below(described_as)
        if path is None or call.arguments[0].endswith("(deleted)"):
            return
        if call.name == "lseek":
            self._offsets[number, path] = call.result
            return
        file = self.file(path)
        if call.name == "ftruncate":
            self._resize(file, int(call.arguments[1], 0))
            return
        content = buffer_of(call.arguments[1])[: call.result]
        offset = int(call.arguments[3]) if call.name == "pwrite64" else self._offsets[number, path]
        self._change(file, Written(offset, content, self.moved))
        if call.name == "write":
            self._offsets[number, path] = offset + len(content)

    def _resize(self, file: File, size: int) -> None:
        grown = size - len(file.live)
        offset, content = (len(file.live), bytes(grown)) if grown > 0 else (size, None)
        self._change(file, Written(offset, content, self.moved))

    def _two_names(self, call: Call) -> None:
        old, new = (self.below(path) for path in _paths(call))
        if old is None and new is None:
            return
        if (
            old is None
            or new is None
            or (call.name == "renameat2" and call.arguments[-1] not in ("0", "RENAME_NOREPLACE", "RENAME_EXCHANGE"))
        ):
            raise NotImplementedError(f"{call.name} of {old} to {new}: the model of the disk does not know this")
        (source, old_name), (target, new_name) = self.folder_of(old), self.folder_of(new)
        node = source.live[old_name]
        if call.name.startswith("link"):
            self._change(target, {new_name: node})
        elif call.arguments[-1] == "RENAME_EXCHANGE":
            other = target.live[new_name]
            for folder, name, there in ((target, new_name, node), (source, old_name, other)):
                self._change(folder, {name: there})
        elif source is target:
            self._change(source, {old_name: None, new_name: node})
        else:
            self._change(target, {new_name: node})
            self._change(source, {old_name: None})

    def _one_name(self, call: Call) -> None:
        (path,) = (self.below(path) for path in _paths(call))
        if path is not None:
            folder, name = self.folder_of(path)
            self._change(folder, {name: Folder() if call.name.startswith("mkdir") else None})

    def _change(self, node: File | Folder, change: Written | Names) -> None:
        self.moved += 1
        node.change(change)  # type: ignore[arg-type]

    # ---- syncs -----------------------------------------------------------------------------------------------------

    def begin_sync(self, call: Call) -> Callable[[], None] | None:
        """Notes what an fsync will cover: what was made before it began. Gives what is to be done when it ends."""
        path = self.below(described(call.arguments[0])[1])
        if path is None or call.arguments[0].endswith("(deleted)"):
            return None
        node = self.find(path)
        if node is None:
            return None
        whole = call.name == "syncfs"
        kind = "whole file system" if whole else kind_of_sync(path, isinstance(node, Folder))
        self.syncs[kind] = self.syncs.get(kind, 0) + 1
        if kind in self.ignored:
            return None
        covered = [(each, each.made()) for each in (self._everything() if whole else (node,))]

        def finish() -> None:
            self.moved += 1
            for each, made in covered:
                each.sync(made)

        return finish

    def _everything(self) -> Iterator[File | Folder]:
        """Yields whatever is there or may come back after a power cut."""
        seen: set[int] = set()
        left: list[File | Folder] = [self.top]
        while left:
            node = left.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            if isinstance(node, Folder):
                changed = (each for names in node.pending for each in names.values() if each is not None)
                left += [*node.live.values(), *node.durable.values(), *changed]

    # ---- cutting the power -----------------------------------------------------------------------------------------

    def live(self) -> Content:
        """What a running machine sees."""
        return self.after_cut(lambda _: Fate.KEPT)

    def pending(self) -> list[Written | None]:
        """Lists the changes that are not durable: writes as they happened, then None for each change of names."""
        writes: list[Written] = []
        names, below = 0, [self.top]
        while below:
            folder = below.pop()
            names += len(folder.pending)
            for node in folder.live.values():
                if isinstance(node, Folder):
                    below.append(node)
                else:
                    writes += node.pending
        return [*sorted(writes, key=lambda one: one.number), *[None] * names]

    def after_cut(self, choose: Choose, rng: random.Random | None = None) -> Content:
        """What is found when the power is back, by the fate of each change that was not durable."""
        found: Content = {}
        below = [("", self.top)]
        while below:
            prefix, folder = below.pop()
            for name, node in sorted(folder.after_cut(choose).items()):
                if isinstance(node, Folder):
                    below.append((f"{prefix}{name}/", node))
                    found[f"{prefix}{name}/"] = b""
                else:
                    found[prefix + name] = node.after_cut(choose, rng or random.Random(0))
        return found


def kind_of_sync(path: str, is_folder: bool) -> str:
    """Names what a sync is for, so that a test can take each kind away."""
    place = PurePosixPath(path)
    if is_folder:
        depth = len(place.parts) - place.parts.index("blobs") if "blobs" in place.parts else 0
        return ("folder " + ("of the log" if place.parts else "of the workspace"), "blobs/", "blobs/xx/")[depth]
    if "blobs" in place.parts:
        return "blob file"
    return "file *" + place.name[place.name.find("-") :] if "-" in place.name else f"file {place.name}"


def described(argument: str) -> tuple[str, str]:
    """Splits ``7</a/path>`` into the descriptor and its path."""
    number, _, path = argument.partition("<")
    return number, unescaped(path.rpartition(">")[0])


def _paths(call: Call) -> list[str]:
    """Gives the paths that a call names, each absolute: a relative one stands beside its folder's descriptor."""
    paths, base = [], ""
    for argument in call.arguments:
        if argument.startswith('"'):
            name = buffer_of(argument).decode()
            paths.append(str(PurePosixPath(base, name)))
        elif "<" in argument:
            base = described(argument)[1]
    return paths
