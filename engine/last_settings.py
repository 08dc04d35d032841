"""The settings that a workspace last worked with: one whose configuration broke can still be read and put back.

An agent that changes its own files may break ``instar.toml`` or ``pyproject.toml``; what takes that back must not need
them. Whoever opens a workspace for work leaves what its file said in ``.instar/settings.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from instar.fsm.errors import ConfigError
from instar.store.durable import write_durably

from .settings import Settings, load_settings, settings_in, settings_of

KEPT = ".instar/settings.json"
_NOT_KEPT = {"log_url"}  # it may hold a password


def load_for_work(root: Path, environ: Mapping[str, str]) -> Settings:
    """Reads the settings of a workspace, as ``load_settings`` does, and keeps what its file said.

    Raises:
        ConfigError: a file cannot be read, or a key or value does not fit.
    """
    settings = load_settings(root, environ)
    if (root / KEPT).parent.is_dir():
        keep_settings(root)
    return settings


def keep_settings(root: Path) -> None:
    """Keeps what the file of a workspace says, if it fits by itself; what does not, or cannot be kept, is left.

    Whoever opened the workspace may work with settings of its own, or with a variable in the place of what is wrong.
    """
    path = root / KEPT
    with suppress(OSError, ConfigError):
        content = {key: value for key, value in settings_in(root).items() if key not in _NOT_KEPT}
        said = msgspec.json.encode(content, order="sorted")
        settings_of(content)
        if not path.is_file() or path.read_bytes() != said:
            write_durably(path, said)


def load_to_read(root: Path, environ: Mapping[str, str]) -> tuple[Settings, str]:
    """Reads the settings of a workspace, or where they broke those that it last worked with.

    Returns:
        The settings, and what is wrong with those that stand there: empty if nothing is.

    Raises:
        ConfigError: an environment variable does not fit.
    """
    try:
        return load_settings(root, environ), ""
    except ConfigError as error:
        kept = _kept(root)
        if kept is not None:
            with suppress(ConfigError):
                return settings_of(kept, environ), f"{error} Meanwhile those that last worked are used."
        return settings_of({}, environ), f"{error} Meanwhile the defaults are used."


def _kept(root: Path) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode((root / KEPT).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None
