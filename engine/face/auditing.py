"""What an agent asks of its log: replay, causes, anchors, bundles, followers; and what it has erased."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.fsm.words import Seq

from .arguments import takes_plain

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchor
    from instar.engine.bundles.bundle import Exported
    from instar.engine.bundles.form import Wanted
    from instar.engine.bundles.signing import SigningKey
    from instar.engine.provenance.taint import Taint
    from instar.engine.provenance.why import Why
    from instar.engine.replay import Replayed
    from instar.engine.runtime import Runtime
    from instar.engine.what_if import WhatIf
    from instar.store.follow import Follower


@takes_plain
class Auditing:
    """The part of ``Engine`` that looks into the log."""

    root: Path

    @property
    def runtime(self) -> Runtime:
        """The opened workspace."""
        raise NotImplementedError

    def replay(self, *, to: str | int | None = None, level: str = "decisions") -> Replayed:
        """Folds the log again from its first event and compares every row and decision with it. Runs no effect.

        Args:
            to: the last event, any reference; the head by default.
            level: how deep to look: ``chain``, ``decode``, ``transitions``, ``digests`` or ``decisions``.

        Raises:
            LogCorrupt, ReplayDiverged: the first event that does not fit, and why.
            ConfigError: there is no such level or reference.
        """
        from instar.engine.references import resolve
        from instar.engine.replay import level_of, replay

        reader = self.runtime.reader
        return replay(reader, to=resolve(reader, to) if to is not None else None, level=level_of(level))

    def what_if(self, policy: Mapping[str, Any], *, to: str | int | None = None) -> WhatIf:
        """Lists the decisions that would have been others under another policy. Runs no effect.

        Args:
            policy: what to set otherwise, by dotted name, such as ``{"drift.threshold": 0.6}``; keys as in
                ``[policy]`` of ``instar.toml``.
            to: the last event, any reference; the head by default.

        Raises:
            ConfigError: a key is not known, a value cannot stand there, or there is no such reference.
        """
        from instar.engine.references import resolve
        from instar.engine.what_if import what_if

        reader = self.runtime.reader
        return what_if(reader, policy, to=resolve(reader, to) if to is not None else None)

    def why(self, reference: str | int) -> Why:
        """Says what an event, checkpoint, mutation, row of memory or row of a data set rests on, back to the signals.

        Args:
            reference: any reference to an event; or ``checkpoint:PREFIX``, ``mutation:SEQ``, ``memory:SEQ.ITEM`` (as a
                search tells it), ``dataset:PREFIX``, ``dataset:PREFIX#ROW``.

        Raises:
            ConfigError: it names nothing in this log, or more than one thing.
        """
        from instar.engine.provenance.why import why

        return why(self.runtime.reader, reference)

    def taint(self, reference: str | int) -> Taint:
        """Says what was derived from something, and whether what is active now rests on it; references as ``why``.

        Raises:
            ConfigError: it names nothing in this log, or more than one thing.
        """
        from instar.engine.provenance.taint import taint

        return taint(self.runtime.reader, reference)

    def anchor(self, *, key: str | Path | None = None) -> Anchor:
        """Gives the head of the log for an outside witness: ``print(engine.anchor().line)``.

        Args:
            key: a signing key outside the workspace; without one the anchor is not signed.

        Raises:
            LogCorrupt: the chain is broken.
            ConfigError: the key cannot be used.
        """
        from instar.engine.bundles.anchor import make_anchor

        return make_anchor(self.runtime.reader, key=self._signing_key(key))

    def export(
        self,
        bundle: str | Path,
        *,
        first: str | int | None = None,
        to: str | int | None = None,
        blobs: Wanted = "named",
        key: str | Path | None = None,
    ) -> Exported:
        """Writes a bundle that others can verify without Instar: a folder, or a file named ``….tar``.

        Args:
            bundle: where; nothing may stand there yet.
            first: the first event, as a reference; that of the log by default.
            to: the last event, as a reference; the head by default.
            blobs: those ``named`` by an exported event, ``all`` in the store, or ``none``.
            key: a signing key outside the workspace; without one the bundle is not signed.

        Raises:
            ConfigError: the place, a reference, ``blobs`` or the key cannot be used.
            LogCorrupt, BlobMissing, BlobCorrupt: the log is not whole.
        """
        from instar.engine.bundles.bundle import export
        from instar.engine.references import resolve

        reader = self.runtime.reader
        begin, end = (None if reference is None else resolve(reader, reference) for reference in (first, to))
        return export(reader, Path(bundle), first=begin, last=end, wanted=blobs, key=self._signing_key(key))

    def _signing_key(self, path: str | Path | None) -> SigningKey | None:
        from instar.engine.bundles.signing import load_key

        return None if path is None else load_key(Path(path), workspace=self.root)

    def follow(self, name: str | None = None, *, start: int | None = None) -> Follower:
        """Gives each event of the log once it is recorded, from the durable cursor of that name on.

        Args:
            name: the subscriber; None keeps no cursor.
            start: the first position, for a subscriber without a cursor; 1 by default.

        Raises:
            ConfigError: the name cannot be used.
            LogCorrupt: the log no longer holds what this subscriber acknowledged.
        """
        return self.runtime.log.follow(name, start=None if start is None else Seq(start))

    def erase(self, reference: str | int, reason: str, path: str | Path | None = None) -> list[int]:
        """Erases the text of a signal and every copy of it, on lawful request; cannot be undone.

        Args:
            reference: the signal; or a data set, of which goes what no log file tells any more.
            reason: on whose request, and why; it is recorded.
            path: a file, relative to the workspace: its content at that event is to go, whatever brought it.

        Returns:
            The positions of the erasures.

        Raises:
            ConfigError: it holds nothing to erase, or was erased before; no file stood at the path.
            RollbackRefused: the content still stands in the workspace; the patch was not tried yet.
        """
        from instar.engine.keeping.erase import erase, plan_erasure
        from instar.engine.references import resolve
        from instar.engine.restoring.restore_path import tree_path

        named = None if path is None else tree_path(self.runtime.workspace.root, path)
        plan = plan_erasure(self.runtime, resolve(self.runtime.reader, reference), reason, named)
        return [record.seq for record in erase(self.runtime, plan)]
