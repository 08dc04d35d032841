"""Which files are monitored logic files (trigger 1 of SEED.md)."""

from __future__ import annotations

from functools import lru_cache

from pathspec import GitIgnoreSpec


@lru_cache(maxsize=8)
def _spec(patterns: tuple[str, ...]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(patterns)


def is_monitored(path: str, patterns: tuple[str, ...]) -> bool:
    """Says whether a path, relative to the workspace, matches one of the patterns (gitignore syntax)."""
    return _spec(patterns).match_file(path)
