"""One line of a log: its level, whether it tells of a failure, and what of it is variable."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Struct

FAILURE_LEVELS: Final = frozenset(
    {"ERROR", "CRITICAL", "FATAL", "SEVERE", "ALERT", "EMERGENCY", "EMERG", "CRIT", "PANIC", "FAILURE", "ERR"}
)
_QUIET_LEVELS: Final = frozenset({"TRACE", "DEBUG", "INFO", "NOTICE", "VERBOSE", "FINE", "CONFIG", "SUCCESS"})
_LEVEL: Final = re.compile(
    r"(?<![\w/.$-])(?P<open>[\[<(]?)(?P<level>"
    r"TRACE|DEBUG|INFO|NOTICE|VERBOSE|FINE|CONFIG|SUCCESS|WARN(?:ING)?|"
    r"ERROR|CRITICAL|CRIT|FATAL|SEVERE|ALERT|EMERG(?:ENCY)?|PANIC|FAILURE)(?P<close>[\])>:]|(?=[\s|]|$))"
)
_LEVEL_LOWER: Final = re.compile(
    r"(?:[\[<(](?:\w+:)?|\blevel\s?[=:]\s?\"?|^)(?P<level>trace|debug|info|notice|warn(?:ing)?|error|err|crit(?:ical)?|"
    r"fatal|severe|alert|emerg(?:ency)?|panic)(?=[\])>\"\s:|])(?:[\])>\":]|\s)"
)
_HINTS: Final = (
    *("err", "fail", "fatal", "crit", "sever", "alert", "emerg", "panic", "exception", "traceback", "crash"),
    *("unable", "could not", "cannot"),
)
_HEAD_CHARS: Final = 160
"""Where a level is looked for: behind it, the word is part of what is told."""

_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
"""Colours, titles and links of a terminal; the next escape ends what has no end, so that a line is read once."""
_TIME: Final = re.compile(
    r"(?<![\d.])[\[(]?(?:\d{4}[-./]\d\d?[-./]\d\d?[T _-]?(?:\d\d?[:.]\d\d[:.]\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?|"
    r"\d\d?/\d\d?/\d{2,4} \d\d:\d\d:\d\d|"
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d\d? "
    r"(?:\d{4} )?\d\d:\d\d:\d\d(?:[.,]\d+)?(?: \d{4})?|"
    r"\d\d:\d\d:\d\d(?:[.,]\d+)?)[\])]?"
)
_PREFIX: Final = re.compile(rf"(?:{_TIME.pattern}[ ,]?)+(?:- )?")
_TRACEBACK: Final = re.compile(r"Traceback \(most recent call last\):|Exception Group Traceback")
_EXCEPTION: Final = re.compile(
    r"(?:[A-Za-z_][\w$]*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning|Failure|Fault)(?::|$|\s\()|"
    r"Exception in thread\b|(?:[a-z_]\w*\.)+[A-Z]\w+: "
)
_CONTINUES: Final = re.compile(
    r"Caused by: |\.\.\. \d+ (?:more|common frames)|During handling of the above exception|The above exception was the"
)
_WORD: Final = re.compile(
    r"(?<![\w./\\=-])(?:(?:FAILED|FAILURE|FAIL)(?=[\s:!.,)\]]|$)|"
    r"(?i:fail(?:ed|ure)|exception|errors?|fatal|panic|crash(?:ed)?|unable to|could not|cannot)(?![\w/\\=(-]|\.\w))|"
    r"##\[error\]|(?<![\w./])[A-Za-z.]+(?:Exception|Error)(?=[:\s]|$)"
)
_DENIED: Final = re.compile(
    r"(?i)\b(?:0|no|zero|without|any|not?) (?:\w+ ){0,2}?(?:fail(?:ed|ures?)|errors?|exceptions?|crash(?:ed)?)\b|"
    r"\b(?:fail(?:ed|ures?)|errors?|exceptions?)\b[\w ]{0,30}[:=]\s?0(?![.\d])|"
    r"\b(?:if|on|when|unless|whether|in case of|handles?|retry|ignor\w+|expected|fixed|fixes|corrected|recovered from)"
    r"\b[^.;]{0,40}\b(?:fail(?:ed|ures?)?|errors?|exceptions?|cannot|could not)\b|"
    r"\b(?:errors?|exceptions?|failures?) (?:was |were |has been |have been )?"
    r"(?:corrected|handled|recovered|fixed|ignored|detected and corrected|handling|handler|recovery|reporting|count)\b"
)
_TELLS: Final = re.compile(r"[^\W\d_]{2}")
_VARIABLE: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (mark, re.compile(pattern))
    for mark, pattern in (
        ("<time>", _TIME.pattern),
        ("<url>", r"\b[a-z][a-z0-9+.-]{1,10}://[^\s\"'<>)\]]+"),
        ("<uuid>", r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"),
        ("<mail>", r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b"),
        ("<ip>", r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"),
        ("<host>", r"(?<=host=)[\w.-]+"),
        ("<path>", r"(?<![\w.<])(?:[A-Za-z]:)?(?:[./~]{0,2}[\\/][\w.@+%~$-]+)+[\\/]?(?::\d+)*"),
        ("<hex>", r"\b0[xX][0-9a-fA-F]+\b|\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{7,}\b"),
        (
            "<num>",
            r"(?<![A-Za-z\d<])[-+]?\d++(?:[.,]\d++)*+(?![A-Za-z>])|(?<=[A-Za-z_-])\d++(?=\b|_)|\b\d++(?:[.,]\d++)*+(?=[a-zA-Z]{1,3}\b)",
        ),
    )
)


class LogLine(Struct, frozen=True, kw_only=True):
    """A line taken apart: ``text`` without colours, time and level; ``fields`` if it is a JSON object."""

    number: int
    text: str
    level: str | None
    indented: bool
    fields: dict[str, Any] | None = None
    starts_traceback: bool = False
    names_exception: bool = False
    continues: bool = False


def may_tell(line: str) -> bool:
    """Says cheaply whether ``announces_failure`` has a chance: most lines of a log need no closer look."""
    lowered = line.lower()
    return any(hint in lowered for hint in _HINTS)


def read_line(line: str, number: int) -> LogLine:
    """Takes a line apart."""
    if line.startswith("{") and (fields := _json(line)) is not None:
        level = fields.get("level", fields.get("levelname", fields.get("severity")))
        told = next((str(fields[key]) for key in ("message", "msg", "event", "error") if fields.get(key)), line)
        return LogLine(
            number=number, text=told, level=str(level).upper() if level else None, indented=False, fields=fields
        )
    if "\x1b" in line:
        # A line in one colour from its start is the echo of a command, not what it told.
        line = "" if line.lstrip().startswith("\x1b[36;1m") or "Z \x1b[36;1m" in line[:64] else _ANSI.sub("", line)
    prefix = _PREFIX.match(line)
    text = line[prefix.end() :] if prefix else line
    bare = text.strip()
    level, start, end = _level(text)
    return LogLine(
        number=number,
        text=text[end:].strip(" -:\t") or text[:start].strip(" -:\t"),
        level=level,
        indented=text[:1] in {" ", "\t"},
        starts_traceback="Traceback" in bare and _TRACEBACK.match(bare) is not None,
        names_exception=_EXCEPTION.match(bare) is not None,
        continues=_CONTINUES.match(bare) is not None,
    )


def announces_failure(line: LogLine) -> bool:
    """Says whether a failure starts at this line."""
    if line.fields is not None and _says_failed(line.fields):
        return True
    if not _TELLS.search(line.text) or line.text.upper() in FAILURE_LEVELS | {"FAIL", "FAILED"}:
        return False  # A level alone, a ruler, a blank line tell nothing.
    if line.level in FAILURE_LEVELS:
        return not _DENIED.fullmatch(line.text)
    if line.starts_traceback:
        return True
    if line.level in _QUIET_LEVELS or line.indented:
        return False
    found = _WORD.search(line.text)
    return found is not None and _DENIED.search(line.text) is None


def template_of(message: str) -> str:
    """Replaces what varies between two occurrences of one fault.

    >>> template_of("Timeout after 3.5 s at /srv/app/run.py:17 (id 0x7f3a)")
    'Timeout after <num> s at <path> (id <hex>)'
    """
    for mark, pattern in _VARIABLE:
        message = pattern.sub(mark, message)
    return " ".join(message.split())


def _json(line: str) -> dict[str, Any] | None:
    try:
        content = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _says_failed(fields: dict[str, Any]) -> bool:
    told = (fields.get(key) for key in ("outcome", "status", "result"))
    return any(isinstance(value, str) and value.lower() in {"fail", "failed", "failure", "error"} for value in told)


def _level(text: str) -> tuple[str | None, int, int]:
    """Finds the level that a line gives itself, in upper case, and where it begins and ends."""
    head = text[:_HEAD_CHARS]
    found = _LEVEL.search(head) or _LEVEL_LOWER.search(head)
    if found is None:
        return None, 0, 0
    # A line may begin with its program's name and come to its level later, but not past the first sentence.
    lead = head[: found.start()]
    if lead.count(" ") > 9 or ". " in lead:
        return None, 0, 0
    plain = not (found["open"] or found["close"]) if "open" in found.groupdict() else False
    level = found["level"].upper()
    if plain and level in {"FAILURE", "PANIC", "ALERT", "SUCCESS", "FINE", "CONFIG"}:
        return None, 0, 0
    return level, found.start(), found.end()
