"""What a mutation may not touch: our own files always, and whatever the recorded policy names."""

from __future__ import annotations

from collections.abc import Iterable

from pathspec import GitIgnoreSpec

PROTECTED_ALWAYS = (".instar/", ".git/", "run/checkpoints/", "data/nlp_training_sets/", "data/logs/")
TOUCHES = "the patch touches what a mutation may not: "
"""How a refusal begins; the first of the paths follow, with commas."""


def protected_among(paths: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    """Names those of the touched paths that a mutation may not touch.

    Args:
        paths: relative to the workspace.
        patterns: the policy's own, in gitignore syntax.
    """
    spec = GitIgnoreSpec.from_lines([*PROTECTED_ALWAYS, *patterns])
    return [path for path in paths if spec.match_file(path)]
