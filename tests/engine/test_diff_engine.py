from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.engine.diff_engine import TEXT_CHARS_MAX, diff_change, diff_output, token_similarity
from instar.engine.redact import redact
from instar.fsm.events import FeedbackReceived
from instar.fsm.words import Seq

SEQ = Seq(7)
BEFORE = b"def f(x):\n    return x + 1\n\n\ndef g():\n    return 2\n"


def feedback(**fields: object) -> FeedbackReceived:
    return FeedbackReceived(**{"task_type": "scrape", "input": "get the page", **fields})  # type: ignore[arg-type]


def test_change_of_python_names_its_units() -> None:
    after = BEFORE.replace(b"x + 1", b"x - 1").replace(b"def g", b"def h") + b"def new():\n    return [1, 2, 3]\n"
    item, text = diff_change(SEQ, "pkg/rules.py", BEFORE, after)
    assert (item.seq, item.kind, item.subject) == (SEQ, "code_diff", "pkg/rules.py")
    assert item.units_changed == ("f",)
    assert set(item.units_added) == {"h", "new"}
    assert item.units_removed == ("g",)
    assert item.meaning_changed
    assert 0.0 < item.similarity < 1.0
    assert (item.lines_added, item.lines_removed) == (4, 2)
    assert text.startswith("pkg/rules.py: changed f;")
    assert "-    return x + 1\n+    return x - 1\n" in text


def test_comment_and_layout_do_not_change_meaning() -> None:
    item, text = diff_change(SEQ, "rules.py", BEFORE, b"# why\n" + BEFORE.replace(b"x + 1", b"(x\n + 1)"))
    assert not item.meaning_changed
    assert item.similarity == 1.0
    assert item.units_changed == ()
    assert item.lines_added == 3
    assert text.startswith("rules.py: layout, comments or local names only\n")


def test_python_that_does_not_parse_is_compared_by_lines() -> None:
    item, _ = diff_change(SEQ, "rules.py", BEFORE, BEFORE + b"def broken(:\n")
    assert item.kind == "text_diff"
    assert item.meaning_changed


def test_text_changes_meaning_unless_blank() -> None:
    item, _ = diff_change(SEQ, "a.yaml", b"a: 1\nb: 2\n", b"a: 1\n\nb: 2  \n")
    assert (item.kind, item.meaning_changed, item.lines_added) == ("text_diff", False, 2)
    item, _ = diff_change(SEQ, "a.yaml", b"a: 1\nb: 2\n", b"a: 1\n  b: 2\n")
    assert item.meaning_changed
    assert item.similarity == pytest.approx(0.5)


@pytest.mark.parametrize(("before", "after"), [(None, BEFORE), (BEFORE, None), (None, b""), (b"", None)])
def test_file_that_appears_or_vanishes_changes_meaning(before: bytes | None, after: bytes | None) -> None:
    item, text = diff_change(SEQ, "rules.py", before, after)
    assert item.meaning_changed
    assert item.similarity == 0.0
    if (before or after) == BEFORE:
        assert "/dev/null" in text
        assert {"f", "g"} <= set(item.units_added + item.units_removed)


@pytest.mark.parametrize(
    ("before", "after"), [(b"\0\1\2" * 9, b"\0\1\3" * 9), (b"\xff\xfe", b"text"), (b"text", b"\xe9"), (None, None)]
)
def test_binary_and_uncaptured_content_has_sizes_only(before: bytes | None, after: bytes | None) -> None:
    item, text = diff_change(SEQ, "x.py", before, after)
    assert item.kind == "binary_diff"
    assert item.meaning_changed
    assert 0.0 <= item.similarity < 1.0
    assert "before" in text
    assert "captured" in text if before is None else f"{len(before)} bytes" in text


def test_equal_versions_are_equal() -> None:
    for content in (BEFORE, b"\0\xff", b""):
        item, _ = diff_change(SEQ, "x.py", content, content)
        assert (item.similarity, item.meaning_changed, item.lines_added) == (1.0, False, 0)


@given(
    st.lists(st.sampled_from(["a", "b", "", "c c"]), max_size=30),
    st.lists(st.sampled_from(["a", "b", "", "d"]), max_size=30),
    st.booleans(),
)
def test_similarity_and_counts_agree_with_the_lines(left: list[str], right: list[str], ended: bool) -> None:
    before = "".join(f"{line}\n" for line in left).encode()
    after = "\n".join(right).encode() + (b"\n" if ended and right else b"")
    item, text = diff_change(SEQ, "x.txt", before, after)
    assert 0.0 <= item.similarity <= 1.0
    assert item.lines_added - item.lines_removed == len(diff_lines(after)) - len(diff_lines(before))
    assert (item.similarity == 1.0) == (before == after)
    body = [line for line in text.split("\n") if not line.startswith(("+++", "---"))]
    assert sum(line.startswith("+") for line in body) == item.lines_added
    assert sum(line.startswith("-") for line in body) == item.lines_removed


def diff_lines(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def test_unified_diff_can_be_applied_by_git(tmp_path: Path) -> None:
    before = "".join(f"line {number}\n" for number in range(200))
    after = before.replace("line 5\n", "").replace("line 90\n", "x\ny\n").replace("line 199\n", "the end")
    (tmp_path / "x.txt").write_text(before)
    _, text = diff_change(SEQ, "x.txt", before.encode(), after.encode())
    (tmp_path / "x.patch").write_text(text)
    done = subprocess.run(["git", "apply", "x.patch"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.txt").read_text() == after


def test_large_files_are_compared_and_their_text_is_capped() -> None:
    lines = [f"line {number}" for number in range(100_000)]
    edited = [f"{line}!" if number % 97 == 0 else line for number, line in enumerate(lines)]
    item, text = diff_change(SEQ, "x.txt", "\n".join(lines).encode(), "\n".join(edited).encode())
    assert item.lines_added == item.lines_removed == 1031
    assert len(text) <= TEXT_CHARS_MAX + 200
    _, text = diff_change(SEQ, "x.txt", b"", "\n".join(edited).encode())
    assert "diff cut here" in text
    _, text = diff_change(SEQ, "x.txt", b"a", b"x" * 5_000_000)
    assert len(text) < 5_000
    assert "characters more" in text


def test_output_is_compared_with_its_reference() -> None:
    item, text = diff_output(SEQ, feedback(output="Open the URL", reference="open  the url!", outcome="fail"))
    assert (item.kind, item.subject) == ("output_diff", "scrape")
    assert item.similarity == pytest.approx(6 / 7, abs=1e-6)
    assert item.meaning_changed
    for line in ("task: scrape", "input: get the page", "output: Open the URL", "reference: open", "outcome: fail"):
        assert line in text


def test_output_that_only_looks_different_is_the_same() -> None:
    item, _ = diff_output(SEQ, feedback(output="OPEN the url", reference="open  the URL"))
    assert (item.similarity, item.meaning_changed) == (1.0, False)


@pytest.mark.parametrize(
    ("outcome", "kind", "alike"), [("fail", "failure", 0.0), ("skip", "failure", 0.0), ("pass", "output_diff", 1.0)]
)
def test_output_without_reference_goes_by_its_outcome(outcome: str, kind: str, alike: float) -> None:
    item, _ = diff_output(SEQ, feedback(output="?", outcome=outcome))
    assert (item.kind, item.similarity, item.meaning_changed) == (kind, alike, alike < 1.0)


@given(st.text(max_size=80), st.text(max_size=80))
def test_token_similarity_is_symmetric_and_bounded(left: str, right: str) -> None:
    assert 0.0 <= token_similarity(left, right) <= 1.0
    assert token_similarity(left, left) == 1.0


SECRETS = {
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAb+/=\n-----END RSA PRIVATE KEY-----",
    "aws-key": "AKIAIOSFODNN7EXAMPLE",
    "github-token": "ghp_" + "a1B2" * 9,
    "api-key": "sk-proj-" + "A1b2" * 8,
    "slack-token": "xoxb-123456789012-abcdef",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4",
    "bearer": "Authorization: Bearer abc.def-123456",
    "password": "password=hunter2",
    "token": '{"token": "q9w8e7r6"}',
    "api_key": "API_KEY='b7f3c2d1e0'",
    "secret_access_key": "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY",
}


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items(), ids=SECRETS)
def test_secrets_reach_neither_diff_nor_output(kind: str, secret: str) -> None:
    kept = {"bearer": "abc.def", "password": "hunter2", "token": "q9w8", "api_key": "b7f3", "secret_access_key": "wJal"}
    body = kept.get(kind, secret[30:40] if kind == "private-key" else secret[:12])
    assert f"[redacted:{kind}]" in redact(f"x {secret} y")
    _, text = diff_change(SEQ, "conf.txt", b"", f"x\n{secret}\n".encode())
    assert body not in text
    _, text = diff_output(SEQ, feedback(output=secret))
    assert body not in text


@pytest.mark.parametrize(
    "code",
    [
        "login(token=self.token)",
        "password=None",
        "token = lexer.next()",
        "def f(token: str, max_tokens=4096): ...",
        "for token in tokens: pass",
        "secret = os.environ['X']",
        "Failed password for root from 10.0.0.1",
        "the bearer of bad news",
    ],
)
def test_redaction_leaves_code_and_prose_alone(code: str) -> None:
    assert redact(code) == code


@given(
    st.lists(
        st.sampled_from([*SECRETS.values(), "a", " ", "\n", "=", '"', "password", "token:", "Bearer "]), max_size=8
    )
)
def test_redaction_twice_changes_nothing(parts: list[str]) -> None:
    once = redact("".join(parts))
    assert redact(once) == once
