"""Copies a file or a folder out of the store to a new place: beside it first, and by one rename when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from instar.engine.files.beneath import rename_noreplace
from instar.engine.files.flush import sync_all, sync_names
from instar.engine.files.open_beneath import OPEN_FOLDER
from instar.fsm.errors import ConfigError, EffectFailedError
from instar.fsm.words import Digest
from instar.store.durable import make_folder, sync_folder
from instar.store.paths import decode_path
from instar.store.tree_changes import Found
from instar.store.tree_nodes import NodeReader

from .plan_check import checked_content
from .writing import Writing, write_all, write_file

_Folder = tuple[str, list[Writing]]


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
    folders = list(_folders(nodes, found.folder, path, "", path.count("/") + 1 if path else 0))
    staged.mkdir()
    fd = os.open(staged, OPEN_FOLDER)
    try:
        for folder, _ in folders[1:]:
            os.mkdir(decode_path(folder), dir_fd=fd)
        places = [place for _, inside in folders for place in inside]
        write_all(fd, nodes.blobs, places)
        if not sync_all(fd, len(places) + len(folders)):
            _sync_each(fd, folders)
    finally:
        os.close(fd)
    return len(places), sum(place.entry.size for place in places)


def _folders(nodes: NodeReader, digest: Digest, path: str, below: str, depth: int) -> Iterator[_Folder]:
    """Yields each folder by its path below the new place, outer ones first, with what is to be written in it."""
    node = nodes.get(digest, path, depth)
    prefix = f"{path}/" if path else ""
    files = node.files.items()
    yield below, [Writing(below, decode_path(name), prefix + name, entry) for name, entry in files]
    inner = f"{below}/" if below else ""
    for name, digest_below in node.folders.items():
        yield from _folders(nodes, digest_below, prefix + name, inner + name, depth + 1)


def _sync_each(top: int, folders: list[_Folder]) -> None:
    for folder, places in folders:
        below = os.open(decode_path(folder), OPEN_FOLDER, dir_fd=top) if folder else os.dup(top)
        try:
            sync_names(below, [place.name for place in places if place.entry.kind == "file"])
        finally:
            os.close(below)
