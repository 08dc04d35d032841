"""The patterns of what is left out of every tree, without what matches them: reading the settings needs no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from instar.fsm.policy import CapturePolicy

NEVER: Final = (".git", "/.instar")
BUILT_IN: Final = (
    ".venv/",
    "venv/",
    "node_modules/",
    "__pycache__/",
    "*.pyc",
    ".mypy_cache/",
    ".ruff_cache/",
    ".pytest_cache/",
    "/run/checkpoints/",
    "/data/nlp_training_sets/",
    "/data/logs/",
)
SECRETS: Final = (
    ".env",
    ".env.*",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "!id_*.pub",
    ".netrc",
    ".pypirc",
)


def in_force(configured: Iterable[str], own_paths: Iterable[str], cap_bytes: int) -> CapturePolicy:
    """Gives the rules as they are recorded.

    Args:
        configured: the patterns of the settings, in gitignore syntax; one with ``!`` may take a secret in again.
        own_paths: files that Instar writes itself, relative to the workspace.
        cap_bytes: the largest file to capture.
    """
    own = tuple(f"/{path}" for path in own_paths)
    return CapturePolicy(ignore=(*BUILT_IN, *configured, *own), secrets=SECRETS, cap_bytes=cap_bytes)
