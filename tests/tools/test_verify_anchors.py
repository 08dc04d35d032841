"""A file of kept anchors that grows, as `instar anchor >> kept.txt` makes it, held against proofs and bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.engine.bundles.anchor import make_anchor
from instar.engine.bundles.bundle import export
from instar.engine.bundles.proof import prove
from instar.fsm.words import Seq
from instar.store.log import EventLog
from tests.engine.bundles import key_at, small_log, verifier


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return small_log(tmp_path_factory.mktemp("log") / "agent")


def anchor(log: EventLog, at: int, **changed: str) -> str:
    """The line of an event's anchor; with some of its parts changed by whoever forges or damages it."""
    names = ("form", "workspace", "seq", "hash", "root", "time")
    parts = dict(zip(names, make_anchor(log.reader, to=Seq(at)).text.split(), strict=True))
    return " ".join((parts | changed).values())


def checked(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = verifier.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept.txt"


def keep(kept: Path, *lines: str) -> Path:
    kept.write_text("# kept by W.\n\n" + "".join(f"{line}\n" for line in lines))
    return kept


FALSE = {"hash": "0" * 64}

PROOFS: dict[str, tuple[list[tuple[int, dict[str, str]]], int, str]] = {
    "one, which it leads to": ([(6, {})], 0, "the one that you gave, of event 6"),
    "the file grew before and after": ([(2, {}), (4, {}), (6, {}), (8, {})], 0, "the one that you gave, of event 6"),
    "the same twice": ([(6, {}), (6, {})], 0, "the one that you gave"),
    "of the event itself": ([(5, {})], 0, "event 5 is the one that was witnessed"),
    "of other events, later ones": ([(2, {}), (7, {}), (8, {})], 1, "`instar export FILE --proof 5 --to 7`"),
    "of earlier events alone": ([(2, {}), (4, {})], 1, "give an anchor of event 5 or later"),
    "another hash there": ([(6, FALSE)], 3, "the log was written anew"),
    "another hash there, and the true one": ([(6, {}), (6, FALSE)], 3, "the log was written anew"),
    "another hash of the event itself": ([(5, FALSE), (6, {})], 3, "the log was written anew"),
    "another root": ([(6, {"root": "0" * 64})], 3, "look for a good copy"),
    "of another workspace": ([(6, {"workspace": "other"})], 3, "another workspace, other"),
    "of another workspace, and the true one": ([(6, {}), (3, {"workspace": "other"})], 3, "another workspace"),
}


@pytest.mark.parametrize("what", PROOFS)
def test_proof_is_held_to_every_kept_anchor(
    log: EventLog, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    lines, code, said = PROOFS[what]
    proof = tmp_path / "p.json"
    proof.write_bytes(prove(log.reader, Seq(5), to=Seq(6)))
    given = [anchor(log, seq, **changed) for seq, changed in lines]
    for arguments in (["--anchor", keep(kept, *given)], [word for line in given for word in ("--anchor", line)]):
        found, out = checked(capsys, "--proof", proof, *arguments)
        assert (found, said in out) == (code, True), out
    assert ("BROKEN" in out, "NOT CHECKED" in out) == (code == 3, code == 1)


def test_advice_of_an_unmet_check_can_be_followed(
    log: EventLog, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(kept, anchor(log, 2), anchor(log, 7))
    proof = tmp_path / "p.json"
    proof.write_bytes(prove(log.reader, Seq(5), to=Seq(7)))
    assert checked(capsys, "--proof", proof, "--anchor", kept)[0] == 0


BUNDLES: dict[str, tuple[int, int, list[tuple[int, dict[str, str]]], int, str]] = {
    "whole, of three events": (1, 8, [(2, {}), (5, {}), (8, {})], 0, "event 5 is the one that was witnessed"),
    "whole, one of them false": (1, 8, [(2, {}), (5, FALSE), (8, {})], 3, "written anew"),
    "whole, one of a later event": (1, 8, [(2, {}), (9, {})], 3, "ends at event 8, and event 9 was witnessed"),
    "up to 7, the file goes on": (1, 7, [(2, {}), (7, {}), (8, {})], 0, "anchors of event 8"),
    "up to 7, of a later event alone": (1, 7, [(8, {}), (8, {})], 1, "`instar export BUNDLE --to 8`"),
    "up to 7, of one that the log never had": (1, 7, [(2, {}), (9, {})], 3, "ends at event 8, and event 9"),
    "from 4, the file begins before": (4, 8, [(2, {}), (5, {})], 0, "anchors of event 2"),
    "from 4, of earlier events alone": (4, 8, [(2, {}), (3, {})], 1, "`instar export BUNDLE --from 3`"),
    "from 4, one within it false": (4, 8, [(2, {}), (5, FALSE)], 3, "written anew"),
    "one of another workspace": (1, 8, [(5, {}), (5, {"workspace": "other"})], 3, "another workspace, other"),
}


@pytest.mark.parametrize("what", BUNDLES)
def test_bundle_is_held_to_every_kept_anchor(
    log: EventLog, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    first, last, lines, code, said = BUNDLES[what]
    export(log.reader, tmp_path / "b", first=Seq(first), last=Seq(last), wanted="none")
    given = [anchor(log, min(seq, 8), **({"seq": str(seq)} | changed)) for seq, changed in lines]
    found, out = checked(capsys, tmp_path / "b", "--anchor", keep(kept, *given))
    assert (found, said in out) == (code, True), out


def test_signatures_of_kept_anchors_are_checked_with_a_proof_too(
    log: EventLog, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = key_at(tmp_path)
    (tmp_path / "other").mkdir()
    forger = key_at(tmp_path / "other")
    proof = tmp_path / "p.json"
    proof.write_bytes(prove(log.reader, Seq(5), to=Seq(6), key=key))
    signed = [make_anchor(log.reader, to=Seq(seq), key=key).line for seq in (2, 6, 8)]
    asked = ("--proof", proof, "--public-key", key.public, "--anchor")
    assert checked(capsys, *asked, keep(kept, *signed))[0] == 0
    forged = make_anchor(log.reader, to=Seq(7), key=forger).line
    code, out = checked(capsys, *asked, keep(kept, *signed, forged))
    assert (code, "the anchor of event 7 was not signed by the key" in out) == (3, True)


def test_large_file_of_anchors_is_read_to_its_end(
    log: EventLog, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An anchor an hour fills a mebibyte in half a year; what is not read cannot be passed over."""
    proof = tmp_path / "p.json"
    proof.write_bytes(prove(log.reader, Seq(5), to=Seq(6)))
    keep(kept, *[anchor(log, 2)] * 6000, anchor(log, 6))
    assert kept.stat().st_size > 1 << 20
    assert checked(capsys, "--proof", proof, "--anchor", kept)[0] == 0
    monkeypatch.setattr(verifier, "TEXT_BYTES_MAX", 1 << 20)
    with pytest.raises(SystemExit) as ended:
        verifier.main(["--proof", str(proof), "--anchor", str(kept)])
    assert ended.value.code == 2
