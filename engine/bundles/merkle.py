"""The Merkle tree over the rows of the log (RFC 9162, section 2.1): one hash for all rows, and short proofs for one.

A leaf is sha256 of ``0x00`` and the 32 bytes of a row's hash; a node is sha256 of ``0x01``, its left and its right
child. The left child of a tree of n leaves holds the largest power of two below n.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from instar.fsm.words import Digest


def leaf(row_hash: str) -> bytes:
    """Hashes one row's hash as a leaf, so that no node can be passed off as one."""
    return sha256(b"\0" + bytes.fromhex(row_hash)).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Hashes two children."""
    return sha256(b"\1" + left + right).digest()


class MerkleTree:
    """A tree that grows to the right; holds one hash for each full subtree, so a long log needs next to no memory."""

    def __init__(self, row_hashes: Iterable[str] = ()) -> None:
        self.size = 0
        self._full: list[bytes] = []
        for row_hash in row_hashes:
            self.add(row_hash)

    def add(self, row_hash: str) -> None:
        """Adds the hash of the next row."""
        joined, count = leaf(row_hash), self.size
        while count & 1:  # as many full subtrees end here as the count has ones at its end
            joined = node(self._full.pop(), joined)
            count >>= 1
        self._full.append(joined)
        self.size += 1

    def root(self) -> Digest:
        """Gives the root over all rows so far; that of no rows is the sha256 of nothing."""
        if not self._full:
            return Digest(sha256(b"").hexdigest())
        joined = self._full[-1]
        for left in reversed(self._full[:-1]):
            joined = node(left, joined)
        return Digest(joined.hex())


def inclusion_path(row_hashes: Sequence[str], index: int) -> list[Digest]:
    """Gives the hashes that lead from the leaf at ``index`` up to the root, its own neighbour first.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(row_hashes):
        raise IndexError(f"no leaf {index} in a tree of {len(row_hashes)}")
    level, path = [leaf(row_hash) for row_hash in row_hashes], []
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(Digest(level[index ^ 1].hex()))
        pairs = [node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) & ~1 :]  # a last one without a neighbour goes up as it is
        index //= 2
    return path
