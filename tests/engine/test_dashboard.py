"""The dashboard: shows what the log holds, to whoever has the token, and to nobody else."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `dashboard` is not installed")

from starlette.testclient import TestClient

from instar.engine import dashboard
from instar.engine.dashboard import create_app, serve
from instar.engine.dashboard.diagram import diagrams, transitions
from instar.engine.dashboard.follower import Follower
from instar.engine.dashboard.memory_map import MemoryMaps, project
from instar.engine.dashboard.memory_sample import Row as MemoryRow
from instar.engine.dashboard.memory_sample import Sample
from instar.engine.dashboard.rows import GROUPS
from instar.engine.dashboard.view import LogView
from instar.fsm import events as e
from instar.fsm.codec import TYPES, encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.errors import ConfigError, LogMissing, LogUnavailable
from instar.fsm.words import Seq, State, digest_of
from instar.store.log import EventLog, Pending
from instar.store.reader import LogReader, Row
from tests.engine.agents import PROJECT, code_only
from tests.engine.dashboard_log import BASE, HOSTILE, NEW, append, empty_log, feedback, sample_log, vectors

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


@pytest.mark.parametrize("seq", [0, 20, 2**62, 2**63 - 1, 2**63, 2**64, "9" * 5000, "%C2%B2", "x", "-1", "1.0"])
@pytest.mark.parametrize("path", ["/api/event/", "/fragments/event/"])
def test_position_that_no_event_has_is_not_found(client: TestClient, path: str, seq: int | str) -> None:
    assert client.get(f"{path}{seq}").status_code == 404


def test_workspace_without_a_model_says_so(client: TestClient, tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    runtime.log.append(feedback(1))
    runtime.close()
    with browsing(tmp_path / "agent") as other:
        page = other.get("/").text
        assert "no model: nothing is embedded, and nothing is trained" in page
        assert "no model: nothing is trained" in other.get("/fragments/training").text
    assert "come with the first cycle" not in page
    page = client.get("/").text
    assert "come with the first cycle" in page
    assert "no model" not in page


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


@pytest.mark.parametrize(("asked", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_server_ends_when_asked_though_a_stream_is_open(tmp_path: Path, asked: signal.Signals, code: int) -> None:
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
    with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        head = f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: instar_{port}={token}\r\n\r\n"
        stream.sendall(head.encode())
        assert b"200 OK" in stream.recv(4096)
        process.send_signal(asked)
        assert process.wait(60) == code
    process.stdout.close()


def test_old_pages_of_a_big_log_are_whole_and_gapless_with_and_without_a_filter(tmp_path: Path) -> None:
    log = empty_log(tmp_path)
    skipped = e.InputSkipped(source="watcher", subject="s", reason="r")
    log.transact(lambda _: [Pending(feedback(n) if n % 90 == 0 else skipped) for n in range(3000)])
    log.close()
    with browsing(tmp_path) as client:
        for choice, expected in (
            ("", list(range(3001, 0, -1))),
            ("FeedbackReceived", [2 + n for n in range(2970, -1, -90)]),
            ("workspace", [1]),
        ):
            found: list[int] = []
            before = 3002
            while page := client.get(f"/api/events?limit=200&before={before}&type={choice}").json()["events"]:
                found += [event["seq"] for event in page]
                before = found[-1]
            assert found == expected
        assert "before=2942" in client.get("/fragments/events?limit=60").text


def test_new_rows_come_after_a_position_newest_first(client: TestClient) -> None:
    seqs = re.findall(r'data-seq="(\d+)"', client.get("/fragments/events?after=16").text)
    assert seqs == ["19", "18", "17"]
    assert "data-seq" not in client.get("/fragments/events?after=19").text


def test_event_is_shown_with_what_led_to_it_and_what_came_of_it(client: TestClient) -> None:
    trained = client.get("/api/events?type=CheckpointTrained").json()["events"][0]["seq"]
    detail = client.get(f"/api/event/{trained}").json()
    chain = [link["type"] for link in detail["chain"]]
    assert chain[-3:] == ["RetrainFlagged", "DatasetGenerated", "CheckpointTrained"]
    assert detail["answers"][0]["type"] == "MemoryReembedded"


def test_rolled_back_memory_leaves_the_map_and_its_old_space_comes_back(tmp_path: Path) -> None:
    log = sample_log(tmp_path)
    items = (e.EmbeddedItem(seq=Seq(20), kind="feedback", unit="find", text="later", row=0, outcome="pass"),)
    log.append(feedback(1, "pass"))
    waits = log.state.waiting[0]
    append(log, e.CycleStarted(entry="signals", span=e.Span(waits.first, waits.last), count=waits.count))
    append(log, e.DiffComputed(items=()))
    append(log, e.SignalEmbedded(space=NEW, items=items, vectors=vectors(log, 1, 3), dim=8))
    with browsing(tmp_path) as client:
        now = client.get("/api/memory").json()
        assert (now["space"], now["live"], len(now["points"]), now["unplaced"]) == (NEW, 10, 10, 0)
        then = log.reader.state_at(14)
        assert (then.checkpoint, len(then.memory)) == (BASE, 1)
        back = e.RollbackStarted(
            target=Seq(14), plan=digest_of(b"p"), tree=digest_of(b"t"), checkpoint=BASE, memory=then.memory, reason="r"
        )
        log.append(back)
        again = client.get("/api/memory").json()
        assert (again["space"], again["live"], len(again["points"]), again["unplaced"]) == (BASE, 9, 9, 0)
        assert [point["text"] for point in again["points"]] == [feedback(n).input for n in range(9)]
    log.close()


def test_rows_whose_vectors_are_lost_are_counted_not_drawn(tmp_path: Path) -> None:
    log = empty_log(tmp_path)
    append(log, feedback(1))
    append(log, e.CycleStarted(entry="signals", span=e.Span(Seq(2), Seq(2)), count=1))
    append(log, e.DiffComputed(items=()))
    item = e.EmbeddedItem(seq=Seq(2), kind="failure", unit="find", text="t", row=0, outcome="fail")
    append(log, e.SignalEmbedded(space=BASE, items=(item,), vectors=digest_of(b"never stored"), dim=8))
    log.close()
    with browsing(tmp_path) as client:
        drawn = client.get("/api/memory").json()
        assert (drawn["live"], drawn["unplaced"], drawn["points"]) == (1, 1, [])


def test_map_holds_nothing_that_was_erased_since(tmp_path: Path) -> None:
    log = empty_log(tmp_path)
    embed_more(log, 5)
    maps = MemoryMaps(log.reader, log.blobs)
    assert maps.draw(log.state).live == 5
    (record,) = log.reader.read(types=[e.SignalEmbedded])
    assert isinstance(record.event, e.SignalEmbedded)
    remains = encode_event(remains_of(record.event, {record.event.items[0].seq})).decode()
    erasure = e.PayloadErased(target=record.seq, payload_hash=record.payload_hash, remains=remains, reason="asked for")
    log.transact(lambda _: [Pending(erasure, cause=record.seq)])
    drawn = maps.draw(log.state)
    assert drawn == MemoryMaps(log.reader, log.blobs).draw(log.state)
    assert len(drawn.points) == drawn.live == 4
    log.close()


def test_sample_that_was_cut_off_counts_no_row_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = sample_log(tmp_path)
    embed_more(log, 60)
    state, sample, take = log.state, Sample(log.reader, 100), Sample._take
    taken: list[int] = []

    def cut_off(self: Sample, seq: Seq, event: e.SignalEmbedded, head: int) -> None:
        taken.append(seq)
        if len(taken) == 2:
            raise LogUnavailable("away")
        take(self, seq, event, head)

    monkeypatch.setattr(Sample, "_take", cut_off)
    with pytest.raises(LogUnavailable):
        sample.draw(state.checkpoint, state.memory, state.head)
    drawn = sample.draw(state.checkpoint, state.memory, state.head)
    assert (len(drawn), sample.live, sample.placed) == (69, 69, 69)
    log.close()


def test_projection_finds_the_principal_axes_with_one_sign() -> None:
    made = np.random.default_rng(5)
    vectors = made.normal(size=(300, 12)) * np.array([9.0, 5.0, *[1.0] * 10])
    places, (first, second) = project(vectors)
    centred = vectors - vectors.mean(axis=0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(places), np.abs(centred @ axes[:2].T))
    assert np.allclose([first, second], scales[:2] ** 2 / (scales**2).sum())
    assert np.corrcoef(places[:, 0], vectors[:, 0])[0, 1] > 0.99
    assert np.allclose(project(vectors[::-1].copy())[0][::-1], places)
    assert project(np.zeros((4, 3)))[0].tolist() == [[0.0, 0.0]] * 4


def test_page_shows_the_task_types_that_are_low_and_the_busiest_of_thousands(tmp_path: Path) -> None:
    """The panel is sent to each page after each cycle: with a row for each type that there ever was, 7 MB."""
    log = sample_log(tmp_path)
    for half in (range(150), range(150, 300)):
        embed_more(log, 150, [f"ticket-{n}" for n in half])
    embed_more(log, 210, [f"busy-{n}" for n in range(105)] * 2)
    log.close()
    with browsing(tmp_path) as client:
        page = client.get("/fragments/rewards").text
        shown = re.findall(r'<td class="task">([\w-]+)', page)
        assert len(shown) == 200
        assert {f"busy-{n}" for n in range(105)} | {"find"} < set(shown)
        assert "206 more task types" in page
        assert len(client.get("/api/rewards").json()["task_types"]) == 406


def embed_more(log: EventLog, count: int, types: Sequence[str] = ("find",)) -> None:
    """One cycle with so many rows of memory in the active space."""
    first = log.transact(lambda _: [Pending(feedback(number, "pass")) for number in range(count)])[0].seq
    waits = log.state.waiting[0]
    append(log, e.CycleStarted(entry="signals", span=e.Span(waits.first, waits.last), count=waits.count))
    append(log, e.DiffComputed(items=()))
    items = tuple(
        e.EmbeddedItem(seq=Seq(first + n), kind="feedback", unit="find", text="later", row=n, outcome="pass")
        for n in range(count)
    )
    space = log.state.checkpoint or BASE
    append(log, e.SignalEmbedded(space=space, items=items, vectors=vectors(log, count, first), dim=8))
    rewards = tuple(e.Reward(item.seq, types[n % len(types)], 0.9, "pass") for n, item in enumerate(items))
    append(log, e.OutcomeRewarded(subject="outcomes", rewards=rewards, verdict="none", reason="r", model="b"))
    append(log, e.PlanChosen(steps=(), planner="b"))


class CountingReader(LogReader):
    """Counts the rows that are read."""

    count = 0

    def chunks(self, *arguments: Any, **named: Any) -> Iterator[list[Row]]:
        for chunk in super().chunks(*arguments, **named):
            self.count += len(chunk)
            yield chunk


def test_sample_of_memory_goes_on_as_the_log_grows_and_is_what_it_would_be_from_the_start(tmp_path: Path) -> None:
    """A page asks for the map after every cycle: it reads what is new, and holds no more than it draws."""
    log = sample_log(tmp_path)
    reader = CountingReader(log.path)
    growing = Sample(reader, 100)
    drawn: list[MemoryRow] = []
    for cycle in range(12):
        embed_more(log, 60)
        state, before = log.state, list(drawn)
        reader.count = 0
        drawn = growing.draw(state.checkpoint, state.memory, state.head)
        assert reader.count <= (1 if cycle else 3)
        fresh = Sample(log.reader, 100)
        assert drawn == fresh.draw(state.checkpoint, state.memory, state.head)
        assert (growing.live, growing.placed) == (fresh.live, fresh.placed) == (9 + 60 * (cycle + 1),) * 2
        assert len(drawn) == min(100, growing.live)
        assert len(growing._held) <= 100
        early = [row for row in drawn if row.embedded <= state.head - 65]
        assert not cycle or all(row in before for row in early)
    assert 20 < len([row for row in drawn if row.embedded < log.state.head // 2]) < 80
    then = log.reader.state_at(14)
    back = growing.draw(then.checkpoint, then.memory, then.head)
    assert [row.index for row in back] == list(range(9))
    assert growing.live == growing.placed == 9
    log.close()


def test_log_from_a_newer_version_is_shown_as_far_as_it_is_understood(tmp_path: Path) -> None:
    sample_log(tmp_path).close()
    with browsing(tmp_path) as client:
        assert client.get("/api/state").json()["problem"] is None
        path = tmp_path / ".instar" / "log.db"
        with sqlite3.connect(path) as writer:
            writer.execute(
                "INSERT INTO events SELECT 20, 'DreamRecorded', 1, recorded_at_us, cycle, NULL, actor, state_after, "
                "state_after, NULL, '{}', payload_hash, hash, hash, NULL FROM events WHERE seq = 19"
            )
        writer.close()
        state = client.get("/api/state").json()
        assert "past event 19" in state["problem"]
        assert (state["head"], state["machine"]) == (20, "Idle")
        assert "DreamRecorded" in client.get("/").text
        assert client.get("/fragments/event/20").status_code == 200


def test_stream_tells_a_client_of_each_event_once_and_ends_on_close(tmp_path: Path) -> None:
    log = sample_log(tmp_path)

    async def listen() -> list[tuple[str, str]]:
        view = LogView(tmp_path)
        follower = Follower(view)
        following = asyncio.create_task(follower.run())
        told: list[tuple[str, str]] = []
        async for message in follower.stream(17):
            told.append((message["event"], message["id"]))
            if told[-1] == ("events", "19"):
                await asyncio.to_thread(log.append, feedback(5))
            if told[-1] == ("events", "20"):
                assert '"first":20,"last":20,"types":["FeedbackReceived"]' in message["data"]
                await follower.close()
        await following
        assert follower.clients == 0
        view.close()
        return told

    told = asyncio.run(asyncio.wait_for(listen(), 20))
    assert [one for one in told if one[0] == "events"] == [("events", "19"), ("events", "20")]
    log.close()


def test_every_event_type_is_in_one_group() -> None:
    assert sorted(kind for kinds in GROUPS.values() for kind in kinds) == sorted(TYPES)


def test_diagram_draws_every_transition_inside_its_frame() -> None:
    assert (State.EMBEDDING, State.FLAGGED) in transitions()
    for diagram in diagrams():
        assert {node.name for node in diagram.nodes} == set(State)
        assert {(edge.source, edge.target) for edge in diagram.edges} == set(transitions())
        for edge in diagram.edges:
            x1, y1, cx, cy, x2, y2 = (float(number) for number in re.findall(r"-?[\d.]+", edge.path))
            for x, y in ((x1, y1), ((x1 + 2 * cx + x2) / 4, (y1 + 2 * cy + y2) / 4), (x2, y2)):
                assert 0 <= x <= diagram.width, edge
                assert 0 <= y <= diagram.height, edge


def test_absent_packages_are_named_with_the_way_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "_PACKAGES", ("starlette", "no_such_package"))
    with pytest.raises(ConfigError, match=r"no_such_package: run `pip install 'instar\[dashboard\]'`"):
        serve(tmp_path, announce=lambda _: None)


def test_every_file_of_the_page_is_packaged() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    patterns = ["*.py", *settings["tool"]["setuptools"]["package-data"]["*"]]
    files = [path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 20
    assert [path.name for path in files if not any(fnmatch(path.name, pattern) for pattern in patterns)] == []
