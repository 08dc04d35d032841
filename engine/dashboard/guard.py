"""What stands before every request: the Host check, the method, the token, and the headers of every answer.

A loopback address alone keeps nobody out: a hostile page can point its own name at it (DNS rebinding), and any user of
the machine can connect. So the Host must be one of ours, and the token of this start must have been shown.
"""

from __future__ import annotations

from secrets import compare_digest
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_CLOSED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Instar</title>
<h1>This page is closed</h1>
<p>Open the address that <code>instar dashboard</code> printed: it holds the token of this start.</p>
<p>If you did, and came here by a link from another page, <a href="/">go on from here</a>.</p></html>"""


class Guard:
    """ASGI middleware over the whole application.

    Args:
        app: what is guarded.
        token: the secret of this start.
        port: the port that the Host header must name.
        host: the loopback address that is served, beside the usual names.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int, host: str = "127.0.0.1") -> None:
        self._app = app
        self._token = token.encode()
        # Cookies do not know ports: two dashboards on one machine must not overwrite each other's.
        self._cookie = f"instar_{port}"
        names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
        self._hosts = {f"{name}:{port}" for name in names} | (names if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._answer(scope) or self._app
            await answer(scope, receive, _with_headers(send, cache=_caching(scope)))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _answer(self, scope: Scope) -> Response | None:
        """Refuses, or exchanges the token for a cookie; None lets the request through."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return PlainTextResponse("this host name is not served here", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("this page only shows", 405, {"Allow": "GET, HEAD"})
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if shown is not None:
            return self._exchange(shown[0])
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        return None if self._is_token(cookie) else HTMLResponse(_CLOSED, 401)

    def _exchange(self, shown: str) -> Response:
        """Puts the token out of the address, where history and screen shares would keep it."""
        if not self._is_token(shown):
            return HTMLResponse(_CLOSED, 401)
        response = RedirectResponse("/", 303)
        response.set_cookie(self._cookie, self._token.decode(), httponly=True, samesite="strict", path="/")
        return response

    def _is_token(self, shown: str) -> bool:
        return compare_digest(shown.encode("utf-8", "surrogatepass"), self._token)


def _caching(scope: Scope) -> str:
    """Lets a browser keep our own files, if it asks each time; nothing of the log is kept."""
    return "no-cache" if scope["path"].startswith("/static/") else "no-store"


def _with_headers(send: Send, *, cache: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers["Cache-Control"] = cache
        await send(message)

    return sending
