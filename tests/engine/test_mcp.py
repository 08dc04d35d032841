"""``instar mcp`` as a client meets it: a real client of the protocol, a real server, a real workspace."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

pytest.importorskip("mcp", reason="the extra instar[mcp] is not installed")

from mcp import Client, MCPError, StdioServerParameters
from mcp_types import CallToolResult, TextContent, TextResourceContents, Tool, ToolAnnotations

from instar.engine.mcp.bounds import as_text, fit
from instar.engine.mcp.calling import TOOLS
from instar.engine.mcp.changing import CHANGING
from instar.engine.mcp.reading import READING
from instar.engine.mcp.tool import name_of
from tests.engine.agents import PROJECT, agent_folder, code_only, contents, instar
from tests.engine.test_kernel import GOOD

READS = ["status", "log", "show", "diff", "why", "taint", "search", "answer", "lineage", "dataset", "verify", "replay"]
CHANGES = ["feedback", "train", "mutate", "snapshot", "rollback", "undo"]
ENVIRON = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
SERVER = ["-m", "instar.engine.cli.main", "mcp"]

Talk = Callable[[Client], Awaitable[None]]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = agent_folder(tmp_path_factory.mktemp("agent"))
    assert instar("init", "--no-model", cwd=folder).returncode == 0
    (folder / "heuristics.py").write_text("def score(a, b):\n    return a - b\n")
    assert instar("run", "--once", cwd=folder).returncode == 0
    return folder


def server_of(folder: Path, *options: str) -> StdioServerParameters:
    return StdioServerParameters(command=sys.executable, args=[*SERVER, str(folder), *options], env=ENVIRON)


def talk(folder: Path, what: Talk, *options: str) -> None:
    """Lets a client talk to a server of its own."""

    async def whole() -> None:
        with anyio.fail_after(200):
            async with Client(server_of(folder, *options)) as client:
                await what(client)

    anyio.run(whole)


@pytest.fixture(scope="module")
def reads(agent: Path) -> Iterator[Callable[[Talk], None]]:
    """Lets the client of one server that only reads talk to it; whatever it was told before, it goes on."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(server_of(agent))) as client,
    ):
        yield lambda what: portal.call(what, client)


def text_of(result: CallToolResult) -> str:
    content = result.content[0]
    assert isinstance(content, TextContent)
    return content.text


def hints(tool: Tool) -> ToolAnnotations:
    assert tool.annotations is not None
    return tool.annotations


def data(result: CallToolResult) -> Any:
    """What a tool gave; its text says the same as its structure."""
    assert not result.is_error, text_of(result)
    assert json.loads(text_of(result)) == result.structured_content
    assert result.structured_content["ok"] is True
    return result.structured_content["data"]


def refused(result: CallToolResult, exit_code: int) -> str:
    """Why a tool refused; never by a traceback."""
    assert result.is_error
    error, text = result.structured_content["error"], text_of(result)
    assert error["exit_code"] == exit_code, text
    assert text.startswith(error["message"])
    assert f"(exit code {exit_code}: " in text
    assert "Traceback" not in text
    return text


def test_tools_are_listed_with_true_hints_and_described_arguments(agent: Path, reads: Callable[[Talk], None]) -> None:
    async def listed(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == READS
        assert all(hints(tool).read_only_hint and not hints(tool).destructive_hint for tool in tools)
        assert "This server only reads" in (client.instructions or "")
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == ["instar://event/{seq}", "instar://blob/{digest}"]

    async def changes(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == [*READS, *CHANGES]
        assert [name for name, tool in tools.items() if not hints(tool).read_only_hint] == CHANGES
        destroying = [name for name, tool in tools.items() if hints(tool).destructive_hint]
        assert destroying == ["train", "mutate", "rollback", "undo"]
        assert not any(hints(tools[name]).idempotent_hint for name in CHANGES)
        assert [name for name, tool in tools.items() if hints(tool).open_world_hint] == ["mutate"]
        for tool in tools.values():
            assert tool.description
            assert tool.input_schema["additionalProperties"] is False
            assert all("description" in one for one in tool.input_schema["properties"].values()), tool.name

    reads(listed)
    talk(agent, changes, "--allow-changes")


def test_reading_tools_give_what_the_command_line_gives_and_record_nothing(
    agent: Path, reads: Callable[[Talk], None]
) -> None:
    def printed(*arguments: str) -> Any:
        return json.loads(instar(*arguments, "--json", cwd=agent).stdout)["data"]

    expected: dict[str, tuple[Any, dict[str, Any]]] = {
        "log": (printed("log", "-c", "3"), {"count": 3}),
        "show": (printed("show", "2"), {"reference": 2}),
        "why": (printed("why", "latest"), {"reference": "latest"}),
        "taint": (printed("taint", "2"), {"reference": "2"}),
        "lineage": (printed("lineage"), {}),
        "dataset": (printed("dataset"), {}),
        "verify": (printed("verify"), {}),
        "diff": (printed("diff", "1", "latest"), {"a": 1, "b": "latest"}),
    }
    head = printed("status")["head"]

    async def what(client: Client) -> None:
        for name, (wanted, arguments) in expected.items():
            assert data(await client.call_tool(name, arguments)) == wanted, name
        assert data(await client.call_tool("replay"))["level"] == "decisions"
        policy = data(await client.call_tool("replay", {"what_if": ["drift.threshold=0.6"]}))["policy"]
        assert policy == {"drift.threshold": [0.7, 0.6]}
        versions = data(await client.call_tool("log", {"path": "heuristics.py"}))
        assert [one["change"] for one in versions] == ["initial", "modified"]
        to_folder = await client.call_tool("diff", {"a": 1, "paths": ["heuristics.py"], "patch": True})
        assert "-    return a + b" not in data(to_folder)["diff"]
        assert "+    return a - b" in to_folder.structured_content["patch"]
        for name in ("search", "answer"):
            assert "has no model" in refused(await client.call_tool(name, {"text": "adding"}), 2)
        assert data(await client.call_tool("status"))["head"] == head

        shown = (await client.read_resource("instar://event/2")).contents[0]
        assert isinstance(shown, TextResourceContents)
        assert json.loads(shown.text) == expected["show"][0]
        after = expected["show"][0]["event"]["after"]
        blob = (await client.read_resource(f"instar://blob/{after}")).contents[0]
        assert isinstance(blob, TextResourceContents)
        assert blob.text == (agent / "heuristics.py").read_text()

    reads(what)


def test_log_is_paged_back_and_on_by_its_cursor(reads: Callable[[Talk], None]) -> None:
    async def what(client: Client) -> None:
        head = data(await client.call_tool("status"))["head"]
        seen: list[int] = []
        page = await client.call_tool("log", {"count": 4})
        while rows := data(page):
            seen = [row["seq"] for row in rows] + seen
            if seen[0] == 1:
                break
            page = await client.call_tool("log", {"count": 4, "before": page.structured_content["next"]["before"]})
        assert seen == list(range(1, head + 1))
        page = await client.call_tool("log", {"count": 3, "after": 0})
        assert [row["seq"] for row in data(page)] == [1, 2, 3]
        assert data(await client.call_tool("log", {"after": head})) == []
        typed = await client.call_tool("log", {"type": ["ChangeObserved"], "after": 0})
        assert {row["type"] for row in data(typed)} == {"ChangeObserved"}

    reads(what)


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("show", {"reference": "nonsense"}, "is no reference"),
    ("show", {"reference": 10**17}, "is no position"),
    ("show", {"reference": "9" * 900}, "digits"),
    ("show", {"reference": 10**18}, "<= 999999999999999999"),
    ("show", {"reference": "x" * 5000}, "length"),
    ("show", {"reference": "\0"}, "is no reference"),
    ("show", {"reference": "--json"}, "is no reference"),
    ("show", {}, "missing required field `reference`"),
    ("log", {"count": -1}, ">= 1"),
    ("log", {"count": 201}, "<= 200"),
    ("log", {"cuont": 1}, "unknown field `cuont`"),
    ("log", {"before": 2, "after": 1}, "give one of them"),
    ("log", {"type": ["Nope"]}, "there is no event type"),
    ("log", {"path": "/etc/passwd"}, "does not lie in"),
    ("log", {"path": "notes.txt", "after": 1}, "leave out the path"),
    ("diff", {"a": 1, "paths": ["../../etc/passwd"]}, "does not lie in"),
    ("diff", {"a": 1, "b": "notes.txt"}, "go into paths"),
    ("diff", {"a": 1, "paths": ["latest"]}, "goes into b"),
    ("replay", {"what_if": ["x"]}, "is no KEY=VALUE"),
    ("replay", {"level": "effects"}, "Invalid enum value"),
    ("dataset", {"what": "show", "row": 9}, "there is no row 9"),
    ("rollback", {"reference": 1, "confirm": True}, "only reads: start it by --allow-changes"),
    ("erase", {"reference": 1}, "there is no tool 'erase'"),
]


def test_hostile_calls_are_refused_in_words_and_the_server_goes_on(agent: Path, reads: Callable[[Talk], None]) -> None:
    async def what(client: Client) -> None:
        before = contents(agent)
        for name, arguments, reason in HOSTILE:
            assert reason in refused(await client.call_tool(name, arguments), 2), (name, arguments)
        for uri in (
            "instar://event/999",
            "instar://event/" + "9" * 5000,
            "file:///etc/passwd",
            f"instar://blob/{'0' * 64}",
        ):
            with pytest.raises(MCPError):
                await client.read_resource(uri)
        assert data(await client.call_tool("status"))["state"] == "Idle"
        assert contents(agent) == before

    reads(what)


def test_changing_tools_record_as_mcp_and_a_rollback_is_a_plan_until_confirmed(tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    code_only(folder).close()
    first = contents(folder)
    (folder / "notes.txt").write_text("second line\n")
    second = contents(folder)

    async def what(client: Client) -> None:
        given = {"task_type": "lookup", "input": "open", "reference": "open", "outcome": "fail", "confidence": 0.4}
        recorded = data(await client.call_tool("feedback", given))
        event = data(await client.call_tool("show", {"reference": recorded["seq"]}))
        assert (event["actor"], event["event"]["source"]) == ("mcp", "mcp")
        assert "confidence" in refused(await client.call_tool("feedback", {**given, "confidence": 2}), 2)

        assert data(await client.call_tool("snapshot", {"name": "here"}))["name"] == "here"
        refused(await client.call_tool("snapshot", {"name": "../there"}), 2)

        plan = data(await client.call_tool("rollback", {"reference": 1}))
        assert plan["dry_run"] is True
        assert plan["steps"] == [{"path": "notes.txt", "action": "change"}]
        assert contents(folder) == second
        stale = await client.call_tool("rollback", {"reference": 1, "plan": "0" * 64, "confirm": True})
        assert "the plan would be another now" in refused(stale, 4)
        assert contents(folder) == second
        done = data(await client.call_tool("rollback", {"reference": 1, "plan": plan["digest"], "confirm": True}))
        assert contents(folder) == first
        started = data(await client.call_tool("show", {"reference": done["started"]}))
        assert started["event"]["reason"] == "asked for by mcp"

        assert data(await client.call_tool("undo"))["dry_run"] is True
        assert contents(folder) == first
        data(await client.call_tool("undo", {"confirm": True}))
        assert contents(folder) == second

        refused(await client.call_tool("mutate", {"patch": "no patch"}), 2)
        failed = await client.call_tool("mutate", {"patch": GOOD, "gate": "false"})
        assert "rejected" in refused(failed, 5)
        assert data(await client.call_tool("train", {"queue": True}))["ran"] is False
        trained = await client.call_tool("train", {"note": "again"})
        assert data(trained)["verdict"] == "not trained"

    talk(folder, what, "--allow-changes")
    assert instar("verify", cwd=folder).returncode == 0


def _line(method: str, number: int | None = None, **params: Any) -> bytes:
    numbered = {} if number is None else {"id": number}
    return json.dumps({"jsonrpc": "2.0", **numbered, "method": method, "params": params}).encode() + b"\n"


HELLO = _line(
    "initialize", 0, protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "test", "version": "1"}
) + _line("notifications/initialized")


def serve(folder: Path, *, code: str = "") -> subprocess.Popen[bytes]:
    command = ["-c", code, "mcp", str(folder)] if code else [*SERVER, str(folder)]
    return subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRON
    )


def test_standard_output_holds_the_protocol_alone_and_what_cannot_be_read_is_answered(agent: Path) -> None:
    unread = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"log","arguments":{"count":%s}}}\n'
    lines = [
        HELLO,
        unread % (1, b"1" * 5000),
        unread % (2, b'"\\ud800"'),
        b"garbage\n\n\xff\xfe\n[]\n" + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"\n",
        _line("tools/call", 3, name="status", arguments={}),
    ]
    with serve(agent) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(b"".join(lines))
        server.stdin.flush()
        answers = [json.loads(server.stdout.readline()) for _ in range(8)]
        rest, told = server.communicate(timeout=60)
    assert server.returncode == 0
    assert rest == b""
    assert b"Traceback" not in told
    assert [answer["id"] for answer in answers if "error" in answer] == [1, 2, None, None, None, None]
    assert {answer["error"]["code"] for answer in answers if "error" in answer} == {-32700}
    assert [answer["id"] for answer in answers if "result" in answer] == [0, 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_at_once_and_cleanly(agent: Path, number: signal.Signals) -> None:
    with serve(agent) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(HELLO)
        server.stdin.flush()
        assert server.stdout.readline()
        server.send_signal(number)
        assert server.wait(60) == 0
        assert server.stdout.read() == b""
        assert server.stderr is not None
        assert b"Traceback" not in server.stderr.read()


def test_no_model_library_is_loaded_by_serving(agent: Path) -> None:
    code = (
        "import sys\n"
        "from instar.engine.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "print(sorted({'torch', 'sentence_transformers', 'transformers'} & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    with serve(agent, code=code) as server:
        _, told = server.communicate(HELLO, timeout=60)
    assert server.returncode == 0
    assert told.decode().splitlines()[-1] == "[]"


def test_who_names_no_workspace_or_two_is_told_so(tmp_path: Path, agent: Path) -> None:
    nowhere = instar("mcp", str(tmp_path), cwd=tmp_path)
    assert (nowhere.returncode, nowhere.stdout) == (1, b"")
    assert b"instar init" in nowhere.stderr
    twice = instar("mcp", str(agent), "-C", str(agent), cwd=tmp_path)
    assert (twice.returncode, twice.stdout) == (2, b"")


def test_missing_package_is_told_with_what_to_install(agent: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['mcp'] = None\n"
        "from importlib import util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'mcp' else found(name, *more)\n"
        "from instar.engine.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with serve(agent, code=code) as server:
        given, told = server.communicate(timeout=60)
    assert (server.returncode, given) == (2, b"")
    assert b"pip install 'instar[mcp]'" in told


def test_result_that_is_too_long_is_cut_and_says_where() -> None:
    whole = {"schema_version": 1, "ok": True, "verb": "log", "data": {"rows": [{"text": "é" * 900}] * 500, "n": 1}}
    cut = fit(whole, 20_000)
    assert len(as_text(cut)) <= 20_000
    assert cut["data"]["n"] == 1
    assert cut["cut"][0] == {"at": "data.rows", "kept": len(cut["data"]["rows"]), "of": 500, "unit": "entries"}
    assert fit(whole, 10**9) == whole
    many = fit({"ok": True, "verb": "x", "data": {str(number): "y" * 40 for number in range(9000)}}, 5000)
    assert many["cut"][0]["of"] == 9000
    assert fit({"ok": True, "data": {"a\udcff": ["\ud800"]}})["data"] == {"a\\udcff": ["\\ud800"]}


def test_page_names_every_tool_with_its_hints() -> None:
    page = (PROJECT / "docs" / "mcp.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.M))
    assert list(rows) == [name_of(kind) for kind in (*READING, *CHANGING)] == list(TOOLS)
    for kind in TOOLS.values():
        told = "reads" if not kind.changes else "changes, may replace" if kind.destroys else "records"
        assert rows[name_of(kind)] == told
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name_of(kind)}` |"))
        assert re.findall(r"`(\w+)`", row.split("|")[3]) == list(kind.__struct_fields__)
