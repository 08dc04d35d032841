"""What is not captured: rules in gitignore syntax, matched by ``pathspec``.

From the strongest to the weakest: what is never captured (``.git``, ``.instar``); secrets; the configured patterns; the
built-in ones; then the ``.gitignore`` files, the innermost first, as git reads them. The first that says anything
decides. Only a configured pattern (``!name``) re-includes a secret or a built-in; a ``.gitignore`` cannot.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable

from pathspec import GitIgnoreSpec

from instar.store.paths import ancestors, decode_path
from instar.store.ports import Blobs
from instar.store.trees import Tree

log = logging.getLogger("instar.engine.ignore")

IGNORED = "ignored"
SECRET = "secret"

NEVER = (".git", "/.instar")
BUILT_IN = (
    ".venv/",
    "venv/",
    "node_modules/",
    "__pycache__/",
    "*.pyc",
    ".mypy_cache/",
    ".ruff_cache/",
    ".pytest_cache/",
    "/run/checkpoints/",
    "/data/nlp_training_sets/",
    "/data/logs/",
)
SECRETS = (
    ".env",
    ".env.*",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "!id_*.pub",
    ".netrc",
    ".pypirc",
)

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
    return re.compile("|".join(re.sub(r"\(\?P<\w+>", "(?:", source) for source in sources) or r"(?!)")


class Scope:
    """The rules in force inside one folder. Paths are relative to the root, as ``os.fsdecode`` gives them."""

    def __init__(self, ignore: Ignore, nested: tuple[tuple[int, re.Pattern[str] | None, _Rules], ...] = ()) -> None:
        self._ignore = ignore
        self._nested = nested  # (length of the folder's prefix, prefilter, rules), the innermost first

    def enter(self, folder: str, gitignore: bytes) -> Scope:
        """Returns the scope inside ``folder``, which holds this ``.gitignore``; the root is the empty string."""
        lines = gitignore.decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")
        rules = _Rules((line.removesuffix("\r") for line in lines), f"{folder or '.'}/.gitignore")
        start = len(folder) + 1 if folder else 0
        return Scope(self._ignore, ((start, _prefilter([rules]), rules), *self._nested))

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
    """The rules that hold everywhere: the built-in ones and ``patterns``, which are configured (gitignore syntax)."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        configured = tuple(patterns)
        # Re-inclusions come after the secrets: the last line that matches wins.
        reincluded = tuple(line for line in configured if line.startswith("!"))
        self._never = _Rules(NEVER, "built-in")
        self._secrets = _Rules((*SECRETS, *reincluded), "configuration")
        self._others = _Rules((*BUILT_IN, *configured), "configuration")
        self._prefilter = _prefilter([self._never, self._secrets, self._others])

    def scope(self) -> Scope:
        """Returns the scope of the root, before its ``.gitignore``."""
        return Scope(self)

    def first_verdict(self, asked: str) -> str | None:
        """Returns a reason, the empty string for a path that is re-included, or None when no rule here speaks."""
        if self._prefilter is not None and not self._prefilter.match(asked):
            return None
        if self._never.verdict(asked):
            return IGNORED
        if self._secrets.verdict(asked):
            return SECRET
        found = self._others.verdict(asked)
        return None if found is None else IGNORED if found else ""


def spared_by(tree: Tree, blobs: Blobs, ignore: Ignore) -> Callable[[str], str | None]:
    """Returns the question "was this path left out when ``tree`` was captured?", asked by its stored spelling.

    The ``.gitignore`` files are the tree's own, so that a restore does not delete what that tree could not hold.
    """
    scopes: dict[str, Scope] = {}

    def scope_of(folder: str) -> Scope:
        if folder not in scopes:
            outer = scope_of(folder.rpartition("/")[0]) if folder else ignore.scope()
            entry = tree.files.get(f"{folder}/.gitignore" if folder else ".gitignore")
            rules = blobs.get(entry.blob) if entry is not None and entry.kind == "file" else None
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
