"""The API finder: an agent that names the Python object that a request in plain words asks for.

Its three logic files are read anew by `ApiFinder.reload`, so an edit of one of them, good or bad,
changes a live agent.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from types import ModuleType

import numpy as np

from .docstrings import words
from .world import ApiObject

Embed = Callable[[list[str]], np.ndarray]
"""Texts to float32 (texts, dim), each row of length one."""

LOGIC_FILES = ("fsm.py", "rules_engine.py", "heuristics.py")
CANDIDATES = 50
"""How many candidates, nearest by cosine, the rules and heuristics rank again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    Attributes:
        name: The best candidate, or None where the agent skipped the request.
        confidence: In 0..1, that the best candidate is right.
        top: The best candidates' names with their scores, best first, also for a skipped request.
        state: `answered` or `skipped`.
    """

    name: str | None
    confidence: float
    top: tuple[tuple[str, float], ...]
    state: str


class ApiFinder:
    """Answers requests over a world of objects."""

    def __init__(self, embed: Embed, world: Sequence[ApiObject], logic: Path | None = None) -> None:
        """Loads the logic files and embeds the world.

        Args:
            embed: Gives the vectors, of objects and requests alike.
            world: The candidates, with distinct names.
            logic: The folder of the logic files; this file's own by default.
        """
        self._embed = embed
        self._world = list(world)
        self._places = {thing.name: place for place, thing in enumerate(self._world)}
        self._words = [frozenset(words(thing.text)) for thing in self._world]
        counts = Counter(word for spoken in self._words for word in spoken)
        self._rarity = {word: log(len(self._world) / count) for word, count in counts.items()}
        self._logic = logic or Path(__file__).parent
        self.reload()
        self.index()

    def reload(self) -> None:
        """Takes the logic files as they are on disk now, all of them or, if one fails, none.

        Raises:
            SyntaxError: A file cannot be compiled. Whatever else a file's top level raises also
                comes through; the agent then keeps the logic that it had.
        """
        fresh = [_load(self._logic / name) for name in LOGIC_FILES]
        self._fsm, self._rules, self._heuristics = fresh

    def index(self) -> None:
        """Embeds every candidate; to be called again when `embed` has a new model behind it."""
        self._vectors = self._embed([thing.text for thing in self._world])  # (objects, dim)

    def answer(self, request: str, top: int = 5) -> Answer:
        """Answers one request."""
        return self.answer_all([request], top)[0]

    def answer_all(self, requests: Sequence[str], top: int = 5) -> list[Answer]:
        """Answers several requests, which are embedded together."""
        cosines = self._cosines(requests)
        return [self._answer(*pair, top) for pair in zip(requests, cosines, strict=True)]

    def ranks(self, requests: Sequence[str], names: Sequence[str]) -> np.ndarray:
        """Returns where the right answers come among all candidates.

        Args:
            requests: What is asked.
            names: The right answers.

        Returns:
            int64 (requests,), counted from 1.
        """
        found = []
        for request, name, cosine in zip(requests, names, self._cosines(requests), strict=True):
            near, best, _ = self._rank(request, cosine)
            reordered = near.copy()
            reordered[: len(best)] = best
            found.append(int(np.flatnonzero(reordered == self._places[name])[0]) + 1)
        return np.array(found, dtype=np.int64)

    def _cosines(self, requests: Sequence[str]) -> np.ndarray:
        return self._embed(list(requests)) @ self._vectors.T  # (requests, objects) float32

    def _rank(self, request: str, cosine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns all places by cosine, the best places in the agent's order, and their scores."""
        near = np.argsort(-cosine, kind="stable")
        best = near[:CANDIDATES]
        kinds = [self._world[place].kind for place in best]
        boosts = self._rules.boosts(self._rules.active(request), kinds)
        offered = [self._words[place] for place in best]
        lexical = self._heuristics.overlap(frozenset(words(request)), offered, self._rarity)
        scores = self._heuristics.score(cosine[best], lexical, boosts)
        order = self._heuristics.order(scores)
        return near, best[order], scores[order]

    def _answer(self, request: str, cosine: np.ndarray, top: int) -> Answer:
        flow = self._fsm.RequestFlow(self._rules.admits)
        flow.trigger("parse")
        flow.trigger("gather")
        _, best, scores = self._rank(request, cosine)
        flow.trigger("rank")
        confidence = self._heuristics.confidence(scores)
        flow.trigger("close", confidence)
        names = [self._world[place].name for place in best[:top]]
        state = str(flow.state.value)
        return Answer(
            name=names[0] if state == "answered" else None,
            confidence=confidence,
            top=tuple(zip(names, scores[:top].tolist(), strict=True)),
            state=state,
        )


def _load(path: Path) -> ModuleType:
    """Runs a logic file as a fresh module.

    Bytecode caches are passed by: they are keyed by size and a mtime in whole seconds, and an edit
    that flips one sign within a second would run the old code.
    """
    module = ModuleType(f"{__package__}._live_{path.stem}")
    module.__file__ = str(path)
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    previous = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # dataclasses look their module up while it runs
    try:
        exec(code, module.__dict__)
    except BaseException:
        if previous is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = previous
        raise
    return module
