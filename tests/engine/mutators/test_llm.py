"""A language model is asked over HTTP by a real server on this machine; what it answers is read strictly."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from instar.engine.mutators.llm import LanguageModel, language_model
from instar.engine.mutators.port import Proposal, RepairRequest
from instar.engine.mutators.reply import read_reply
from instar.fsm.errors import ConfigError, EffectFailedError, InputRefused

FILES = {"a.py": b"def f(a, b):\n    return a - b\n", "sub/b.py": b"x = 1\n"}
DIFF = "```diff\n--- a/a.py\n+++ b/a.py\n@@ -7,2 +7,2 @@\n def f(a, b):\n-    return a - b\n+    return a + b\n```"
WHOLE = "Here:\n```python path=sub/b.py\nx = 2\n```\nDone."
Serve = Callable[..., str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Serve, list[dict[str, Any]]]]:
    """Starts an endpoint that gives these replies in turn, the last one again and again; and what it was asked."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked: list[dict[str, Any]] = []
    servers: list[ThreadingHTTPServer] = []

    def start(*replies: str | bytes, status: int = 200, **headers: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
                reply = replies[min(len(asked), len(replies)) - 1]
                told = {"choices": [{"message": {"role": "assistant", "content": reply}}]}
                content = reply if isinstance(reply, bytes) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start, asked
    for server in servers:
        server.shutdown()
        server.server_close()


def answers(url: str, files: dict[str, bytes] = FILES, key_variable: str = "") -> list[Proposal]:
    request = RepairRequest(files=files, output="AssertionError: f(1, 2) is -1", command=("pytest",), seed=5)
    return list(language_model(url, "tiny", key_variable, 5.0).propose(request))


def test_answers_become_proposals_and_what_failed_is_told(
    serve: tuple[Serve, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, asked = serve
    monkeypatch.setenv("MY_KEY", "abc-def")
    found = answers(start(DIFF, WHOLE, "no idea"), key_variable="MY_KEY")
    assert [(one.path, one.content) for one in found] == [
        ("a.py", b"def f(a, b):\n    return a + b\n"),
        ("sub/b.py", b"x = 2\n"),
    ]
    assert {one["path"] for one in asked} == {"/v1/chat/completions"}
    assert {one["key"] for one in asked} == {"Bearer abc-def"}
    assert "f(1, 2) is -1" in asked[0]["messages"][1]["content"]
    assert "0 fenced blocks" in asked[3]["messages"][-1]["content"]
    assert language_model("http://x/v1", "tiny", "", 1.0).name == "llm:tiny"


def test_secrets_are_not_sent_and_not_lost(serve: tuple[Serve, list[dict[str, Any]]]) -> None:
    start, asked = serve
    secret = "ghp_" + "a1B2c3D4e5" * 4
    files = {"a.py": f"TOKEN = '{secret}'\nx = 1\n".encode()}
    diff = "```diff\n--- a/a.py\n+++ b/a.py\n@@ -2 +2 @@\n-x = 1\n+x = 2\n```"
    (only,) = answers(start(diff, "```python path=a.py\nTOKEN = ''\n```"), files)
    assert only.content == f"TOKEN = '{secret}'\nx = 2\n".encode()
    assert secret not in json.dumps(asked)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Sorry.", "0 fenced blocks"),
        (DIFF + "\n" + DIFF, "2 fenced blocks"),
        (DIFF.replace("a.py", "tests/t.py"), "none of the files"),
        (DIFF.replace("a/a.py", "a/../a.py"), "none of the files"),
        (DIFF.replace("b/a.py", "b/sub/b.py"), "none of the files"),
        (DIFF.replace("a - b", "a * b"), "does not fit"),
        (DIFF.replace("+    return a + b\n", "+    return a - b\n"), "changes nothing"),
        ("```diff\n--- a/a.py\n+++ b/a.py\n@@ -0,0 +1 @@\n+x = 1\n```", "after which"),
        ("```diff\n--- a/a.py\n+++ b/a.py\n```", "changes nothing"),
        ("```diff\n--- a/a.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n```", "none of the files"),
        ("```python path=/etc/passwd\nx\n```", "none of the files"),
    ],
)
def test_answer_that_is_no_repair_of_a_shown_file_is_refused(answer: str, said: str) -> None:
    with pytest.raises(InputRefused, match=said):
        read_reply(answer, FILES)


@pytest.mark.parametrize(
    "reply", [b"<html>", b"[]", b'{"choices": []}', b"[" * 100_000, b'{"choices":[{"message":{}}]}']
)
def test_reply_of_another_protocol_fails(reply: bytes, serve: tuple[Serve, list[dict[str, Any]]]) -> None:
    with pytest.raises(EffectFailedError, match="OpenAI-compatible"):
        answers(serve[0](reply))


def test_endpoint_that_refuses_sends_elsewhere_or_says_too_much_fails(
    serve: tuple[Serve, list[dict[str, Any]]],
) -> None:
    start, asked = serve
    with pytest.raises(EffectFailedError, match="answered 401"):
        answers(start("no", status=401))
    with pytest.raises(EffectFailedError, match="answered 302"):
        answers(start("no", status=302, Location="http://127.0.0.1:9/steal"))
    with pytest.raises(EffectFailedError, match="over 4 MiB"):
        answers(start(b"x" * (5 << 20)))
    assert len(asked) == 3


def test_endpoint_that_is_not_there_fails() -> None:
    with pytest.raises(EffectFailedError, match="gave no answer"):
        answers("http://127.0.0.1:1/v1")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/v1", "http://", "http://a:b@x/v1", "x", "http://[/v1"])
def test_url_that_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="llm_url"):
        answers(url)


def test_what_is_not_configured_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs"):
        language_model("", "", "", 1.0)
    with pytest.raises(ConfigError, match="NOT_SET_HERE"):
        language_model("http://x/v1", "m", "NOT_SET_HERE", 1.0)
    assert isinstance(language_model("http://x/v1", "m", "", 1.0), LanguageModel)
