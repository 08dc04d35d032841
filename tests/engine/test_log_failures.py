from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.engine.dataset import log_failures, log_templates
from instar.engine.dataset.log_failures import LogFailure, failures_in, read_failures
from instar.engine.dataset.log_lines import template_of
from instar.fsm.events import InputSkipped

REAL_LOGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "logs"


def found(text: str) -> list[LogFailure]:
    skipped: list[InputSkipped] = []
    failures = list(failures_in(text.encode(), "x.log", skipped))
    assert not skipped
    return failures


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2025-05-18 13:11:00,123 ERROR scraper: no route to host", "scraper: no route to host"),
        ("[2025-05-18T13:11:00Z] [CRITICAL] disk gone", "disk gone"),
        ("ERROR:root:disk gone", "root:disk gone"),
        ("[Sun Dec 04 04:47:44 2005] [error] child in state 6", "child in state 6"),
        ("time=12 level=fatal msg=gone", "msg=gone"),
        ("May 18 13:11:00 host app[12]: task failed: timeout", "host app[12]: task failed: timeout"),
        ("could not open the file", "could not open the file"),
        ("WARNING upload failed, giving up", "upload failed, giving up"),
        ("--- FAIL: TestCloud (0.00s)", "FAIL: TestCloud (0.00s)"),
        ("\x1b[31mERROR\x1b[0m wrong colour", "wrong colour"),
        ("3 passed, 2 failed", "3 passed, 2 failed"),
    ],
)
def test_failure_line_is_found_without_time_and_level(line: str, message: str) -> None:
    (failure,) = found(f"all is well\n{line}\nall is well\n")
    assert failure.message == message
    assert (failure.line, failure.count, failure.reference) == (2, 1, None)


@pytest.mark.parametrize(
    "line",
    [
        "10 passed, 0 failed",
        "finished without errors",
        "no errors found",
        "Failures: 0, Errors: 0",
        "Number of errors in tests: 0",
        "2025-05-18 13:11:00 INFO retry if the upload failed",
        "INFO parity error corrected",
        "DEBUG exception handler installed",
        "reading /var/log/error.log",
        "--fail-fast is set",
        "failed_jobs table created",
        "ERROR",
        "[ERROR] ------",
        '{"level": "info", "message": "task failed before, fine now"}',
        "",
    ],
)
def test_line_without_a_failure_is_passed_over(line: str) -> None:
    assert found(f"{line}\n") == []


TRACEBACK = """2025-05-18 13:11:00 ERROR job 17 broke
Traceback (most recent call last):
  File "/srv/app/run.py", line 3, in <module>
    main()
ValueError: bad value 42

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/app/run.py", line 9, in <module>
    raise RuntimeError("gave up") from None
RuntimeError: gave up after 3 tries
2025-05-18 13:11:01 INFO next
"""


def test_chained_traceback_is_one_failure_with_its_last_exception() -> None:
    (failure,) = found(TRACEBACK)
    assert failure.message == "job 17 broke: RuntimeError: gave up after 3 tries"
    assert failure.level == "ERROR"
    (bare,) = found(TRACEBACK.partition("\n")[2])
    assert bare.message == "RuntimeError: gave up after 3 tries"
    assert bare.level == "TRACEBACK"


def test_one_fault_with_other_numbers_is_one_row_with_a_count(tmp_path: Path) -> None:
    (tmp_path / "system").mkdir()
    lines = [f"2025-05-18 13:11:{n:02} ERROR timeout after {n} s at /srv/{n}/a.py:{n} id 0x{n:x}f" for n in range(40)]
    (tmp_path / "system" / "app.log").write_text("\n".join(lines))
    failures, skipped = read_failures(tmp_path)
    assert [(failure.template, failure.count) for failure in failures] == [
        ("timeout after <num> s at <path> id <hex>", 40)
    ]
    assert failures[0].message == "timeout after 0 s at /srv/0/a.py:0 id 0x0f"
    assert (failures[0].path, failures[0].line) == ("system/app.log", 1)
    assert skipped == []


def test_one_fault_with_other_names_is_one_row_from_its_first_place_to_its_last(tmp_path: Path) -> None:
    (tmp_path / "system").mkdir()
    for number, names in enumerate((("anna", "boris"), ("chandra", "dimitri"))):
        lines = [f"ERROR the user {name} could not log in to the billing service" for name in names]
        (tmp_path / "system" / f"{number}.log").write_text(
            "\n".join(["INFO fine", *lines, "ERROR disk full on node 3"])
        )
    (tmp_path / "system" / "2.log").write_text("ERROR disk lost on node 3\n")
    failures, _ = read_failures(tmp_path)
    assert [(one.template, one.count) for one in failures] == [
        ("the user <*> could not log in to the billing service", 4),
        ("disk full on node <num>", 2),
        ("disk lost on node <num>", 1),
    ]
    first = failures[0]
    assert (first.path, first.line, first.last_path, first.last_line) == ("system/0.log", 2, "system/1.log", 3)
    assert read_failures(tmp_path)[0] == failures


def test_so_many_templates_that_they_are_compared_no_more_are_still_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_templates, "TEMPLATES_MAX", 2)
    (tmp_path / "system").mkdir()
    told = ["one is gone", "two of it broke down", "three", "four 1", "four 2", "one is gone"]
    (tmp_path / "system" / "a.log").write_text("".join(f"ERROR {text}\n" for text in told))
    failures, _ = read_failures(tmp_path)
    assert [(one.template, one.count) for one in failures] == [
        ("one is gone", 2),
        ("two of it broke down", 1),
        ("three", 1),
        ("four <num>", 2),
    ]


def test_logs_are_read_up_to_a_number_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_failures, "TOTAL_BYTES_MAX", 40)
    (tmp_path / "system").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "system" / f"{name}.log").write_text(f"ERROR early {name}\nERROR late {name} is gone\n")
    failures, skipped = read_failures(tmp_path)
    assert [one.message for one in failures] == ["early a", "late a is gone"]
    assert [Path(item.subject).name for item in skipped] == ["b.log", "c.log"]


NUMBERS = st.lists(st.integers(0, 10**9), min_size=4, max_size=4)


@given(NUMBERS, NUMBERS)
def test_template_does_not_depend_on_numbers_times_and_places(first: list[int], second: list[int]) -> None:
    def message(numbers: list[int]) -> str:
        a, b, c, d = numbers
        return (
            f"2025-0{a % 9 + 1}-{b % 20 + 10} 13:{c % 60:02}:{d % 60:02} worker-{a} lost {b} rows in {c}.{d}s "
            f"({d % 100}%) from 10.0.{a % 256}.{b % 256}:{c % 65536} at /srv/run{a}/x_{b}.py:{c} "
            f"id 0x{a:x} job {a:08x}-{b % 65536:04x}-{c % 65536:04x}-{d % 65536:04x}-{a:012x}"
        )

    assert template_of(message(first)) == template_of(message(second))
    assert not any(sign.isdigit() for sign in template_of(message(first)))


def test_template_keeps_what_tells_two_faults_apart() -> None:
    assert template_of("disk full on node 3") != template_of("disk lost on node 3")
    assert template_of("KeyError: 'a'") != template_of("KeyError: 'b'")


def test_json_line_carries_its_known_good_output(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    rows = [
        {"level": "ERROR", "message": "scrape failed", "input": "get page 1", "expected": "use https"},
        {"level": "error", "msg": "scrape failed", "input": "get page 2", "reference": "use https"},
        {"severity": "FATAL", "event": "no reference here"},
        {"outcome": "fail", "message": "answered wrongly", "correction": "password=hunter2 is wrong"},
        {"level": "INFO", "message": "error rate 0"},
    ]
    (tmp_path / "modules" / "a.log").write_text("\n".join(map(json.dumps, rows)))
    failures, _ = read_failures(tmp_path)
    assert [(one.input, one.reference) for one in failures] == [
        ("get page 1", "use https"),
        ("get page 2", "use https"),
        (None, None),
        (None, "password=[redacted:password] is wrong"),
    ]


def test_secrets_do_not_leave_the_log() -> None:
    (failure,) = found("ERROR login failed: token=abc123def456")
    assert "abc123" not in failure.message + failure.template


def test_own_audit_log_other_names_and_other_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("system/bootstrap.log", "system/own.log", "system/a.txt", "elsewhere/a.log", "services/a.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("ERROR gone\n")
    failures, skipped = read_failures(tmp_path, leave_out=[tmp_path / "system" / "own.log"])
    assert [failure.path for failure in failures] == ["services/a.log"]
    assert skipped == []
    failures, _ = read_failures(tmp_path, folders=("elsewhere",))
    assert [failure.path for failure in failures] == ["elsewhere/a.log"]


def test_no_folder_of_logs_is_no_failure(tmp_path: Path) -> None:
    assert read_failures(tmp_path / "absent") == ([], [])


def test_what_cannot_be_read_is_reported_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "services"
    folder.mkdir()
    (folder / "a.log").write_bytes(b"ERROR before\n\xff\xfe is no text: ERROR\nERROR after\n")
    (folder / "b.log").write_bytes(b"\0\1ERROR gone\n" * 20)
    (folder / "c.log").symlink_to(folder / "a.log")
    (folder / "d.log").mkdir()
    os.mkfifo(folder / "e.log")
    (folder / "f.log").write_bytes(b"ERROR first\n" + b"all is well\n" * 40 + b"ERROR last one\n")
    (folder / "g.log").write_bytes(b"ERROR " + b"x" * 70_000)
    monkeypatch.setattr(log_failures, "BYTES_MAX", 80_000)
    (folder / "f.log").write_bytes(b"ERROR first\n" + b"all is well\n" * 10_000 + b"ERROR last one\n")
    failures, skipped = read_failures(tmp_path)
    assert [failure.message for failure in failures] == ["before", "after", "last one"]
    reasons = {Path(item.subject).name: item.reason for item in skipped}
    assert set(reasons) == {"a.log", "b.log", "c.log", "d.log", "e.log", "f.log", "g.log"}
    assert all(not Path(item.subject).is_absolute() for item in skipped)
    assert "1 lines are not UTF-8" in reasons["a.log"]
    assert "binary" in reasons["b.log"]
    assert "link" in reasons["c.log"]
    assert "regular" in reasons["e.log"]
    assert "only the last 80000" in reasons["f.log"]
    assert all(item.source == "logs" for item in skipped)


def test_too_many_different_failures_are_capped_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_failures, "FAILURES_MAX", 2)
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "a.log").write_text("ERROR one\nERROR two\nERROR three\nERROR four\nERROR two\n")
    failures, skipped = read_failures(tmp_path)
    assert [(failure.message, failure.count) for failure in failures] == [("one", 1), ("two", 2)]
    assert len(skipped) == 1


def test_log_that_was_cut_down_under_its_writer_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    (folder / "a.log").write_bytes(b"\0" * 100_000 + b"ERROR after the cut\nERROR with a \0 in it\nERROR at the end\n")
    failures, skipped = read_failures(tmp_path)
    assert [failure.message for failure in failures] == ["after the cut", "at the end"]
    assert [(item.subject, item.reason.partition(",")[0]) for item in skipped] == [
        ("system/a.log", "1 lines are not UTF-8")
    ]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(content: bytes) -> None:
    assert all(failure.count == 1 for failure in failures_in(content, "x", []))


def test_line_of_escapes_without_an_end_is_read_once() -> None:
    hostile = "error " + "\x1b]" * 30_000 + "\n"
    started = time.process_time()
    found(hostile * 20)
    assert time.process_time() - started < 5.0  # each start of an escape looked through all of the line: 20 s
    (failure,) = found("error \x1b]8;;https://x.invalid\x1b\\job\x1b]8;;\x07 failed\n")
    assert failure.message == "job failed"


def test_marked_errors_of_real_build_logs_are_found() -> None:
    index = REAL_LOGS / "ci_pass_fail" / "index.jsonl"
    if not index.exists():
        pytest.skip(f"the real logs are not here: {index}")
    cases = spans = hit_cases = hit_spans = right = total = 0
    for case in map(json.loads, index.read_text().splitlines()):
        content = (index.parent / case["case"] / "fail.log").read_bytes()
        lines = [failure.line for failure in failures_in(content, "fail.log", [])]
        # A failure reported a few lines early (its heading) or late (its summary) leads to the same place.
        hits = [any(low - 3 <= line <= high + 3 for line in lines) for low, high in case["error_spans"]]
        cases, hit_cases = cases + 1, hit_cases + any(hits)
        spans, hit_spans = spans + len(hits), hit_spans + sum(hits)
        total += len(lines)
        right += sum(any(low - 3 <= line <= high + 3 for low, high in case["error_spans"]) for line in lines)
    assert cases == 44
    assert hit_cases >= 43
    assert hit_spans / spans > 0.9
    assert right / total > 0.75


def test_every_alert_of_a_real_supercomputer_log_is_found_and_templates_do_not_mix_faults() -> None:
    if not REAL_LOGS.exists():
        pytest.skip(f"the real logs are not here: {REAL_LOGS}")
    import csv

    for path in sorted((REAL_LOGS / "loghub").glob("*/*.log")):
        with path.with_name(path.name + "_structured.csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        event_of = {int(row["LineId"]): row["EventId"] for row in rows}
        failures = list(failures_in(path.read_bytes(), path.name, []))
        plain: dict[str, set[str]] = {}
        mined: dict[int, set[str]] = {}
        templates = log_templates.Templates()
        for failure in failures:
            plain.setdefault(failure.template, set()).add(event_of[failure.line])
            mined.setdefault(templates.number(failure.message), set()).add(event_of[failure.line])
        assert all(len(events) == 1 for events in plain.values()), path.name
        # "authentication failure … user=guest" is an event of its own to whoever marked them.
        mixed = 1 if path.name.startswith("Linux") else 0
        assert sum(len(events) > 1 for events in mined.values()) == mixed, path.name
        assert len(mined) <= 1.5 * len(set().union(*mined.values())) or path.name.startswith("Thunderbird")
        if path.name.startswith("BGL"):
            alerts = {int(row["LineId"]) for row in rows if row["Label"] != "-"}
            assert len(alerts) == 143
            assert alerts <= {failure.line for failure in failures}
