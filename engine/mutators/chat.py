"""Asks an OpenAI-compatible endpoint for one answer: ``POST {base}/chat/completions``.

The reply is a stranger's: it is bounded in size and time, and only the one text that was asked for is taken from it.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Final, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from instar.fsm.errors import ConfigError, EffectFailedError

REPLY_BYTES_MAX: Final = 4 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a model answers, and as whom it is asked; the key is shown to nobody else."""

    url: str
    model: str
    key: str = ""
    timeout_s: float = 120.0

    def __repr__(self) -> str:
        """Leaves the key out."""
        return f"Endpoint({self.url!r}, {self.model!r})"


class Asked(Protocol):
    """Whoever answers a conversation."""

    def __call__(self, endpoint: Endpoint, messages: list[dict[str, str]], seed: int, /) -> str:
        """Gives the answer's text."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to be sent elsewhere: the key and the code are meant for the host that was configured."""

    def redirect_request(
        self,
        _req: urllib.request.Request,
        _fp: IO[bytes],
        _code: int,
        _msg: str,
        _headers: HTTPMessage,
        _newurl: str,
    ) -> None:
        """Follows nothing; the reply counts as an error."""


def check_url(url: str) -> None:
    """Makes sure that a base URL can be asked.

    Raises:
        ConfigError: it is no http or https URL with a host, or holds a login.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits, parts = False, urlsplit("")
    if not fits or parts.query or parts.fragment:
        raise ConfigError("mutators.llm_url must be a base such as http://127.0.0.1:8080/v1, without query")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("mutators.llm_url holds a login; put the key into the variable of mutators.llm_key_variable")


def ask(endpoint: Endpoint, messages: list[dict[str, str]], seed: int) -> str:
    """Asks once, and gives the answer's text.

    Raises:
        ConfigError: the URL cannot be asked.
        EffectFailedError: there is no answer in time, or none of the form that the protocol has.
    """
    check_url(endpoint.url)
    body = {"model": endpoint.model, "messages": messages, "temperature": 0, "seed": seed, "stream": False}
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    request = urllib.request.Request(
        f"{endpoint.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers, method="POST"
    )
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=endpoint.timeout_s) as reply:
            content = _read(reply, time.monotonic() + endpoint.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        raise EffectFailedError(
            f"the model's endpoint answered {error.code}; see mutators.llm_url, and its key"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        # A ValueError may quote a header, and so the key.
        told = type(error).__name__ if isinstance(error, ValueError) else str(error)
        raise EffectFailedError(f"the model's endpoint gave no answer: {told}") from None
    return _text_of(content)


def _read(reply: IO[bytes], until: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := reply.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
        chunks.append(chunk)
        size += len(chunk)
        if size > REPLY_BYTES_MAX:
            raise EffectFailedError(f"the model's reply is over {REPLY_BYTES_MAX >> 20} MiB: it was not read")
        if time.monotonic() > until:
            raise TimeoutError("it took longer than mutators.llm_timeout_s")
    return b"".join(chunks)


def _text_of(content: bytes) -> str:
    try:
        reply: Any = json.loads(content)
        text = reply["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise EffectFailedError(
            "the model's reply holds no choices[0].message.content: is it an OpenAI-compatible one?"
        )
    return text
