"""The dashboard: shows what the log holds, to whoever has the token, and to nobody else."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra `dashboard` is not installed")

from starlette.testclient import TestClient

from instar.engine.dashboard import create_app, serve
from instar.fsm.errors import ConfigError, LogMissing
from instar.fsm.words import State
from tests.engine.agents import PROJECT
from tests.engine.dashboard_log import HOSTILE, NEW, append, empty_log, feedback, sample_log

TOKEN, PORT = "secret-token", 8123
FOLDER = PROJECT / "engine" / "dashboard"


def browsing(root: Path, *, token: str | None = TOKEN) -> TestClient:
    client = TestClient(create_app(root, TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False)
    if token:
        client.cookies.set(f"instar_{PORT}", token)
    return client


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    sample_log(tmp_path).close()
    with browsing(tmp_path) as client:
        yield client


def test_token_is_exchanged_for_a_cookie_and_leaves_the_address(tmp_path: Path) -> None:
    sample_log(tmp_path).close()
    with browsing(tmp_path, token=None) as client:
        assert client.get("/").status_code == 401
        assert client.get("/api/state").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        answer = client.get(f"/?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example:8123", "127.0.0.1:9999", "127.0.0.1", "localhost.evil:8123", ""])
def test_other_host_names_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}"])
def test_own_host_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/api/state", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(client: TestClient, method: str) -> None:
    assert client.request(method, "/api/state").status_code == 405


@pytest.mark.parametrize("path", ["/", "/api/state", "/static/dashboard.css", "/nowhere"])
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_page_shows_the_eight_states_and_lights_the_current_one(client: TestClient) -> None:
    page = client.get("/").text
    for state in State:
        assert f">{state}<" in page
    assert "the machine is in Idle" in page


def test_log_content_never_becomes_markup(client: TestClient) -> None:
    for path in ("/", "/fragments/events", "/fragments/event/2"):
        text = client.get(path).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
    assert "&lt;script&gt;alert" in client.get("/fragments/event/2").text


def test_endpoints_tell_what_the_log_holds(client: TestClient) -> None:
    state = client.get("/api/state").json()
    assert (state["machine"], state["head"], state["checkpoint"]) == ("Idle", 19, NEW)
    events = client.get("/api/events?limit=5").json()["events"]
    assert [event["seq"] for event in events] == [19, 18, 17, 16, 15]
    older = client.get("/api/events?limit=5&before=15").json()["events"]
    assert [event["seq"] for event in older] == [14, 13, 12, 11, 10]
    one = client.get("/api/events?type=CheckpointTrained").json()["events"]
    assert [event["type"] for event in one] == ["CheckpointTrained"]
    detail = client.get("/api/event/2").json()
    assert detail["payload"]["input"] == HOSTILE
    training = client.get("/api/training").json()
    assert training["active"] == NEW
    assert training["runs"][0]["loss"] == [2.0, 1.5, 1.2, 1.0]
    rewards = client.get("/api/rewards").json()
    assert rewards["task_types"][0]["standing"]["task_type"] == "find"
    assert rewards["plan"][0]["strategy"] == "retrain"


def test_memory_is_drawn_in_the_active_space_and_the_same_each_time(client: TestClient) -> None:
    first = client.get("/api/memory").json()
    assert first == client.get("/api/memory").json()
    assert len(first["points"]) == 9


@pytest.mark.parametrize("path", ["/api/event/999", "/api/event/0", "/static/../app.py", "/api/nothing"])
def test_what_is_not_there_is_404(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("query", ["before=x", "limit=-1", "limit=99999999999999999999", "type=Nope"])
def test_bad_questions_are_answered_calmly(client: TestClient, query: str) -> None:
    assert client.get(f"/api/events?{query}").status_code in (200, 400)


def test_empty_and_growing_logs_are_shown(tmp_path: Path) -> None:
    log = empty_log(tmp_path)
    with browsing(tmp_path) as client:
        assert client.get("/").status_code == 200
        assert client.get("/api/memory").json()["points"] == []
        append(log, feedback(1))
        assert client.get("/api/state").json()["head"] == 2
    log.close()


def test_absent_log_and_empty_token_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogMissing):
        create_app(tmp_path, TOKEN, PORT)
    sample_log(tmp_path).close()
    with pytest.raises(ConfigError, match="token"):
        create_app(tmp_path, "", PORT)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_only_loopback_is_served(tmp_path: Path, host: str) -> None:
    sample_log(tmp_path).close()
    with pytest.raises(ConfigError, match="loopback"):
        serve(tmp_path, host=host, announce=lambda _: None)


def test_taken_port_says_so(tmp_path: Path) -> None:
    sample_log(tmp_path).close()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot be opened"):
        serve(tmp_path, port=taken.getsockname()[1], announce=lambda _: None)


def test_vendored_files_are_the_ones_that_were_checked() -> None:
    vendor = FOLDER / "static" / "vendor"
    listed = dict(line.split()[::-1] for line in (vendor / "CHECKSUMS.txt").read_text().splitlines() if line)
    present = {path.name for path in vendor.iterdir()} - {"CHECKSUMS.txt"}
    assert present == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name
    assert all(re.search(r"-\d+\.\d+\.\d+\.min\.js$", name) for name in present if name.endswith(".js"))
    assert any(name.startswith("LICENSE.htmx") for name in present)
    assert any(name.startswith("LICENSE.echarts") for name in present)


def test_own_files_name_no_other_host_and_no_inline_script() -> None:
    own = [*FOLDER.glob("templates/*.html"), *FOLDER.glob("static/*.js"), *FOLDER.glob("static/*.css")]
    assert own
    for path in own:
        text = path.read_text()
        assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org)[a-z0-9-]+\.[a-z]{2,}", text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|\son[a-z]+=[\"']|<style", text), path


def test_server_ends_at_once_when_asked(tmp_path: Path) -> None:
    sample_log(tmp_path).close()
    script = (
        "import sys; from pathlib import Path; from instar.engine.dashboard import serve;"
        "serve(Path(sys.argv[1]), announce=lambda url: print(url, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", url)
    port, token = int(url.split(":")[2].split("/")[0]), url.split("=")[1]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        head = f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: instar_{port}={token}\r\n\r\n"
        stream.sendall(head.encode())
        assert b"200 OK" in stream.recv(4096)
        started = time.monotonic()
        process.terminate()
        process.wait(10)
        assert time.monotonic() - started < 8
    process.stdout.close()
