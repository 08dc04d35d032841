"""An anchor kept elsewhere shows what a chain alone cannot: a tail cut off, a log written anew."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from instar.engine.bundles.anchor import Anchor, check_anchor, check_anchors, make_anchor, parse_anchor, parse_anchors
from instar.engine.cli.main import main
from instar.engine.replay import replay
from instar.fsm.chain import GENESIS, link
from instar.fsm.errors import AnchorForeign, ConfigError, InstarError, LogCorrupt, SignatureInvalid
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.log import EventLog
from instar.store.migrate import pristine_schema
from instar.store.reader import SCHEMA_HEAD, LogReader
from tests.engine.bundles import erase, key_at, small_log
from tests.store.logs import feedback, tamper


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return small_log(tmp_path / "agent")


def written_anew(log: EventLog, statement: str) -> LogReader:
    """Changes rows, then hashes every row again, as somebody can who has the file: the chain holds."""
    reader = tamper(log, statement)
    rows = list(reader.rows())
    reader.close()
    prev_hash: str = GENESIS
    with sqlite3.connect(log.path) as connection:
        for row in rows:
            payload_hash = row[11] if row[10] is None else digest_of(row[10].encode())
            own = link(
                prev_hash=prev_hash,
                seq=row[0],
                kind=row[1],
                version=row[2],
                recorded_at_us=row[3],
                cycle=row[4],
                cause=row[5],
                actor=row[6],
                state_before=row[7],
                state_after=row[8],
                key=row[9],
                payload_hash=payload_hash,
                state_digest=row[14],
            )
            connection.execute(
                "UPDATE events SET payload_hash = ?, prev_hash = ?, hash = ? WHERE seq = ?",
                (payload_hash, prev_hash, own, row[0]),
            )
            prev_hash = own
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        for (kind, name), (_, sql) in pristine_schema(SCHEMA_HEAD).items():
            if kind == "trigger" and name not in there and sql:
                connection.execute(sql)  # who can write can also put back what kept him from it
    connection.close()
    return LogReader(log.path)


def test_anchor_holds_while_the_log_grows_and_is_erased_from(log: EventLog) -> None:
    anchor = make_anchor(log.reader)
    assert check_anchor(log.reader, anchor).since == 0
    log.append(feedback(9))
    erase(log, 4)
    found = check_anchor(log.reader, anchor)
    assert (found.head, found.since, found.signature) == (10, 2, "none")


def test_anchor_of_any_event_is_what_its_head_was(log: EventLog) -> None:
    early = make_anchor(log.reader, to=Seq(4))
    assert (early.seq, early.hash) == (4, log.reader.get(4).hash)
    log.append(feedback(9))
    assert make_anchor(log.reader, to=Seq(4)) == early
    anchors = [make_anchor(log.reader, to=Seq(seq)) for seq in (9, 1, 4, 4)]
    assert [one.since for one in check_anchors(log.reader, anchors)] == [0, 8, 5, 5]


def test_line_is_read_back_as_it_was_written(log: EventLog, tmp_path: Path) -> None:
    anchor = make_anchor(log.reader, key=key_at(tmp_path))
    assert parse_anchor(anchor.line) == anchor
    assert parse_anchor(f"  {anchor.text}\n") == replace(anchor, signature=None)
    assert parse_anchors(f"# kept by W.\n\n{anchor.line}\n{anchor.text}\n") == [anchor, replace(anchor, signature=None)]
    assert "\n" not in anchor.line


def test_every_character_of_an_anchor_counts(log: EventLog, tmp_path: Path) -> None:
    key = key_at(tmp_path)
    line = make_anchor(log.reader, key=key).line
    for place, char in enumerate(line):
        for other in {chr(ord(char) ^ 1), chr(ord(char) ^ 0x20), "0"} - {char}:
            with pytest.raises(InstarError):
                check_anchor(log.reader, parse_anchor(line[:place] + other + line[place + 1 :]), public_key=key.public)


@pytest.mark.parametrize(
    "text", ["", "hello", "instar-anchor-2 w 1", "instar-anchor-1 w 0 x y z", "instar-anchor-1 " + "a" * 9999]
)
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="anchor"):
        parse_anchors(text)


def test_log_that_was_cut_off_is_found(log: EventLog) -> None:
    anchor = make_anchor(log.reader)
    reader = tamper(log, "DELETE FROM events WHERE seq > 7")
    assert replay(reader).events == 7
    with pytest.raises(LogCorrupt, match="cut off: it ends at event 7, but event 8 was witnessed"):
        check_anchor(reader, anchor)


def test_log_that_was_cut_off_and_went_on_is_found(log: EventLog) -> None:
    anchor = make_anchor(log.reader)
    tamper(log, "DELETE FROM events WHERE seq > 7").close()
    again = EventLog(log.path)
    again.append(feedback(8))
    again.append(feedback(9))
    with pytest.raises(LogCorrupt, match="rewritten"):
        check_anchor(again.reader, anchor)


def test_log_that_was_written_anew_is_found(log: EventLog) -> None:
    anchor, early = make_anchor(log.reader), make_anchor(log.reader, to=Seq(3))
    reader = written_anew(log, "UPDATE events SET payload = replace(payload, 'tiny', 'huge') WHERE seq = 5")
    assert replay(reader).events == 8
    with pytest.raises(LogCorrupt, match="rewritten"):
        check_anchor(reader, anchor)
    assert check_anchor(reader, early).since == 5  # what the early anchor covers is as it was


@pytest.mark.parametrize("seq", [2, 8])
def test_broken_chain_is_found_on_either_side_of_the_anchor(log: EventLog, seq: int) -> None:
    anchor = make_anchor(log.reader, to=Seq(4))
    reader = tamper(log, f"UPDATE events SET actor = 'x' WHERE seq = {seq}")
    with pytest.raises(LogCorrupt, match=f"event {seq} was altered"):
        check_anchor(reader, anchor)
    with pytest.raises(LogCorrupt, match=f"event {seq} was altered"):
        make_anchor(reader)


def test_anchor_of_another_workspace_is_refused(log: EventLog) -> None:
    anchor = replace(make_anchor(log.reader), workspace="other")
    with pytest.raises(AnchorForeign) as caught:
        check_anchor(log.reader, anchor)
    assert caught.value.exit_code == 4


def test_anchor_that_contradicts_itself_is_not_held_against_the_log(log: EventLog) -> None:
    anchor = make_anchor(log.reader)
    for damaged in (replace(anchor, merkle_root=Digest("0" * 64)), replace(anchor, recorded_at_us=0)):
        with pytest.raises(ConfigError, match="damaged"):
            check_anchor(log.reader, damaged)


def test_signature_of_an_anchor_is_checked_by_the_key_that_is_given(log: EventLog, tmp_path: Path) -> None:
    key = key_at(tmp_path)
    signed, plain = make_anchor(log.reader, key=key), make_anchor(log.reader)
    assert check_anchor(log.reader, signed).signature == "not checked"
    assert check_anchor(log.reader, signed, public_key=key.public).signature == "valid"
    (tmp_path / "other").mkdir()
    for anchor, public in ((signed, key_at(tmp_path / "other").public), (plain, key.public)):
        with pytest.raises(SignatureInvalid):
            check_anchor(log.reader, anchor, public_key=public)


# ---- the command line ------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    log.close()
    monkeypatch.chdir(tmp_path / "agent")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("INSTAR_SIGNING_KEY", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_anchor_is_one_line_that_verify_takes(run: Run, tmp_path: Path) -> None:
    code, line, err = run("anchor")
    assert (code, err, line.count("\n"), len(line.split())) == (0, "", 1, 6)
    (tmp_path / "kept").write_text(line + run("anchor", "--to", "4")[1])
    code, out, _ = run("verify", "--no-blobs", "--anchor", str(tmp_path / "kept"), "--anchor", line)
    assert code == 0
    assert out.count("is the one that was witnessed") == 3
    found = json.loads(run("verify", "--anchor", line, "--json")[1])["data"]
    assert [(one["seq"], one["since"]) for one in found["anchors"]] == [(8, 0)]
    assert (found["events"], found["blobs"], found["erased_payloads"]) == (8, 11, 1)


def test_signed_anchor_is_checked_by_the_public_half(run: Run, tmp_path: Path) -> None:
    made = json.loads(run("anchor", "--new-key", "--json")[1])["data"]
    signed = json.loads(run("anchor", "--sign", "--json")[1])["data"]
    assert signed["public_key"] == made["public_key"]
    for public in (made["public_key"], made["public_key_file"]):
        code, out, _ = run("verify", "--no-blobs", "--anchor", signed["anchor"], "--public-key", public)
        assert code == 0
        assert "signature valid" in out
    assert run("anchor", "--key", made["key"])[1].strip() == signed["anchor"]
    code, _, err = run("verify", "--anchor", signed["anchor"], "--public-key", "ab" * 32)
    assert code == 3
    assert "was not made by the key" in err
    assert run("anchor", "--new-key")[0] == 2


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM events WHERE seq > 7", "cut off"),
        ("UPDATE events SET payload = replace(payload, 'tiny', 'huge') WHERE seq = 5", "rewritten"),
    ],
)
def test_cut_and_rewritten_log_is_integrity_with_the_anchor_alone(
    run: Run, log: EventLog, statement: str, said: str
) -> None:
    line = run("anchor")[1]
    written_anew(log, statement).close()
    assert run("verify", "--no-blobs")[0] == 0  # nothing to see without the anchor
    code, out, err = run("verify", "--no-blobs", "--anchor", line)
    assert (code, out) == (3, "")
    assert said in err


def test_foreign_anchor_is_refused_and_nonsense_is_usage(run: Run) -> None:
    foreign = run("anchor")[1].replace(" a1b2 ", " another ")
    for anchor, code, said in ((foreign, 4, "workspace another"), ("nonsense", 2, "cannot be read")):
        found, out, err = run("verify", "--no-blobs", "--anchor", anchor)
        assert (found, out) == (code, "")
        assert said in err


def test_public_key_without_an_anchor_is_a_mistake(run: Run) -> None:
    assert run("verify", "--public-key", "ab" * 32)[0] == 2


def test_line_has_the_documented_form() -> None:
    anchor = Anchor(workspace="w", seq=Seq(1), hash=Digest("0" * 64), merkle_root=Digest("1" * 64), recorded_at_us=0)
    assert anchor.line == f"instar-anchor-1 w 1 {'0' * 64} {'1' * 64} 1970-01-01T00:00:00.000000Z"
