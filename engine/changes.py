"""A changed file as a signal, and which files are monitored logic files (the trigger ``code_mutation``)."""

from __future__ import annotations

from functools import lru_cache

from msgspec.structs import replace
from pathspec import GitIgnoreSpec

from instar.fsm.events import ChangeObserved
from instar.fsm.policies import change_key
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.trees import Entry


@lru_cache(maxsize=8)
def _spec(patterns: tuple[str, ...]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(patterns)


def is_monitored(path: str, patterns: tuple[str, ...]) -> bool:
    """Says whether a path, relative to the workspace, matches one of the patterns (gitignore syntax)."""
    return _spec(patterns).match_file(path)


class Judged:
    """The changes that were judged lately, as the fold will remember them at each of several events that follow."""

    def __init__(self, state: AgentState) -> None:
        self._window = state.judged
        self._size_max = state.policy.cycle.judged_max

    def again(self, key: str) -> bool:
        """Says whether a change is among them; it is, from now on, and the oldest may no longer be."""
        if key in self._window:
            return True
        self._window = self._window.pushed(key, self._size_max)
        return False


def observed(
    path: str, before: Entry | None, after: Entry | None, tree: Digest, monitored: tuple[str, ...], judged: Judged
) -> ChangeObserved:
    """Describes one changed path as a signal; ``judged`` gains its key."""
    event = ChangeObserved(
        path=path,
        change="added" if before is None else "deleted" if after is None else "modified",
        before=before.blob if before else None,
        after=after.blob if after else None,
        tree=tree,
        monitored=is_monitored(path, monitored),
        size=after.size if after else 0,
    )
    return replace(event, seen=True) if judged.again(change_key(event)) else event
