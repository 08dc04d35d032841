"""What ``instar dataset`` tells of a data set, and what it says where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from instar.engine.cli.main import main
from instar.engine.keeping.erase import erase, plan_erasure
from instar.engine.provenance.why import why
from instar.engine.runtime import Runtime
from instar.engine.worker import Worker
from instar.fsm.events import DatasetGenerated, FeedbackReceived
from instar.fsm.words import Seq
from instar.store.log import Pending
from tests.engine.agents import code_only

ASKED = (
    "where is my parcel", "who can lift the lid", "what does a stamp cost", "how do i wash wool", "why is the sky red",
    "when does the museum open", "which bus goes downtown", "can dogs eat plums", "is the bridge closed",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runtime = code_only(tmp_path_factory.mktemp("dataset") / "agent")
    events = [
        FeedbackReceived(task_type="find", input=text, output="no", reference=f"answer {n}", outcome="fail")
        for n, text in enumerate(ASKED)
    ]
    events += [
        FeedbackReceived(task_type="find", input=ASKED[0].upper(), output="nor", reference="answer 0", outcome="fail"),
        FeedbackReceived(task_type="find", input="who is there", output="me", outcome="fail"),
        FeedbackReceived(task_type="find", input="tell me of tea", output="tea", reference="tea leaves"),
    ]
    runtime.log.transact(lambda _: [Pending(one) for one in events])
    Worker(runtime).run_once()
    runtime.close()
    return runtime.workspace.root


def told(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> Any:
    assert main(["dataset", *words, "-C", str(root), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["data"]


def test_workspace_without_a_data_set_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = code_only(tmp_path / "agent").workspace.root
    assert main(["dataset", "-C", str(root)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is no data set yet" in err
    assert told(capsys, root, "show") is None


def test_statistics_count_splits_verification_and_what_was_left_out(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, made)
    assert found["grouping"] == {"find": "answer"}
    assert {name: split["rows"] for name, split in found["splits"].items() if name != "memory"} != {}
    assert sum(split["rows"] for split in found["splits"].values()) == len(ASKED) + 1
    assert sum(split["verified_by"].get("reference", 0) for split in found["splits"].values()) == len(ASKED) + 1
    assert found["left_out"] == {"no known good output": 1}
    assert found["merged"] == {"duplicate": 1}
    assert main(["dataset", "-C", str(made)]) == 0
    text = capsys.readouterr().out
    assert "find: grouped by answer" in text
    assert "merged: 1 duplicate" in text
    assert "left out: 1 no known good output" in text


def test_rows_are_paged_and_lead_to_their_events(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = told(capsys, made, "show")
    assert [one["number"] for one in rows] == list(range(1, len(ASKED) + 2))
    assert told(capsys, made, "show", "-c", "2", "--skip", "3") == rows[3:5]
    train = told(capsys, made, "show", "--split", "train")
    assert train == [one for one in rows if one["row"]["split"] == "train"]
    one = told(capsys, made, "show", "latest", "2")
    assert one == rows[1]
    runtime = Runtime(made, actor="test")
    asked = runtime.reader.get(Seq(one["row"]["events"][0])).event
    assert isinstance(asked, FeedbackReceived)
    assert asked.input == one["row"]["input"]
    assert {node.seq for node in why(runtime.reader, one["reference"]).nodes} >= set(one["row"]["events"])
    runtime.close()
    assert main(["dataset", "show", "-c", "1", "-C", str(made)]) == 0
    out, err = capsys.readouterr()
    assert rows[0]["row"]["input"] in out
    assert "--skip 1 goes on" in err
    assert main(["dataset", "show", "latest", "1", "-C", str(made)]) == 0
    assert f"reference    {rows[0]['reference']}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["shew"], 2, "give stats or show"),
        (["show", "--split", "test"], 2, "there is no split 'test'"),
        (["show", "latest", "99"], 2, "there is no row 99: the data set has rows 1 to 10"),
        (["show", "dataset:zzz"], 2, "0 data sets begin with 'zzz'"),
        (["stats", "nowhere"], 2, "is no reference"),
    ],
)
def test_what_is_not_there_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert main(["dataset", *words, "-C", str(made)]) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_reference_means_the_last_data_set_up_to_there(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latest = told(capsys, made)
    assert told(capsys, made, "stats", f"dataset:{latest['dataset'][:8]}") == latest
    assert told(capsys, made, "stats", str(latest["event"])) == latest
    assert told(capsys, made, "stats", str(latest["event"] - 1)) is None


def test_erased_rows_are_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = code_only(tmp_path / "agent")
    event = FeedbackReceived(task_type="find", input="my name is anna", output="no", reference="hello", outcome="fail")
    seq = runtime.log.append(event).seq
    Worker(runtime).run_once()
    made = [record.event for record in runtime.reader.read(types=[DatasetGenerated])]
    assert made
    erase(runtime, plan_erasure(runtime, seq, "anna asked for it"))
    runtime.close()
    assert main(["dataset", "-C", str(runtime.workspace.root)]) == 2
    assert "were erased by event" in capsys.readouterr().err
