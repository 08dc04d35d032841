"""The folders on the way of a scan, each opened by its parent and only when something in it must be read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from instar.engine.files.open_beneath import OPEN_FOLDER

from .ignore import Scope
from .places import Place, Rules

if TYPE_CHECKING:
    from .capture import Capture


class Folder:
    """A folder of the walk; it is opened when something in it must be read.

    Attributes:
        raw: its path and a slash as the file system spells them; empty for the root.
        depth: how many names a path in it has.
    """

    def __init__(self, parent: Folder | None, name: str, place: Place, capture: Capture, fd: int = -1) -> None:
        self.parent, self.name, self.place, self._capture = parent, name, place, capture
        self.raw: str = f"{parent.raw}{name}/" if parent else ""
        self.depth: int = parent.depth + 1 if parent else 1
        self._fd = fd
        self._scope: Scope | None = None

    def fd(self) -> int:
        """The folder, open.

        Raises:
            Lost: it cannot be opened any more.
        """
        if self._fd < 0:
            assert self.parent is not None
            try:
                self._fd = os.open(self.name, OPEN_FOLDER, dir_fd=self.parent.fd())
            except OSError as error:
                raise Lost(self, error) from error
        return self._fd

    def scope(self) -> Scope:
        """The rules in force in it."""
        if self._scope is None:
            outer = self.parent.scope() if self.parent else self._capture.ignore.scope()
            rules = self.place.rules
            self._scope = outer if rules is None else outer.enter(self.raw.removesuffix("/"), rules.content)
        return self._scope

    def set_rules(self, rules: Rules | None) -> None:
        """Takes its ``.gitignore``, or that there is none."""
        self.place.rules = rules
        self._scope = None

    def close(self) -> None:
        """Closes it."""
        if self._fd >= 0 and self.parent:
            os.close(self._fd)
            self._fd = -1


class Lost(Exception):
    """A folder of the walk cannot be opened: it is gone, became something else, or may not be read."""

    def __init__(self, folder: Folder, error: OSError) -> None:
        super().__init__(str(error))
        self.folder, self.error = folder, error


class Wanted:
    """Names to look at below a folder.

    Attributes:
        deep: None: only the names below; else the folder itself, and whether with all below it.
        below: by name, as the file system spells it.
    """

    def __init__(self) -> None:
        self.deep: bool | None = None
        self.below: dict[str, Wanted] = {}

    def add(self, names: list[str], deep: bool) -> None:
        """Adds the path of some names."""
        here = self
        for name in names:
            here = here.below.setdefault(name, Wanted())
        here.deep = deep or bool(here.deep)
