"""One fault, one template: what failures have in common, mined by Drain (He, Zhu, Zheng & Lyu 2017)."""

from __future__ import annotations

from drain3.drain import Drain

from .log_lines import template_of

DEPTH = 4
SIMILARITY_MIN = 0.85
"""The share of words that two messages of one template have in common, once numbers, paths and the like are replaced.

On the 3,729 failures of eight LogHub systems it gives 133 templates for 124 known events, one of which holds two events
(the replacements alone: 206 templates); at Drain's usual 0.4 there are 114, of which ten mix events."""


TEMPLATES_MAX = 1_000
"""So many templates are compared with a new message; what comes after them is told apart by its replacements alone."""


class Templates:
    """Learns templates from one message after the other; the same messages give the same templates."""

    def __init__(self) -> None:
        # Numbers are replaced before; a word with a digit in it may be the name of what is broken.
        self._drain = Drain(depth=DEPTH, sim_th=SIMILARITY_MIN, parametrize_numeric_tokens=False)
        self._numbers: dict[str, int] = {}
        self._alone: dict[int, str] = {}

    def number(self, message: str) -> int:
        """Gives the number of the message's template, a new one where none fits."""
        plain = template_of(message)
        if plain not in self._numbers:
            self._numbers[plain] = self._learn(plain)
        return self._numbers[plain]

    def _learn(self, plain: str) -> int:
        if len(self._drain.id_to_cluster) < TEMPLATES_MAX and plain:
            return int(self._drain.add_log_message(plain)[0].cluster_id)
        number = -len(self._alone)  # Drain counts from 1
        self._alone[number] = plain
        return number

    def text(self, number: int) -> str:
        """Gives a template as it is now: ``<*>`` stands where messages have different words."""
        if number in self._alone:
            return self._alone[number]
        return str(self._drain.id_to_cluster[number].get_template())
