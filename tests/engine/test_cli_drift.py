"""``instar drift`` as a user meets it: no workspace, two files or rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.engine.agents import instar

BEFORE = "def area(w):\n    return w * 3\n"


def test_two_files_give_a_score_and_its_reasons(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(BEFORE)
    (tmp_path / "b.py").write_text(BEFORE.replace("3", "4"))
    done = instar("drift", "a.py", "b.py", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines()[1] == "  area: constant 3 → 4"
    content = json.loads(instar("drift", "a.py", "b.py", "--json", cwd=tmp_path).stdout)["data"]
    assert (content["path"], content["changed"], content["how"]) == ("b.py", True, "syntax")
    assert content["drift"] == 1.0 - content["similarity"] > 0.3
    assert content["units"][0]["name"] == "area"


def test_bytes_and_other_encodings_are_compared(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0\1\2")
    (tmp_path / "b.bin").write_bytes(b"\0\1\3")
    (tmp_path / "a.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    (tmp_path / "b.py").write_text("x = 'é'\n")
    assert json.loads(instar("drift", "a.bin", "b.bin", "--json", cwd=tmp_path).stdout)["data"]["how"] == "binary"
    assert json.loads(instar("drift", "a.py", "b.py", "--json", cwd=tmp_path).stdout)["data"]["drift"] == 0.0


def test_rows_give_one_score_a_line(tmp_path: Path) -> None:
    rows = [
        {"path": "a.py", "before": BEFORE, "after": BEFORE.replace("3", "4"), "label": "ignored"},
        {"path": "a.py", "before": BEFORE, "after": BEFORE + "# note\n"},
        {"path": "notes.md", "before": "one", "after": "two"},
    ]
    content = "\n".join(map(json.dumps, rows)).encode() + b"\n\n"
    (tmp_path / "rows.jsonl").write_bytes(content)
    from_file = instar("drift", "--jsonl", "rows.jsonl", cwd=tmp_path)
    from_input = instar("drift", "--jsonl", "-", "--json", cwd=tmp_path, stdin=content)
    assert from_file.stdout == from_input.stdout
    scores = [json.loads(line) for line in from_file.stdout.splitlines()]
    assert [score["path"] for score in scores] == ["a.py", "a.py", "notes.md"]
    assert [score["changed"] for score in scores] == [True, False, True]
    assert set(scores[0]) == {"path", "drift", "similarity", "changed", "how", "because"}


def test_broken_row_is_named_by_its_line_and_nothing_is_scored(tmp_path: Path) -> None:
    good = json.dumps({"path": "a.py", "before": "", "after": "x = 1"}).encode()
    for bad in (b"{", b'{"path": "a.py", "before": "x"}', b'{"path": 1, "before": "", "after": ""}', b"\xff"):
        done = instar("drift", "--jsonl", "-", cwd=tmp_path, stdin=good + b"\n" + bad + b"\n")
        assert done.returncode == 2
        assert done.stdout == b""
        assert b"stdin, line 2" in done.stderr


def test_wrong_arguments_and_absent_files_are_refused(tmp_path: Path) -> None:
    for arguments in (["drift"], ["drift", "only.py"], ["drift", "a", "b"], ["drift", "a", "b", "--jsonl", "-"]):
        done = instar(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(b"instar: ")
        assert b"Traceback" not in done.stderr


def test_comparing_two_files_loads_no_model_and_no_database() -> None:
    import subprocess

    code = "import sys, instar.engine.drift; print([m for m in ('torch', 'sqlalchemy', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
