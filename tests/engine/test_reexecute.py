"""Effects run again from their recorded inputs: what a forged log cannot hide, and what cannot be told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instar.engine.cli.main import main
from instar.engine.reexecution.judgement import Finding
from instar.engine.reexecution.reexecute import chosen, reexecute
from instar.engine.reexecution.scratch import ScratchBench
from instar.engine.runtime import Runtime
from instar.engine.worker import Worker
from instar.engine.workspace import Workspace
from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.errors import ConfigError
from instar.fsm.events import DatasetGenerated, DiffComputed, FeedbackReceived, PayloadErased, SignalEmbedded
from instar.fsm.record import Recorded
from instar.fsm.words import digest_of
from instar.store.log import Pending
from instar.store.reader import LogReader
from tests.engine.agents import PROJECT, code_only
from tests.engine.forgery import add_blob, damage_blob, forge, log_of
from tests.engine.workspaces import look
from tests.golden.test_golden_logs import GOLDEN

LOGGED = json.dumps({"level": "ERROR", "message": "no such tool", "input": "draw a circle", "reference": "canvas.arc"})


def read(root: Path, kind: type) -> list[Recorded]:
    reader = LogReader(log_of(root))
    try:
        return list(reader.read(types=[kind]))
    finally:
        reader.close()


def audit(root: Path, *effects: str) -> dict[int, Finding]:
    reader = LogReader(log_of(root))
    try:
        return {found.seq: found for found in reexecute(reader, effects or ("diff", "dataset", "embed")).findings}
    finally:
        reader.close()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace without a model: an edit, a failed task and a failure in a log file, taken up by a cycle."""
    runtime = code_only(tmp_path_factory.mktemp("honest") / "agent")
    root = runtime.workspace.root
    logs = root / "data" / "logs" / "modules"
    logs.mkdir(parents=True)
    (logs / "tools.log").write_text(LOGGED + "\n")
    (root / "heuristics.py").write_text("def score(a, b):\n    return a * b\n\n\ndef rank(a):\n    return -a\n")
    (root / "notes.txt").write_text("first line\nsecond line\n")
    asked = [
        FeedbackReceived(
            task_type="find", input=f"open file {n}", output="os.open", reference=f"io.{n}", outcome="fail"
        )
        for n in range(12)
    ]
    runtime.log.transact(lambda _: [Pending(one) for one in asked])
    Worker(runtime).run_once()
    runtime.close()
    return root


@pytest.fixture
def root(honest: Path, tmp_path: Path) -> Path:
    """A copy that a test may forge."""
    return Path(shutil.copytree(honest, tmp_path / "agent", symlinks=True))


def the(root: Path, kind: type) -> Recorded:
    return read(root, kind)[0]


def test_true_log_is_made_again_the_same(honest: Path) -> None:
    found = audit(honest)
    assert {one.type for one in found.values()} == {"DiffComputed", "SignalEmbedded", "DatasetGenerated"}
    assert {one.verdict for one in found.values()} == {"same"}
    assert {one.why for one in found.values()} == {""}
    dataset = the(honest, DatasetGenerated).event
    assert isinstance(dataset, DatasetGenerated)
    assert dataset.sources["task"] > 0
    assert dataset.sources["log"] == 1, "the failures of log files are recorded, and taken from there"


def test_log_files_that_are_gone_or_changed_do_not_matter(root: Path) -> None:
    shutil.rmtree(root / "data")
    assert {one.verdict for one in audit(root).values()} == {"same"}


def test_audit_writes_nothing_in_the_workspace(root: Path) -> None:
    def everything() -> dict[Any, Any]:
        return look(root) | {
            path: path.read_bytes() for path in (root / ".instar").rglob("*") if path.is_file() and "-" not in path.name
        }

    before = everything()
    assert len(audit(root)) == 3
    assert everything() == before


def put(field: str, value: Any) -> Callable[[Path, dict[str, Any]], None]:
    return lambda _root, payload: payload.__setitem__(field, value)


def edited(payload: dict[str, Any]) -> dict[str, Any]:
    """The item of the edit of heuristics.py."""
    return next(item for item in payload["items"] if "heuristics.py" in (item.get("subject"), item.get("unit")))


def put_item(field: str, value: Any) -> Callable[[Path, dict[str, Any]], None]:
    return lambda _root, payload: edited(payload).__setitem__(field, value)


def other_text(root: Path, payload: dict[str, Any]) -> None:
    edited(payload)["text"] = add_blob(root, b"heuristics.py: nothing of importance\n")


def one_row_less(root: Path, payload: dict[str, Any]) -> None:
    rows = LogReader(log_of(root)).blob(payload["dataset"])
    assert rows is not None
    import zstandard

    lines = zstandard.ZstdDecompressor().decompress(rows).splitlines(keepends=True)
    payload["dataset"] = add_blob(root, b"".join(lines[1:]))


FORGERIES = [
    (DiffComputed, other_text, "].text"),
    (DiffComputed, put_item("similarity", 0.123), "].similarity"),
    (DiffComputed, put_item("meaning_changed", False), "].meaning_changed"),
    (DiffComputed, put_item("lines_added", 0), "].lines_added"),
    (SignalEmbedded, put_item("unit", "somebody.py"), "].unit"),
    (SignalEmbedded, put_item("text", "harmless"), "].text"),
    (DatasetGenerated, one_row_less, "dataset"),
    (DatasetGenerated, put("heldout", 99), "heldout"),
    (DatasetGenerated, put("sources", {"task": 1}), "sources.task"),
    (DatasetGenerated, put("left_out", {"duplicate": 7}), "left_out.duplicate"),
]


@pytest.mark.parametrize(("kind", "change", "field"), FORGERIES, ids=[field for _, _, field in FORGERIES])
def test_forged_outcome_is_found_though_every_hash_is_right(
    root: Path, kind: type, change: Callable[[Path, dict[str, Any]], None], field: str
) -> None:
    seq = the(root, kind).seq
    forge(root, {seq: lambda payload: change(root, payload)})
    found = audit(root)[seq]
    assert found.verdict == "differs"
    assert any(one.field.endswith(field) for one in found.mismatches)
    assert len(found.mismatches) <= 2, "what is the same is not told"


def test_first_line_that_differs_is_shown(root: Path) -> None:
    seq = the(root, DiffComputed).seq
    forge(root, {seq: lambda payload: other_text(root, payload)})
    why = audit(root, "diff")[seq].why
    assert "line 1: recorded 'heuristics.py: nothing of importance', made again 'heuristics.py: changed " in why


def test_blob_that_was_altered_in_place_is_found(root: Path) -> None:
    for kind, field in ((DiffComputed, "text"), (DatasetGenerated, "dataset")):
        event = the(root, kind).event
        digest: Any = getattr(event, field, None) or event.items[0].text  # type: ignore[union-attr]
        damage_blob(root, digest, b"other bytes")
        found = audit(root)[the(root, kind).seq]
        assert found.verdict == "differs"
        assert digest[:12] in found.why
        assert "does not hash to its name" in found.why


def test_outcome_whose_input_is_gone_cannot_be_judged(root: Path) -> None:
    from instar.fsm.events import ChangeObserved

    change = next(record.event for record in read(root, ChangeObserved) if record.event.path == "heuristics.py")  # type: ignore[union-attr]
    assert isinstance(change, ChangeObserved)
    assert change.before is not None
    damage_blob(root, change.before, None)
    found = audit(root, "diff")[the(root, DiffComputed).seq]
    assert (found.verdict, found.mismatches) == ("cannot", ())
    assert f"blob {change.before[:12]} is missing" in found.why


def test_outcome_blob_that_is_gone_is_told_and_the_outcome_still_judged(root: Path) -> None:
    seq = the(root, DatasetGenerated).seq
    event = the(root, DatasetGenerated).event
    assert isinstance(event, DatasetGenerated)
    damage_blob(root, event.dataset, None)
    found = audit(root, "dataset")[seq]
    assert found.verdict == "same"
    assert f"blob {event.dataset[:12]} is missing" in found.why


def test_what_rests_on_an_erased_payload_cannot_be_judged(root: Path) -> None:
    runtime = Runtime(root, actor="test")
    feedback = read(root, FeedbackReceived)[0]
    erased = PayloadErased(
        target=feedback.seq,
        payload_hash=feedback.payload_hash,
        remains=encode_event(remains_of(feedback.event)).decode(),
        reason="asked for",
    )
    (record,) = runtime.log.erase([erased])
    runtime.close()
    found = audit(root)
    assert {one.verdict for one in found.values()} == {"cannot"}
    for one in found.values():
        assert f"event {feedback.seq}, whose payload was erased by event {record.seq}" in one.why


def elsewhere(payload: dict[str, Any]) -> None:
    payload["environment"]["python"] = "3.8.1"


def test_outcome_of_another_python_that_is_the_same_is_the_same(root: Path) -> None:
    seq = the(root, DiffComputed).seq
    forge(root, {seq: elsewhere})
    found = audit(root, "diff")[seq]
    assert found.verdict == "same"
    assert found.environment["python"][0] == "3.8.1"


def test_outcome_of_another_python_that_differs_is_no_divergence(root: Path) -> None:
    seq = the(root, DiffComputed).seq
    forge(root, {seq: lambda payload: (elsewhere(payload), other_text(root, payload))})
    found = audit(root, "diff")[seq]
    assert found.verdict == "cannot"
    assert "python 3.8.1, here 3." in found.why
    assert [one.field.partition("]")[2] for one in found.mismatches] == [".text"], "it is not passed over"


def test_outcome_of_an_older_version_has_no_environment(root: Path) -> None:
    seq = the(root, DiffComputed).seq

    def older(payload: dict[str, Any]) -> None:
        del payload["environment"]

    forge(root, {seq: older}, version=1)
    assert audit(root, "diff")[seq].verdict == "same"
    forge(root, {seq: lambda payload: other_text(root, payload)})
    found = audit(root, "diff")[seq]
    assert found.verdict == "cannot"
    assert "did not note where" in found.why


def test_signals_that_lead_nowhere_are_a_divergence_and_no_crash(root: Path) -> None:
    seq = the(root, DiffComputed).seq
    forge(root, {seq: put_seq})
    found = audit(root, "embed")[the(root, SignalEmbedded).seq]
    assert found.verdict == "differs"
    assert "KeyError: 999" in found.why


def put_seq(payload: dict[str, Any]) -> None:
    payload["items"][0]["seq"] = 999


def test_old_log_can_be_audited(tmp_path: Path) -> None:
    """Its blobs are made up, so nothing can be made again; nothing is called a divergence either."""
    shutil.copyfile(GOLDEN / "schema_0001.db", tmp_path / "log.db")
    from instar.store.log import create_log

    create_log(tmp_path / "log.db")
    reader = LogReader(tmp_path / "log.db")
    found = reexecute(reader, ["diff", "dataset"])
    reader.close()
    assert found.findings
    assert {one.verdict for one in found.findings} == {"cannot"}


def test_verdicts_are_printed_and_a_divergence_exits_with_4(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--reexecute", "diff,dataset", "--json", "-C", str(root)]) == 0
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["effects"] == {effect: {"same": 1, "differs": 0, "cannot": 0} for effect in ("diff", "dataset")}
    assert told["diverged"] is False
    seq = the(root, DatasetGenerated).seq
    forge(root, {seq: lambda payload: one_row_less(root, payload)})
    assert main(["replay", "--reexecute", "diff,dataset", "--json", "-C", str(root)]) == 4
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["effects"]["dataset"] == {"same": 0, "differs": 1, "cannot": 0}
    (found,) = [one for one in told["findings"] if one["verdict"] == "differs"]
    assert (found["seq"], found["mismatches"][0]["field"]) == (seq, "dataset")
    assert main(["replay", "--reexecute", "all", "-C", str(root)]) == 4
    text = capsys.readouterr().out
    assert f"event {seq}  DatasetGenerated: differs: dataset, line 1: recorded" in text


def test_only_outcomes_within_the_range_are_made_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is forged outside of the range is not asked for; within it, it is found, at level effects too."""
    diff, dataset = the(root, DiffComputed).seq, the(root, DatasetGenerated).seq
    assert diff < dataset
    forge(root, {dataset: lambda payload: one_row_less(root, payload)})
    for given in (["--reexecute", "diff,dataset"], ["--level", "effects"]):
        for bounds, code, within in (
            ([], 4, {diff, dataset}),
            (["--to", str(dataset)], 4, {diff, dataset}),
            (["--to", str(dataset - 1)], 0, {diff}),
            (["--from", str(diff + 1)], 4, {dataset}),
            (["--from", str(diff), "--to", str(diff)], 0, {diff}),
            (["--from", str(dataset + 1)], 0, set()),
        ):
            capsys.readouterr()
            assert main(["replay", *given, *bounds, "--json", "-C", str(root)]) == code, bounds
            told = json.loads(capsys.readouterr().out)["data"]
            found = {one["seq"] for one in told["findings"] if one["type"] in ("DiffComputed", "DatasetGenerated")}
            assert found == within, (given, bounds)
        assert main(["replay", *given, "--from", str(dataset), "--to", str(diff), "-C", str(root)]) == 2
    capsys.readouterr()
    assert main(["replay", "--reexecute", "diff", "--to", str(diff), "-C", str(root)]) == 0
    assert capsys.readouterr().out.startswith(f"1 outcomes of events 1 to {diff} made again: 1 the same")


def test_unknown_effect_is_refused() -> None:
    assert chosen(["all"]) == ("diff", "embed", "dataset", "train")
    assert chosen(["train", " diff"]) == ("diff", "train")
    for wrong in (["dance"], ["diff", "plan"], [], [""]):
        with pytest.raises(ConfigError, match="Give all, or some of diff,embed,dataset,train"):
            chosen(wrong)


def test_differences_are_audited_without_a_model(honest: Path) -> None:
    script = (
        "import sys\n"
        "from instar.engine.cli.main import main\n"
        "assert main(['replay', '--reexecute', 'diff', '-C', sys.argv[1]]) == 0\n"
        "sys.exit(bool({'torch', 'numpy', 'sentence_transformers'} & set(sys.modules)))\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", script, str(honest)], capture_output=True, env=environ, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().startswith("1 outcomes made again: 1 the same")


def test_scratch_folder_holds_few_models_at_a_time(honest: Path, tmp_path: Path) -> None:
    bench = ScratchBench(LogReader(log_of(honest)), tmp_path)
    assert bench.models is bench.models
    folders = [Workspace(tmp_path).checkpoints / f"{number}" for number in range(5)]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        os.utime(folder, (number, number))
    bench.tidy()
    assert [folder.exists() for folder in folders] == [False, False, True, True, True]
    bench.reader.close()


def test_digest_is_of_what_was_forged(root: Path) -> None:
    """The forger's own tool: what it stores is read back by the store."""
    assert LogReader(log_of(root)).path == log_of(root)
    digest = add_blob(root, b"forged")
    assert digest == digest_of(b"forged")
    runtime = Runtime(root, actor="test")
    assert runtime.blobs.get(digest) == b"forged"
    runtime.close()
