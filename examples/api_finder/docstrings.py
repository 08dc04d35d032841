"""What a docstring gives: a first sentence, the words after it, and a request without names."""

from __future__ import annotations

import re

MASK = "this"
_ROLE = re.compile(r":[\w:+-]+:`~?\.?([^`<]+?)(?:\s*<[^`]*>)?`")
_MARKUP = re.compile(r"[`*|]+")
_SIGNATURE = re.compile(r"^[\w.]+\(.*\)(\s*->.*)?$")
_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)\s+(?=[A-Z`\"'(])")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_TOKEN = re.compile(r"[A-Za-z0-9_]+")
_SUFFIX = re.compile(r"(?<=...)(ings?|ed|es|e|s|d)$")
_REPEATED = re.compile(rf"\b{MASK}(?: {MASK})+\b")
_SECTION = re.compile(
    r">>>|\.\. \w+::|:\w+ \w+:|:returns?:|\w+ -{4,}|={4,}"
    r"|(?:Args|Returns?|Raises|Examples?|Usage)::?\s"
)
_NO_REQUEST = re.compile(r"^(alias|see|same as|deprecated|\.\. |inherited|like )", re.IGNORECASE)


def words(text: str) -> list[str]:
    """Splits prose and identifiers into lower-case words.

    >>> words("OrderedDict.move_to_end")
    ['ordered', 'dict', 'move', 'to', 'end']
    """
    return [word.lower() for word in _WORD.findall(text)]


def first_sentence(doc: str) -> str:
    """Returns the first sentence of a docstring as one plain line, or an empty string.

    A first paragraph that only repeats the call (`"pop(k) -> value"`) is passed over.

    >>> first_sentence("f(x) -> y\\n\\nReturn the :term:`sum`\\nof ``x``.  More follows.")
    'Return the sum of x.'
    """
    for paragraph in re.split(r"\n\s*\n", doc.strip()):
        line = plain(paragraph)
        if line and not _SIGNATURE.match(line):
            sentence = _END.split(line, maxsplit=1)[0]
            return "" if _NO_REQUEST.match(sentence) else sentence
    return ""


def remainder(doc: str, sentence: str, count: int) -> str:
    """Returns at most `count` words of prose that follow the first sentence.

    Parameter lists, sections, directives and examples are no prose.
    """
    rest = plain(doc).partition(sentence)[2]
    return " ".join(_SECTION.split(rest, maxsplit=1)[0].split()[:count])


def plain(text: str) -> str:
    """Drops reStructuredText roles and markup and folds white space."""
    return " ".join(_MARKUP.sub("", _ROLE.sub(r"\1", text)).split())


def mask(sentence: str, name: str) -> str:
    """Hides an object's name in a sentence.

    The name as a whole is always hidden; the words that it is made of are hidden where all of them
    stand in the sentence and so spell the name out.

    >>> mask("Return a shallow copy of the DefaultDict.", "default_dict")
    'Return a shallow copy of the this.'
    >>> mask("Opens the file and maps it into memory.", "open_memory_map")
    'this the file and this it into this.'
    >>> mask("Opens the file.", "open_memory_map")
    'Opens the file.'
    """
    parts = [_stem(part) for part in words(name)]
    whole = "".join(words(name))
    hidden = set(parts) if {_stem(word) for word in words(sentence)}.issuperset(parts) else set()

    def hide(token: re.Match[str]) -> str:
        spoken = words(token[0])
        leaks = "".join(spoken) == whole or any(_stem(word) in hidden for word in spoken)
        return MASK if leaks else token[0]

    return _REPEATED.sub(MASK, _TOKEN.sub(hide, sentence))


def _stem(word: str) -> str:
    return _SUFFIX.sub("", word)
