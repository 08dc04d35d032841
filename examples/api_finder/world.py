"""The world of the API finder: Python objects read from installed sources, and requests for them.

Sources are parsed with `ast` and never imported, so collecting runs nobody's code and gives the
same world for the same installed versions. A *request* is the first sentence of an object's
docstring with the object's own name masked; the *text* that the agent searches holds everything
but that sentence.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from instar import held_out

from .docstrings import MASK, first_sentence, mask, remainder, words

PACKAGES: tuple[str, ...] = (
    "alembic",
    "click",
    "jinja2",
    "msgspec",
    "networkx",
    "numpy",
    "rich",
    "sentence_transformers",
    "sqlalchemy",
    "starlette",
    "transitions",
    "typer",
    "watchdog",
)
"""Installed dependencies that are read beside the standard library; absent ones are left out."""

SKIPPED_STDLIB = frozenset(
    {
        *("antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "msilib"),
        *("pydoc_data", "this", "tkinter", "turtle", "turtledemo", "venv"),
    }
)
SKIPPED_PARTS = frozenset(("conftest", "distutils", "f2py", "test", "tests", "testing", "_vendor"))
OBJECT_CAP = 6000
"""Most objects in a world; the ones with the smallest name hashes stay."""
REQUEST_WORDS_MIN = 5
"""A request of fewer words, masks not counted, asks for nothing in particular."""
REMAINDER_WORDS = 12
"""How many words of prose after the first sentence the searchable text holds."""
TEXT_PARAMETERS = 6
"""How many parameter names the searchable text holds; all cost time and gain nothing."""


@dataclass(frozen=True, slots=True)
class ApiObject:
    """One public function or class.

    Attributes:
        name: Dotted public name, without private module parts: `numpy.lib.median`.
        group: What is held out as a whole: the top-level module in the standard library, the
            dotted module in a package.
        kind: `function`, `coroutine`, `class`, `exception` or `context manager`.
        parameters: Parameter names in order, without `self` and `cls`.
        text: What the agent embeds for this candidate.
        request: The masked first sentence, or empty where it would be no fair request.
    """

    name: str
    group: str
    kind: str
    parameters: tuple[str, ...]
    text: str
    request: str


def collect(packages: Sequence[str] = PACKAGES, cap: int = OBJECT_CAP) -> list[ApiObject]:
    """Reads the world, in the order of the objects' names.

    A request that two objects share is dropped from both, so that no sentence stands on both
    sides of a hold-out and every request has one right answer.

    Args:
        packages: Top-level packages beside the standard library.
        cap: Most objects to keep.

    Returns:
        At most `cap` objects with distinct names and distinct texts.
    """
    found: dict[str, ApiObject] = {}
    texts: set[str] = set()
    for group, module, path in _modules(packages):
        for thing in _objects(group, module, path):
            if thing.name not in found and thing.text not in texts:
                found[thing.name] = thing
                texts.add(thing.text)
    shared = Counter(_key(thing.request) for thing in found.values())
    kept = sorted(found.values(), key=lambda thing: sha256(thing.name.encode()).digest())[:cap]
    return sorted(
        (thing if shared[_key(thing.request)] == 1 else _mute(thing) for thing in kept),
        key=lambda thing: thing.name,
    )


def requests(world: Sequence[ApiObject], *, held: bool) -> list[ApiObject]:
    """Returns the objects with a request on one side of the hold-out, in hash order of their names.

    Args:
        world: What `collect` returned.
        held: Whether to return the held-out modules, which are never trained on, or the others.

    Returns:
        A fixed shuffle, so that any first part of it is a fair sample of all modules.
    """
    asked = [thing for thing in world if thing.request and held_out(thing.group) == held]
    return sorted(asked, key=lambda thing: sha256(thing.name.encode()).digest())


def _key(request: str) -> str:
    return " ".join(words(request))


def _mute(thing: ApiObject) -> ApiObject:
    return ApiObject(thing.name, thing.group, thing.kind, thing.parameters, thing.text, "")


def _modules(packages: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
    """Yields (hold-out group, dotted module, source path), sorted within each source."""
    stdlib = sorted(sys.stdlib_module_names - SKIPPED_STDLIB)
    for top in [*(name for name in stdlib if not name.startswith("_")), *packages]:
        spec = find_spec(top)  # a top-level name: looked up, not imported
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        origin = Path(spec.origin)
        if not spec.submodule_search_locations:
            yield top, top, origin
            continue
        for path in sorted(origin.parent.rglob("*.py")):
            parts = path.relative_to(origin.parent).with_suffix("").parts
            if SKIPPED_PARTS.intersection(parts) or parts[-1] == "__main__":
                continue
            module = ".".join((top, *(part for part in parts if part != "__init__")))
            yield (top if top in sys.stdlib_module_names else module), module, path


def _objects(group: str, module: str, path: Path) -> Iterator[ApiObject]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # templates and sources of another Python version
    public = ".".join(part for part in module.split(".") if not part.startswith("_"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _described(group, public, node, _class_kind(node), _init(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _described(group, public, node, _function_kind(node), node)


def _described(
    group: str,
    owner: str,
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
    kind: str,
    signature: ast.FunctionDef | ast.AsyncFunctionDef | None,
) -> Iterator[ApiObject]:
    doc = ast.get_docstring(node)
    if node.name.startswith("_") or not doc:
        return
    sentence = first_sentence(doc)
    if not sentence:
        return
    request = mask(sentence, node.name)
    if sum(word != MASK for word in words(request)) < REQUEST_WORDS_MIN:
        request = ""
    parameters = _parameters(signature)
    spoken, shown = " ".join(words(node.name)), ", ".join(parameters[:TEXT_PARAMETERS])
    text = f"{kind} {spoken}, {owner} ({shown}) {remainder(doc, sentence, REMAINDER_WORDS)}"
    yield ApiObject(f"{owner}.{node.name}", group, kind, parameters, text.strip(), request)


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return inner
    return None


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | None) -> tuple[str, ...]:
    if node is None:
        return ()
    spec = node.args
    names = [item.arg for item in (*spec.posonlyargs, *spec.args)]
    names += [spec.vararg.arg] if spec.vararg else []
    names += [item.arg for item in spec.kwonlyargs]
    names += [spec.kwarg.arg] if spec.kwarg else []
    return tuple(name for name in names if name not in ("self", "cls"))


def _class_kind(node: ast.ClassDef) -> str:
    bases = [ast.unparse(base) for base in node.bases]
    if any(re.search(r"(Error|Exception|Warning|Exit)$", base) for base in bases):
        return "exception"
    defined = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return "context manager" if "__enter__" in defined else "class"


def _function_kind(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if any("contextmanager" in ast.unparse(item) for item in node.decorator_list):
        return "context manager"
    return "coroutine" if isinstance(node, ast.AsyncFunctionDef) else "function"
