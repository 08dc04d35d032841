"""Where the signing key lies: the one place that looks into the environment and the home directory for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instar.fsm.errors import ConfigError

from .output import say

if TYPE_CHECKING:
    from instar.engine.bundles.signing import SigningKey

VARIABLE = "INSTAR_SIGNING_KEY"

Key = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help=f"The signing key, a file outside the workspace. Default: {VARIABLE}, ~/.config/instar/signing-key.pem.",
    ),
]


def key_path(given: Path | None) -> Path:
    """Finds out which key is meant."""
    if given is not None:
        return given
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return _default_path()


def _default_path() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME") or ""
    return (Path(config) if Path(config).is_absolute() else Path.home() / ".config") / "instar" / "signing-key.pem"


def signing_key(given: Path | None, workspace: Path) -> SigningKey:
    """Opens the signing key; makes it, and says so, where none was named and the default one is not there yet.

    Raises:
        ConfigError: the key cannot be used, and why.
    """
    from instar.engine.bundles.signing import load_key, new_key

    path = key_path(given)
    try:
        there = path != _default_path() or path.exists()
    except OSError as error:  # HOME may be another account's, as after `sudo -u`
        raise ConfigError(
            f"whether there is a signing key at {path} cannot be seen: {error.strerror}. Name one by --key or "
            f"{VARIABLE}, or set HOME to a folder of this account (`sudo -H`)."
        ) from error
    if there:
        return load_key(path, workspace=workspace)
    key = new_key(path, workspace=workspace)
    say(f"made a signing key at {path}; its public half, for whoever verifies, is {key.public}")
    return key
