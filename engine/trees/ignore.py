"""What is not captured: rules in gitignore syntax, matched by ``pathspec``.

From the strongest to the weakest: what is never captured (``.git``, ``.instar``); secrets; the configured patterns; the
built-in ones; then the ``.gitignore`` files, the innermost first, as git reads them. The first that says anything
decides. Only a configured pattern (``!name``) re-includes a secret or a built-in; a ``.gitignore`` cannot.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache

from pathspec import GitIgnoreSpec

from instar.fsm.policy import CapturePolicy
from instar.fsm.words import digest_of
from instar.store.paths import ancestors, decode_path
from instar.store.ports import Blobs
from instar.store.trees import Entry, Tree

from .left_out import NEVER, in_force

log = logging.getLogger("instar.engine.trees.ignore")

EntryAt = Callable[[str], Entry | None]

IGNORED = "ignored"
SECRET = "secret"

_ANYWHERE = "^(?:.+/)?"

# pathspec reads `a/**/` and `a/**` as all of `a`; to git they are the folders, and all that is, below it.
_BELOW = re.compile(r"/\*\*(/?) *$")


class _Rules:
    """The lines of one source of patterns.

    pathspec's own ``match_file`` lets a pattern that matches a folder match all below it, a re-including one too. git
    asks for each folder on the way, and so does the scan: here a pattern has to match the very path that is asked for.
    """

    def __init__(self, lines: Iterable[str], source: str) -> None:
        self.lines = [line for line in (_BELOW.sub(r"/**/*\1", line) for line in lines) if _understood(line, source)]
        spec = GitIgnoreSpec.from_lines(self.lines)
        self.patterns = [(each.regex, each.include) for each in spec.patterns if each.regex is not None]

    def verdict(self, path: str) -> bool | None:
        """Says whether the last line that matches excludes (True), re-includes (False), or that none matches."""
        return next((include for regex, include in reversed(self.patterns) if _matches(regex, path)), None)


def _matches(regex: re.Pattern[str], path: str) -> bool:
    if regex.pattern.startswith("^"):
        return regex.fullmatch(path) is not None
    return regex.pattern == "." or path.endswith("/")  # pathspec's short forms of `*` and of `*/`


def _understood(line: str, source: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:  # git, too, skips what it does not understand
        log.warning("%s: the pattern %r is not understood and was skipped", source, line)
        return False
    return True


def _prefilter(rules: Iterable[_Rules]) -> re.Pattern[str] | None:
    """Joins all patterns into one expression, five times faster: what it does not match, no pattern matches."""
    sources = []
    for each in rules:
        if any("(?P<" in line for line in each.lines):  # cannot be told from pathspec's own groups
            return None
        # An expression that is tried at the start only is twice as fast.
        sources += [
            regex.pattern if regex.pattern.startswith("^") else f"(?s:.*){regex.pattern}" for regex, _ in each.patterns
        ]
    plain = [re.sub(r"\(\?P<\w+>", "(?:", source) for source in sources]
    # Most patterns hold at any depth: the way there is tried once for all of them.
    deep = [source.removeprefix(_ANYWHERE) for source in plain if source.startswith(_ANYWHERE)]
    joined = [source for source in plain if not source.startswith(_ANYWHERE)]
    joined += [f"{_ANYWHERE}(?:{'|'.join(deep)})"] if deep else []
    return re.compile("|".join(joined) or r"(?!)")


_Nested = tuple[int, re.Pattern[str] | None, _Rules]
"""Length of the folder's prefix, prefilter, rules."""


@lru_cache(maxsize=1024)
def _of_file(folder: str, gitignore: bytes) -> _Nested:
    lines = gitignore.decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")
    rules = _Rules((line.removesuffix("\r") for line in lines), f"{folder or '.'}/.gitignore")
    return len(folder) + 1 if folder else 0, _prefilter([rules]), rules


class Scope:
    """The rules in force inside one folder. Paths are relative to the root, as ``os.fsdecode`` gives them."""

    def __init__(self, ignore: Ignore, nested: tuple[_Nested, ...] = ()) -> None:
        self._ignore = ignore
        self._nested = nested  # the innermost first

    def enter(self, folder: str, gitignore: bytes) -> Scope:
        """Returns the scope inside ``folder``, which holds this ``.gitignore``; the root is the empty string."""
        return Scope(self._ignore, (_of_file(folder, gitignore), *self._nested))

    def verdict(self, path: str, *, folder: bool = False) -> str | None:
        """Says why a path in this folder is not captured (``IGNORED`` or ``SECRET``), or None if it is.

        Whatever lies below a folder with a verdict shares it.
        """
        asked = f"{path}/" if folder else path
        decided = self._ignore.first_verdict(asked)
        if decided is not None:
            return decided or None
        for start, prefilter, rules in self._nested:
            within = asked[start:]
            if prefilter is not None and not prefilter.match(within):
                continue
            found = rules.verdict(within)
            if found is not None:
                return IGNORED if found else None
        return None


class Ignore:
    """The rules that hold everywhere.

    Args:
        patterns: what is configured beside the built-in rules, in gitignore syntax.
        recorded: the rules as they were recorded, in place of both.

    Attributes:
        key: names these rules; other rules have another.
    """

    def __init__(self, patterns: Iterable[str] = (), *, recorded: CapturePolicy | None = None) -> None:
        self._in_force = recorded or in_force(patterns, (), 0)
        lines = (*NEVER, "", *self._in_force.secrets, "", *self._in_force.ignore)
        self.key = digest_of("\n".join(lines).encode("utf-8", "surrogateescape"))

    @cached_property
    def _compiled(self) -> tuple[_Rules, _Rules, _Rules]:
        """What is never captured, secrets, and the others; made when first asked for, which a quiet scan never does."""
        # Re-inclusions come after the secrets: the last line that matches wins.
        reincluded = tuple(line for line in self._in_force.ignore if line.startswith("!"))
        secrets = _Rules((*self._in_force.secrets, *reincluded), "configuration")
        return _Rules(NEVER, "built-in"), secrets, _Rules(self._in_force.ignore, "configuration")

    @cached_property
    def _prefilter(self) -> re.Pattern[str] | None:
        return _prefilter(self._compiled)

    def scope(self) -> Scope:
        """Returns the scope of the root, before its ``.gitignore``."""
        return Scope(self)

    def first_verdict(self, asked: str) -> str | None:
        """Returns a reason, the empty string for a path that is re-included, or None when no rule here speaks."""
        if self._prefilter is not None and not self._prefilter.match(asked):
            return None
        never, secrets, others = self._compiled
        if never.verdict(asked):
            return IGNORED
        if secrets.verdict(asked):
            return SECRET
        found = others.verdict(asked)
        return None if found is None else IGNORED if found else ""


def spared_by(tree: Tree | EntryAt, blobs: Blobs, ignore: Ignore) -> Callable[[str], str | None]:
    """Returns the question "was this path left out when ``tree`` was captured?", asked by its stored spelling.

    The ``.gitignore`` files are the tree's own, so that a restore does not delete what that tree could not hold.

    Args:
        tree: the tree, or what gives the file or link at a path of it.
        blobs: where the ``.gitignore`` files are.
        ignore: the rules that hold everywhere.
    """
    entry_at = tree.files.get if isinstance(tree, Tree) else tree

    def rules_in(folder: str) -> bytes | None:
        entry = entry_at(f"{folder}/.gitignore" if folder else ".gitignore")
        return blobs.get(entry.blob) if entry is not None and entry.kind == "file" else None

    return left_out_by(rules_in, ignore)


def left_out_by(rules_in: Callable[[str], bytes | None], ignore: Ignore) -> Callable[[str], str | None]:
    """Returns the question "why do the rules leave this path out?", asked by its stored spelling.

    Args:
        rules_in: gives the ``.gitignore`` of a folder, if there is one; the root is the empty string.
        ignore: the rules that hold everywhere.
    """
    scopes: dict[str, Scope] = {}

    def scope_of(folder: str) -> Scope:
        if folder not in scopes:
            outer = scope_of(folder.rpartition("/")[0]) if folder else ignore.scope()
            rules = rules_in(folder)
            scopes[folder] = outer if rules is None else outer.enter(_raw(folder), rules)
        return scopes[folder]

    def reason(path: str) -> str | None:
        for folder in reversed(list(ancestors(path))):
            found = scope_of(folder.rpartition("/")[0]).verdict(_raw(folder), folder=True)
            if found:
                return found
        return scope_of(path.rpartition("/")[0]).verdict(_raw(path))

    return reason


def _raw(path: str) -> str:
    return decode_path(path).decode("utf-8", "surrogateescape")
