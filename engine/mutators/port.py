"""The port of a mutator: what it is asked, and what it proposes.

A mutator reads no log and runs nothing. It is given the files that may be changed, what failed and how they came to be
what they are, and yields versions of single files, the likeliest first. Whether one is right is for the gate to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from msgspec import Struct


class PastEdit(Struct, frozen=True):
    """A change of a Python file that the log holds, and where."""

    seq: int
    path: str
    before: bytes
    after: bytes


class RepairRequest(Struct, frozen=True, kw_only=True):
    """What a repair has to go by.

    Attributes:
        files: what may be changed, by path: Python that parses as it stands or not.
        context: further Python files of the tree, which may not be changed, such as the tests.
        command: the gate.
        output: what the gate said of the files as they are.
        seed: decides where nothing else does; the same request gives the same proposals.
        edits: how Python files changed, the latest first.
    """

    files: Mapping[str, bytes]
    output: str
    context: Mapping[str, bytes] = {}
    command: tuple[str, ...] = ()
    seed: int = 0
    edits: tuple[PastEdit, ...] = ()


class Proposal(Struct, frozen=True):
    """Another version of one file, and in a few words how it differs."""

    path: str
    content: bytes
    description: str


class Mutator(Protocol):
    """Proposes repairs."""

    @property
    def name(self) -> str:
        """What the log calls this mutator; one that asks a language model begins with ``llm:``."""

    def propose(self, request: RepairRequest) -> Iterable[Proposal]:
        """Yields versions of the files of a request, the likeliest first; they are asked for one by one."""
