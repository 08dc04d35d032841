"""Takes secrets out of texts before they are written or embedded.

The shapes are the published ones of the issuers (as in detect-secrets and gitleaks, which are too slow or foreign to
run on every text). What reads as code (``token=self.token``, ``password=None``) stays. Redacting twice changes nothing.
"""

from __future__ import annotations

import re
from math import log2
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
        ("aws-key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ("github-token", r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{40,255})"),
        ("gitlab-token", r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,255}"),
        (
            "slack-token",
            r"(?<![A-Za-z0-9])(?:xox[abeoprs]-[A-Za-z0-9-]{10,255}|xapp-\d-[A-Za-z0-9-]{10,255})|"
            r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,255}",
        ),
        (
            "api-key",
            r"(?<![A-Za-z0-9])(?:(?:sk|rk|pk)[-_](?:[A-Za-z0-9]+[-_]){0,3}[A-Za-z0-9]{20,255}[A-Za-z0-9_-]{0,255}|"
            r"sk-ant-[A-Za-z0-9_-]{20,255}|whsec_[A-Za-z0-9+/=]{20,255}|gsk_[A-Za-z0-9]{30,255})",
        ),
        (
            "google-key",
            r"(?<![A-Za-z0-9])(?:AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,1000}|GOCSPX-[A-Za-z0-9_-]{20,100})",
        ),
        (
            "package-token",
            r"(?<![A-Za-z0-9])(?:pypi-[A-Za-z0-9_-]{50,1000}|npm_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{30,255}|"
            r"dckr_[po]at_[A-Za-z0-9_-]{20,100}|rubygems_[a-f0-9]{48})",
        ),
        (
            "service-token",
            r"(?<![A-Za-z0-9])(?:SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,64}|do[opr]_v1_[a-f0-9]{64}|"
            r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|dapi[a-f0-9]{32}|hvs\.[A-Za-z0-9_-]{20,200}|glsa_[A-Za-z0-9_]{32,60}|"
            r"lin_api_[A-Za-z0-9]{30,60}|ntn_[A-Za-z0-9]{40,60}|PMAK-[a-f0-9]{24}-[a-f0-9]{34}|NRAK-[A-Z0-9]{27}|"
            r"sntrys_[A-Za-z0-9+/=_-]{40,400}|ATATT3[A-Za-z0-9_=-]{50,400}|AGE-SECRET-KEY-1[A-Z0-9]{58}|"
            r"\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])|(?:AC|SK)[a-f0-9]{32}(?![A-Za-z0-9]))",
        ),
        ("jwt", r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{5,4000}\.eyJ[A-Za-z0-9_-]{5,8000}\.[A-Za-z0-9_-]{5,4000}"),
    )
)
_SHAPE_HINT: Final = re.compile(
    r"PRIVATE KEY|A(?:KIA|SIA|BIA|CCA)|gh[pousr]_|github_pat_|glpat-|xox|xapp-|hooks\.slack|[srp]k[-_]|whsec_|gsk_|"
    r"AIza|ya29\.|GOCSPX-|pypi-|npm_|hf_|dckr_|rubygems_|eyJ|SG\.|do[opr]_v1_|shp[acps]|dapi|hvs\.|glsa_|lin_api_|ntn_|PMAK-|"
    r"NRAK-|sntrys_|ATATT3|AGE-SECRET|:AA|AC[a-f0-9]{8}|SK[a-f0-9]{8}"
)
_DENSE: Final = re.compile(r"(?<![A-Za-z0-9+/_.-])(?<!h1:)[A-Za-z0-9+/_-]{32,512}={0,2}(?![A-Za-z0-9+/_=-])")
"""What may be a key without a name: long, and of one piece."""
_TURNS: Final = re.compile(r"(?<=[a-z])(?![a-z])|(?<=[A-Z])(?![A-Z])|(?<=[0-9])(?![0-9])")
_TURNS_MIN = 0.45
"""How often the kind of a sign changes, by its length: at random 0.6 of the time, in an identifier twice a word."""
_DENSE_CHARS_MIN = 32
_DENSE_BITS_MIN = 4.2
"""Shannon entropy a character; 32 random ones of base64 have 4.6 on average, hexadecimal has 4 at most."""
_BEARER: Final = re.compile(r"(?i)\b(authorization\b[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token)\s+)([\w.~+/=-]{6,})")
_BARE_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)((?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*)")
_URL_LOGIN: Final = re.compile(
    r"(?i)\b([a-z][a-z0-9+.-]{1,20}://[^\s/:\"'<>]{0,100}:)"
    r"([^\s/\"'<>]{1,200}|(?!\d{1,5}(?![^/?#]))[^\s\"'<>@]{1,200})(?=@)"
)
"""A password ends at the last ``@`` before the host, or holds a slash (and is no port): neither need be escaped."""
_KEY: Final = (
    r"(?P<key>passwords?|passwd|passphrase|pwd|tokens?|secret|secret[_-]?key|api[_-]?key|apikey|access[_-]?key|"
    r"secret[_-]?access[_-]?key|auth[_-]?token|client[_-]?secret|private[_-]?key|account[_-]?key|signing[_-]?key|"
    r"encryption[_-]?key|shared[_-]?access[_-]?signature|x[_-]amz[_-]signature|sas[_-]?token|session[_-]?token|credentials?)"
)
_BEGIN: Final = r"(?<![A-Za-z0-9])(?:(?-i:[A-Z]{2,8}(?=PASS|PWD)))?"
"""A name begins, or goes on after capitals without a dash, as in ``PGPASSWORD``."""
_OPTION: Final = re.compile(
    rf"(?i)(?P<lead>(?<![\w-])--(?:[a-z0-9]{{1,20}}-){{0,3}}{_KEY}(?P<sign>\s{{1,4}})(?P<quote>[\"'])?)"
    r"(?P<value>(?(quote)(?:(?!(?P=quote))[^\r\n]){4,400}|(?!-)[^\s\"'`(),;<>{}&|\[\]]{4,400}))(?P<after>)"
)
"""A command's option and its value as words of their own: ``--password 0pen``."""
_USER_OPTION: Final = re.compile(
    r"(?<![\w-])((?:curl|wget|http|https|xh)\s(?:[^\n]{0,400}?\s)?(?:-u|--user)[\s=]{0,4}[\"']?[^\s:\"'<>]{1,100}:)"
    r"([^\s\"'<>]{1,200})"
)
_QUOTED: Final = re.compile(
    rf"(?i)(?P<lead>{_BEGIN}{_KEY}\\?[\"']?\s{{0,4}}(?::\s{{0,4}}str\s{{0,4}}=|:=|[:=])\s{{0,4}}"
    r"[bru]?(?P<nested>\\)?(?P<quote>[\"']))(?P<value>"
    r"(?(nested)(?:\\\\(?:\\[^\r\n]|[^\\\r\n])|\\(?!(?P=quote))[^\\\r\n]|(?!(?P=quote))[^\\\r\n]){4,400}+(?=\\(?P=quote))"
    r"|(?:\\[^\r\n]|(?!(?P=quote))[^\\\r\n]){4,400}+(?=(?P=quote)))"
    r"|(?:(?!\\?(?P=quote))[^\r\n]){4,400}(?=\\?(?P=quote)))"
)
"""A value ends at a quote like its first one that no backslash escapes, in JSON within JSON (``\\"``) one level deeper;
or, where no such quote follows (a path in an INI file ends in a backslash), at the next one."""
_BARE: Final = re.compile(
    rf"(?i)(?P<lead>{_BEGIN}{_KEY}[\"']?\s{{0,4}}(?P<sign>[:=])\s{{0,4}})"
    r"(?P<value>[^\s\"'`(),;<>{}&|\[\]]{4,400})(?P<after>[(\[]?)"
)
_KEY_HINTS: Final = ("pass", "pwd", "token", "secret", "key", "credential", "signature")
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
    if "-u" in text:
        text = _USER_OPTION.sub(_keep_lead("password"), text)
    lowered = text.lower()
    if "bearer" in lowered or "authorization" in lowered:
        text = _BEARER.sub(_keep_lead("bearer"), text)
        text = _BARE_BEARER.sub(_keep_lead("bearer"), text)
    if any(hint in lowered for hint in _KEY_HINTS):
        text = "".join(map(_redact_line, text.splitlines(keepends=True)))
    return _DENSE.sub(_dense, text) if len(text) >= _DENSE_CHARS_MIN else text


def _redact_line(line: str) -> str:
    lowered = line.lower()
    if any(hint in lowered for hint in _KEY_HINTS):
        return _OPTION.sub(_bare, _BARE.sub(_bare, _QUOTED.sub(_quoted, line)))
    return line


def _dense(found: re.Match[str]) -> str:
    """Redacts what no word, path, hash or identifier looks like: all kinds of letters and digits, evenly used."""
    value = found[0]
    mixed = any(map(str.isdigit, value)) and any(map(str.islower, value)) and any(map(str.isupper, value))
    if (
        not mixed
        or value.startswith(("sha256-", "sha384-", "sha512-"))
        or len(_TURNS.findall(value)) < _TURNS_MIN * len(value)
    ):
        return value
    counts = [value.count(sign) for sign in set(value)]
    bits = -sum(count / len(value) * log2(count / len(value)) for count in counts)
    return "[redacted:high-entropy]" if bits >= _DENSE_BITS_MIN else value


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
    assigned = word and " = " in found["lead"] and _kind(key) in {"token", "tokens", "key"}
    if code or assigned or _is_harmless(value, key) or (word and (found["sign"] != "=" or value.isdigit())):
        return found[0]
    return f"{found['lead']}[redacted:{_kind(key)}]{found['after']}"


def _is_harmless(value: str, key: str) -> bool:
    # An opening bracket never stands in an unquoted value, so a marker is seen by its tail there.
    return value.startswith("[redacted") or value.lower() == key.lower() or _PLACEHOLDER.fullmatch(value) is not None
