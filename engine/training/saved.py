"""The state of a training on disk, so that one that was killed goes on to the very same weights.

One safetensors file, replaced atomically: never a pickle, which could run code when it is read. What cannot be read, or
belongs to another training, is as good as none: then the training begins anew and ends with the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("instar.engine")

NAME = "training-state.safetensors"
_HEADER_MAX = 16 * 1024 * 1024


class Best(Struct):
    """The weights after the epoch that did best on the validation pairs; none at first."""

    epoch: int = 0
    reached: float = -1.0
    weights: list[Any] = []


class Position(Struct):
    """How far a training is: steps done, their losses, and what the validation pairs told so far."""

    losses: list[float]
    validated: list[float]
    best: Best

    @property
    def step(self) -> int:
        """The number of steps that are done."""
        return len(self.losses)


def steps_saved(folder: Path) -> int:
    """Reads how many steps of a training lie in its saved state, without a library; 0 where none can be read."""
    try:
        with (folder / NAME).open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), _HEADER_MAX)))
        return int(header["losses"]["shape"][0])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


class SavedState:
    """Reads and writes the state of one training.

    Args:
        folder: where the file lies.
        key: names the training; a file of another one is not read.
        parameters: what learns.
        optimizer: whose moments are kept.
        schedule: of the rate.
        memory: what else is known at a step, by name; read in place.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        parameters: Sequence[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        schedule: Any,
        memory: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self._path = folder / NAME
        self._key = key
        self._parameters = parameters
        self._optimizer = optimizer
        self._schedule = schedule
        self._memory = memory or {}

    def write(self, position: Position) -> None:
        """Writes where the training stands; a disk that is full only means that a later one begins further back."""
        import torch
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {
            "losses": torch.tensor(position.losses, dtype=torch.float64),
            "validated": torch.tensor(position.validated, dtype=torch.float64),
            "chance": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            tensors["chance_cuda"] = torch.cuda.get_rng_state()
        for number, parameter in enumerate(self._parameters):
            tensors[f"weight.{number}"] = parameter.detach()
            for name, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"moment.{number}.{name}"] = torch.as_tensor(value)
        for number, weight in enumerate(position.best.weights):
            tensors[f"best.{number}"] = weight
        tensors |= {f"memory.{name}": value for name, value in self._memory.items()}
        rates = {name: value for name, value in self._schedule.state_dict().items() if _plain(value)}
        told = {
            "key": self._key,
            "schedule": json.dumps(rates),
            "best": json.dumps([position.best.epoch, position.best.reached]),
        }
        staged = self._path.with_suffix(".new")
        try:
            save_file({name: value.contiguous().clone() for name, value in tensors.items()}, staged, metadata=told)
            with staged.open("rb") as file:
                os.fsync(file.fileno())
            staged.replace(self._path)
        except Exception as error:  # the library wraps the system's errors in one of its own
            logger.warning("the state of the training cannot be saved: %s", error)
            staged.unlink(missing_ok=True)

    def read(self) -> Position:
        """Puts the training where it was saved; at its beginning where nothing fitting was."""
        from safetensors import safe_open

        try:
            with safe_open(self._path, framework="pt") as file:
                told: dict[str, str] = file.metadata() or {}
                if told.get("key") != self._key:
                    return Position([], [], Best())
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — it is no mapping
            return self._take(told, tensors)
        except FileNotFoundError:
            return Position([], [], Best())
        except Exception as error:  # damaged in whatever way: the library's errors have no common base
            logger.warning("the saved state of the training cannot be used: %s; it begins anew", error)
            return Position([], [], Best())

    def _take(self, told: dict[str, str], tensors: dict[str, Any]) -> Position:
        import torch

        weights = [tensors[f"weight.{number}"] for number in range(len(self._parameters))]
        epoch, reached = json.loads(told["best"])
        best = [tensors[name] for name in (f"best.{number}" for number in range(len(weights))) if name in tensors]
        position = Position(
            tensors["losses"].tolist(), tensors["validated"].tolist(), Best(int(epoch), float(reached), best)
        )
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("moment."):
                _, number, part = name.split(".", 2)
                moments.setdefault(int(number), {})[part] = value
        if any(a.shape != b.shape for a, b in zip(weights, self._parameters, strict=True)):
            raise ValueError("its weights have other shapes")
        memory = [(known, tensors[f"memory.{name}"]) for name, known in self._memory.items()]
        if any(known.shape != value.shape for known, value in memory):
            raise ValueError("what it knows of the texts has other shapes")
        state = self._optimizer.state_dict()
        state["state"] = moments
        with torch.no_grad():
            for parameter, weight in zip(self._parameters, weights, strict=True):
                parameter.copy_(weight)
            for known, value in memory:
                known.copy_(value)
        self._optimizer.load_state_dict(state)
        self._schedule.load_state_dict({**self._schedule.state_dict(), **json.loads(told["schedule"])})
        for group, rate in zip(self._optimizer.param_groups, self._schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        torch.set_rng_state(tensors["chance"])
        if "chance_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["chance_cuda"])
        return position

    def forget(self) -> None:
        """Removes the file: what it led to stands."""
        self._path.unlink(missing_ok=True)


def _plain(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, list) and all(isinstance(one, float) for one in value))
