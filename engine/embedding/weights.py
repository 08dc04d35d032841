"""Putting trained weights into a copy of the base's folder, so that all else stays byte for byte the same.

The library's own ``save`` would write other files, another header and another order, and drop tensors that it does not
load: then nothing of a checkpoint would be shared with its base.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from instar.fsm.errors import EffectFailedError
from instar.store.checkpoints import model_files
from instar.store.safetensors_header import Place, read_head

if TYPE_CHECKING:
    import torch


class BaseWeights:
    """The safetensors files of a base, by the names that the loaded transformer gives its parameters.

    Args:
        folder: the base's model folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, tuple[str, int, Place]] = {}
        within = _transformer_folder(folder)
        for path in model_files(folder):
            if not path.endswith(".safetensors") or Path(path).parent != within:
                continue
            with (folder / path).open("rb") as file:
                head = read_head(file, (folder / path).stat().st_size, folder / path)
            for place in head.places:
                self._places[place.name] = (path, len(head.raw) + place.begin, place)

    def tensor(self, name: str) -> torch.Tensor:
        """Reads the stored tensor of a parameter.

        Raises:
            EffectFailedError: no file holds it.
        """
        from safetensors import safe_open

        path, _, place = self._find(name)
        with safe_open(self.folder / path, framework="pt") as file:
            found: torch.Tensor = file.get_tensor(place.name)
        return found

    def place_of(self, name: str) -> tuple[str, str]:
        """Gives the file that stores a parameter, and what it calls it.

        Raises:
            EffectFailedError: no file holds it.
        """
        path, _, place = self._find(name)
        return path, place.name

    def copy_with(self, trained: Mapping[str, torch.Tensor], target: Path) -> None:
        """Copies the base to a new folder with other values for some parameters.

        Raises:
            EffectFailedError: a parameter does not fit what is stored.
        """
        for path in model_files(self.folder):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / path, target / path)
        for name, value in trained.items():
            path, offset, place = self._find(name)
            content = _bytes_of(value, like=self.tensor(name))
            if len(content) != place.end - place.begin:
                raise EffectFailedError(f"parameter {name} does not fit tensor {place.name} of {self.folder / path}")
            with (target / path).open("r+b") as file:
                file.seek(offset)
                file.write(content)

    def _find(self, name: str) -> tuple[str, int, Place]:
        if name in self._places:
            return self._places[name]
        found = [stored for stored in self._places if stored.endswith(f".{name}")]
        if len(found) != 1:
            raise EffectFailedError(
                f"parameter {name} is in no safetensors file of {self.folder}, so it could not be stored when trained. "
                "Save the model anew with sentence-transformers and use that folder."
            )
        return self._places[found[0]]


def _bytes_of(value: torch.Tensor, like: torch.Tensor) -> bytes:
    import torch

    stored = value.detach().to(like.dtype).contiguous()
    return stored.reshape(-1).view(torch.uint8).numpy().tobytes()


def _transformer_folder(folder: Path) -> Path:
    """Reads where the first module of the model lies; the folder itself where there is no ``modules.json``."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        return Path(str(min(modules, key=lambda module: int(module["idx"]))["path"]))
    except FileNotFoundError:
        return Path()
    except (ValueError, KeyError, TypeError) as error:
        raise EffectFailedError(f"{folder / 'modules.json'} cannot be read: {error!r}") from error
