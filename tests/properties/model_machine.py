"""The life of a workspace with a model: feedback, promotions, their rollbacks. Memory is of one space at each step."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from instar.engine import initialize as beginning
from instar.engine.loop import Loop
from instar.engine.memory.rows import RowName, live_rows
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.settings import EmbeddingSettings, Settings, WatchSettings
from instar.fsm import events as e
from instar.fsm.policy import Policy, RetrainPolicy
from instar.fsm.words import Digest, State
from instar.store.log import Pending
from instar.store.model_folder import hash_folder
from tests.engine.candidates import ROWS_MIN, bring_candidate
from tests.engine.one_space import check_memory
from tests.engine.tiny_model import tiny_model

from .workspace_machine import STORING, TAKING_CYCLES, WorkspaceMachine
from .workspace_model import CAP_BYTES, Asked

if TYPE_CHECKING:
    from instar.engine.embedder import MiniLMEmbedder

ASKED = ["open a file", "sort a list", "parse json", "ünïcode 🙂", "x" * 300]
PROMOTING = ["promoted", "reembed.kept", *TAKING_CYCLES]


@cache
def _models() -> tuple[tempfile.TemporaryDirectory[str], tuple[Path, Path]]:
    import torch

    torch.set_num_threads(1)  # a child that is forked off has no other
    folder = tempfile.TemporaryDirectory()
    return folder, (tiny_model(Path(folder.name) / "one", 1), tiny_model(Path(folder.name) / "two", 2))


class ModelMachine(WorkspaceMachine):
    """The same, with two small models to be promoted in turn; the libraries' own ``encode`` says what is right."""

    settings: ClassVar[Settings]
    spaces: ClassVar[dict[Digest, Path]] = {}
    embedders: ClassVar[dict[Digest, MiniLMEmbedder]] = {}
    """Loaded once in a process."""
    reembedded: ClassVar[Counter[str]] = Counter()

    def _initialize(self) -> None:
        ModelMachine.settings = Settings(
            model=str(_models()[1][0]),
            watch=WatchSettings(cap_bytes=CAP_BYTES),
            embedding=EmbeddingSettings(precision="float32"),
            policy=Policy(retrain=RetrainPolicy(rows_min=ROWS_MIN, per_hour_max=10_000)),
        )
        beginning.initialize(self.root, settings=self.settings)

    def _opened(self) -> Runtime:
        runtime = super()._opened()
        runtime.models._embedders = self.embedders
        for folder in _models()[1] if not self.spaces else ():
            self.spaces[runtime.models.import_weights(str(folder))] = folder
        return runtime

    # ---- what a model brings -----------------------------------------------------------------------------------------

    @rule(wanted=st.lists(st.sampled_from(ASKED), min_size=1, max_size=4))
    def is_told_of_outcomes(self, wanted: list[str]) -> None:
        self._done("feedback")
        rows = [
            e.FeedbackReceived(task_type="find", input=text, output="os.open", reference="open", outcome="fail")
            for text in wanted
        ]
        self.runtime.log.transact(lambda _: [Pending(row) for row in rows])

    @rule()
    def rests(self) -> None:
        """Everything that waited is in memory then."""
        self._done("rest")
        Loop(self.runtime).run_until_idle()

    @rule()
    def loses_its_index(self) -> None:
        self._done("index lost")
        self._close()
        shutil.rmtree(self.root / ".instar" / "memory", ignore_errors=True)
        self._open()

    @rule()
    def promotes(self) -> None:
        """What the training would have measured is made up; the gate, the re-embedding and the switch are real."""
        self._done("promotion")
        other = self._trained()
        rows = self._rows()
        Loop(self.runtime).step()
        assert self.runtime.state.checkpoint == other
        assert self._rows() == rows

    @rule()
    def shows_rows_again_that_were_hidden_during_a_promotion(self) -> None:
        """Rows that no promotion embedded get their vectors before they are shown."""
        self._done("memory alone, over a promotion")
        self.is_told_of_outcomes([f"asked at event {self.runtime.state.head}"])
        self.rests()
        self._name_what_stands()
        whole = self.kept[-1]
        self._tries(Asked(self.kept[0], ("memory",)), lambda runtime: roll_back(runtime, 1, only=["memory"]))
        self.promotes()
        reference = str(whole.reference)
        self._tries(Asked(whole, ("memory",)), lambda runtime: roll_back(runtime, reference, only=["memory"]))
        assert self._rows() == whole.rows

    @rule(name=st.sampled_from(PROMOTING) | st.sampled_from(STORING), passes=st.sampled_from([1, 1, 2]))
    def is_killed_in_a_promotion(self, name: str, passes: int) -> None:
        before, other = self.runtime.state.checkpoint, self._trained()
        rows = self._rows()
        died = self._in_a_child(f"{name}=kill@{passes}", lambda runtime: Loop(runtime).step())
        self._done("kill in a promotion" if died else "promotion in a process of its own")
        promoted = self.runtime.state.machine is not State.REWARDING
        assert promoted or died
        assert self.runtime.state.checkpoint == (other if promoted else before)
        assert self._rows() == rows
        self.memory_is_of_the_active_space_alone()
        if not promoted:
            Loop(self.runtime).step()
        assert self.runtime.state.checkpoint == other

    def _trained(self) -> Digest:
        """Leads the log to a candidate that waits for its verdict."""
        runtime = self.runtime
        other = next(space for space in self.spaces if space != runtime.state.checkpoint)
        runtime.models.import_weights(str(self.spaces[other]))
        bring_candidate(runtime, other)
        return other

    # ---- what has to be true ---------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if hasattr(self, "runtime"):
            for record in self.runtime.reader.read(types=[e.MemoryReembedded]):
                self.reembedded["for a promotion" if record.cause else "for a rollback"] += 1
        super().teardown()

    @precondition(lambda self: hasattr(self, "runtime"))
    @invariant()
    def memory_is_of_the_active_space_alone(self) -> None:
        """Every live row is found, by the vector that the active checkpoint makes of its text, and no other row."""
        checkpoint = self.runtime.state.checkpoint
        assert checkpoint is not None
        check_memory(self.runtime, self.spaces[checkpoint])

    @precondition(lambda self: hasattr(self, "runtime"))
    @invariant()
    def active_checkpoint_is_whole(self) -> None:
        """What the link leads to holds every file of that checkpoint, byte for byte."""
        link = self.root / "run" / "checkpoints" / "active"
        folder = link.resolve()
        assert folder.name == self.runtime.state.checkpoint or self._is_behind()
        wanted = hash_folder(self.spaces[Digest(folder.name)])
        found = hash_folder(folder)
        assert found == {path: wanted[path] for path in found}
        assert "model.safetensors" in found

    def _is_behind(self) -> bool:
        """A worker that was killed between record and switch leaves the link behind; the next one mends it."""
        self.runtime.models.activate(self.runtime.state.checkpoint)
        return (self.root / "run" / "checkpoints" / "active").resolve().name == self.runtime.state.checkpoint

    def _rows(self) -> set[RowName]:
        return set(live_rows(self.runtime.reader, self.runtime.state.memory))
