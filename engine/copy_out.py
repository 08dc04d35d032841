"""Copies a file or a folder out of the store to a new place: beside it first, and by one rename when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from instar.fsm.errors import ConfigError, EffectFailedError
from instar.fsm.words import Digest
from instar.store.durable import make_folder, sync_folder
from instar.store.paths import decode_path
from instar.store.ports import Blobs
from instar.store.tree_changes import Found
from instar.store.tree_nodes import Entry, NodeReader

from .beneath import OPEN_FOLDER, rename_noreplace
from .flush import sync_all, sync_names
from .plan_check import checked_content
from .staging import THREADS_FROM, write_file

_Files = list[tuple[str, bytes, Entry]]


def copy_out(nodes: NodeReader, found: Found, path: str, place: Path) -> tuple[int, int]:
    """Writes what a tree holds at a path to a place where nothing stands.

    Args:
        nodes: reads the tree, and has the blobs.
        found: what stands there.
        path: where, for messages.
        place: the new place.

    Returns:
        How many files and links were written, and how many bytes they hold.

    Raises:
        ConfigError: something stands at the new place.
        EffectFailedError: it cannot be written; nothing is left.
        BlobMissing, BlobCorrupt: the store lacks a file; nothing is left.
    """
    if os.path.lexists(place) and not _is_empty(place):
        raise ConfigError(f"something stands at {place}: give a place where nothing is, or an empty folder")
    staged = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        make_folder(place.parent)
        counts = _write(nodes, found, path, staged)
        with suppress(FileNotFoundError):
            place.rmdir()  # it was empty
        fd = os.open(place.parent, OPEN_FOLDER & ~os.O_NOFOLLOW)
        try:
            rename_noreplace(fd, os.fsencode(staged.name), fd, os.fsencode(place.name))
        finally:
            os.close(fd)
        sync_folder(place.parent)
    except OSError as error:
        raise EffectFailedError(f"{path or 'the tree'} cannot be written to {place}: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            _remove(staged)
    return counts


def _is_empty(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink() and not any(place.iterdir())


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def _write(nodes: NodeReader, found: Found, path: str, staged: Path) -> tuple[int, int]:
    if found.entry is not None:
        fd = os.open(staged.parent, OPEN_FOLDER & ~os.O_NOFOLLOW)
        try:
            content = checked_content(nodes.blobs, path, found.entry)
            write_file(fd, os.fsencode(staged.name), found.entry, content, eager=True)
            if found.entry.kind == "file":
                with staged.open("rb") as file:
                    os.fsync(file.fileno())
        finally:
            os.close(fd)
        return 1, found.entry.size
    assert found.folder is not None
    folders = list(_folders(nodes, found.folder, path, staged, path.count("/") + 1 if path else 0))
    for folder, _ in folders:
        folder.mkdir()
    files: _Files = [one for _, inside in folders for one in inside]
    _write_files(nodes.blobs, folders, len(files))
    _sync(staged, folders)
    return len(files), sum(entry.size for _, _, entry in files)


def _folders(nodes: NodeReader, digest: Digest, path: str, place: Path, depth: int) -> Iterator[tuple[Path, _Files]]:
    """Yields each folder by its new place, outer ones first, with the path, name and entry of what is in it."""
    node = nodes.get(digest, path, depth)
    prefix = f"{path}/" if path else ""
    yield place, [(prefix + name, decode_path(name), entry) for name, entry in node.files.items()]
    for name, below in node.folders.items():
        yield from _folders(nodes, below, prefix + name, place / os.fsdecode(decode_path(name)), depth + 1)


def _write_files(blobs: Blobs, folders: list[tuple[Path, _Files]], count: int) -> None:
    def write(part: list[tuple[Path, _Files]]) -> None:
        for folder, files in part:
            fd = os.open(folder, OPEN_FOLDER)
            try:
                for path, name, entry in files:
                    write_file(fd, name, entry, checked_content(blobs, path, entry), eager=False)
            finally:
                os.close(fd)

    threads = min(4, os.cpu_count() or 1) if count >= THREADS_FROM else 1
    if threads == 1:
        write(folders)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(write, folders[number::threads]) for number in range(threads)]:
            done.result()


def _sync(staged: Path, folders: list[tuple[Path, _Files]]) -> None:
    fd = os.open(staged, OPEN_FOLDER)
    try:
        if sync_all(fd):
            return
    finally:
        os.close(fd)
    for folder, files in folders:
        below = os.open(folder, OPEN_FOLDER)
        try:
            sync_names(below, [name for _, name, entry in files if entry.kind == "file"])
        finally:
            os.close(below)
