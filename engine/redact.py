"""Takes secrets out of texts before they are written or embedded.

The shapes are the published ones of the issuers (as in detect-secrets and gitleaks, which are too slow or foreign to
run on every text). What reads as code (``token=self.token``, ``password=None``) stays. Redacting twice changes nothing.
"""

from __future__ import annotations

import re
from typing import Final

_SHAPES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (
            "private-key",
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:(?!-----)[A-Za-z0-9+/=\s:,.\\\"'()-]){0,20000}+"
            r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?",
        ),
        ("aws-key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ("github-token", r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{40,255})"),
        ("gitlab-token", r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,255}"),
        ("slack-token", r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,255}"),
        ("api-key", r"(?<![A-Za-z0-9])sk[-_](?:[A-Za-z0-9]+[-_]){0,3}[A-Za-z0-9]{20,255}"),
        ("google-key", r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}"),
        (
            "package-token",
            r"(?<![A-Za-z0-9])(?:pypi-[A-Za-z0-9_-]{50,1000}|npm_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{30,255})",
        ),
        ("jwt", r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{5,4000}\.eyJ[A-Za-z0-9_-]{5,8000}\.[A-Za-z0-9_-]{5,4000}"),
    )
)
_SHAPE_HINT: Final = re.compile(
    r"PRIVATE KEY|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox|sk[-_]|AIza|pypi-|npm_|hf_|eyJ"
)
_BEARER: Final = re.compile(r"(?i)\b(authorization\b[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token)\s+)([\w.~+/=-]{6,})")
_BARE_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)((?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*)")
_URL_LOGIN: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,100}:)([^\s/@\"'<>]{1,200})(?=@)")
_KEY: Final = (
    r"(?P<key>passwords?|passwd|passphrase|pwd|tokens?|secret|secret[_-]?key|api[_-]?key|apikey|access[_-]?key|"
    r"secret[_-]?access[_-]?key|auth[_-]?token|client[_-]?secret|private[_-]?key|credentials?)"
)
_QUOTED: Final = re.compile(
    rf"(?i)(?P<lead>(?<![A-Za-z0-9]){_KEY}\\?[\"']?\s{{0,4}}(?::\s{{0,4}}str\s{{0,4}}=|:=|[:=])\s{{0,4}}"
    r"[bru]?\\?(?P<quote>[\"']))(?P<value>(?:(?!\\?(?P=quote))[^\r\n]){4,400})(?=\\?(?P=quote))"
)
_BARE: Final = re.compile(
    rf"(?i)(?P<lead>(?<![A-Za-z0-9]){_KEY}[\"']?\s{{0,4}}(?P<sign>[:=])\s{{0,4}})"
    r"(?P<value>[^\s\"'`(),;<>{}&|\[\]]{4,400})(?P<after>[(\[]?)"
)
_KEY_HINTS: Final = ("pass", "pwd", "token", "secret", "key", "credential")
_PLACEHOLDER: Final = re.compile(
    r"(?i)none|null|true|false|self\..*|cls\..*|str|bytes|int|float|bool|object|optional|string|\*+|x{4,}|\.{3,}|[$%].*|=.*"
)


def redact(text: str) -> str:
    """Replaces what looks like a secret by ``[redacted:kind]``.

    >>> redact("api_key = 'b7f3c2d1e0'")
    "api_key = '[redacted:api_key]'"
    >>> redact("login(token=self.token)")
    'login(token=self.token)'
    """
    if _SHAPE_HINT.search(text):
        for kind, shape in _SHAPES:
            text = shape.sub(f"[redacted:{kind}]", text)
    if "://" in text:
        text = _URL_LOGIN.sub(_keep_lead("password"), text)
    lowered = text.lower()
    if "bearer" in lowered or "authorization" in lowered:
        text = _BEARER.sub(_keep_lead("bearer"), text)
        text = _BARE_BEARER.sub(_keep_lead("bearer"), text)
    if any(hint in lowered for hint in _KEY_HINTS):
        text = "".join(map(_redact_line, text.splitlines(keepends=True)))
    return text


def _redact_line(line: str) -> str:
    lowered = line.lower()
    if any(hint in lowered for hint in _KEY_HINTS):
        return _BARE.sub(_bare, _QUOTED.sub(_quoted, line))
    return line


def _keep_lead(kind: str) -> str:
    return rf"\g<1>[redacted:{kind}]"


def _kind(key: str) -> str:
    return key.lower().replace("-", "_")


def _quoted(found: re.Match[str]) -> str:
    value = found["value"]
    prose = " " in value.strip() and _kind(found["key"]) in {"token", "tokens", "credential", "credentials"}
    if prose or _is_harmless(value, found["key"]):
        return found[0]
    return f"{found['lead']}[redacted:{_kind(found['key'])}]"


def _bare(found: re.Match[str]) -> str:
    """Redacts an unquoted value, unless it reads as code: a name that is called, indexed, dotted or the key itself."""
    value, key = found["value"], found["key"]
    code = bool(found["after"]) or bool(re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", value))
    word = re.fullmatch(r"[A-Za-z_.:-]*|\d{1,5}", value) is not None
    if code or _is_harmless(value, key) or (word and (found["sign"] == ":" or value.isdigit())):
        return found[0]
    return f"{found['lead']}[redacted:{_kind(key)}]{found['after']}"


def _is_harmless(value: str, key: str) -> bool:
    # An opening bracket never stands in an unquoted value, so a marker is seen by its tail there.
    return value.startswith("[redacted") or value.lower() == key.lower() or _PLACEHOLDER.fullmatch(value) is not None
