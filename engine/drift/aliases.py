"""Names that stand for one thing under several: moved modules, deprecated spellings, long forms of a flag."""

from __future__ import annotations

from typing import Final

_OS_ERRORS: Final = frozenset({"EnvironmentError", "IOError", "WindowsError", "socket.error", "select.error"})
_TIMEOUTS: Final = frozenset({"socket.timeout", "asyncio.TimeoutError", "concurrent.futures.TimeoutError"})
_FLAGS: Final = {"A": "ASCII", "I": "IGNORECASE", "L": "LOCALE", "M": "MULTILINE", "S": "DOTALL", "X": "VERBOSE"}
ALIASES: Final = {
    **dict.fromkeys(_OS_ERRORS, "OSError"),
    **dict.fromkeys(_TIMEOUTS, "TimeoutError"),
    **{f"typing.{name}": name.lower() for name in ("List", "Dict", "Set", "FrozenSet", "Tuple", "Type")},
    **{f"re.{short}": f"re.{long}" for short, long in _FLAGS.items()},
    "typing.Text": "str",
    "io.open": "open",
    "six.text_type": "str",
    "six.binary_type": "bytes",
    "datetime.UTC": "datetime.timezone.utc",
}
"""A name, and the one that it is told by."""
_MODULES: Final = {
    "typing_extensions": "typing",
    "mock": "unittest.mock",
    "importlib_metadata": "importlib.metadata",
    "importlib_resources": "importlib.resources",
    "tomli": "tomllib",
    "six.moves.urllib.parse": "urllib.parse",
    "backports.zoneinfo": "zoneinfo",
    "xml.etree.cElementTree": "xml.etree.ElementTree",
}
"""Modules that a linter replaces by their place in the standard library."""
_FROM_TYPING: Final = frozenset(
    """
    Iterable Iterator Generator Callable Mapping MutableMapping Sequence MutableSequence Set MutableSet
    Hashable Sized Collection Container Coroutine Awaitable AsyncIterator AsyncIterable AsyncGenerator
    Reversible KeysView ItemsView ValuesView MappingView ByteString
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
_TYPING_ALIASES: Final = {
    "typing.AbstractSet": "collections.abc.Set",
    "typing.Set": "typing.Set",  # the builtin one, unlike the `Set` that `collections` had
    "typing.Pattern": "re.Pattern",
    "typing.Match": "re.Match",
    "typing.Counter": "collections.Counter",
    "typing.ChainMap": "collections.ChainMap",
    "typing.Deque": "collections.deque",
    "typing.DefaultDict": "collections.defaultdict",
    "typing.OrderedDict": "collections.OrderedDict",
    "typing.ContextManager": "contextlib.AbstractContextManager",
    "typing.AsyncContextManager": "contextlib.AbstractAsyncContextManager",
}


def origin(name: str) -> str:
    """Gives the name by which something imported is known, wherever it was moved to."""
    for old, new in _MODULES.items():
        if name == old or name.startswith(f"{old}."):
            name = new + name.removeprefix(old)
            break
    if name in _TYPING_ALIASES:
        return _TYPING_ALIASES[name]
    head, _, last = name.rpartition(".")
    if head in {"typing", "collections"} and last in _FROM_TYPING:
        return f"collections.abc.{last}"
    return name
