"""The verifier finds whatever was changed, takes nothing on trust, and answers hostile input with a sentence."""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from instar.engine.bundles.anchor import make_anchor
from instar.engine.bundles.proof import prove
from instar.engine.bundles.signing import SigningKey
from instar.fsm.words import Seq
from instar.store.log import EventLog
from tests.engine.bundles import (
    SECRET,
    TOOL,
    bundle_of,
    canonical,
    key_at,
    lines_of,
    rewritten,
    seal,
    small_log,
    verdict,
    verifier,
    write_lines,
)

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signed bundle ``b``, its archive, an unsigned one ``u``, an anchor and the log they are of."""
    folder = tmp_path_factory.mktemp("made")
    log, key = small_log(folder / "agent"), key_at(folder)
    bundle_of(log, folder / "b", key=key)
    bundle_of(log, folder / "b.tar", key=key)
    bundle_of(log, folder / "u")
    (folder / "anchor").write_text(make_anchor(log.reader, key=key).line + "\n")
    (folder / "public").write_text(key.public)
    (folder / "proof").write_bytes(prove(log.reader, Seq(5), key=key))
    log.close()
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(made / "b", tmp_path / "b"))


@pytest.fixture
def public(made: Path) -> str:
    return (made / "public").read_text()


@pytest.fixture
def anchor(made: Path) -> str:
    return (made / "anchor").read_text()


@pytest.fixture
def forger(tmp_path: Path) -> SigningKey:
    (tmp_path / "forger").mkdir()
    return key_at(tmp_path / "forger")


def run(*arguments: object, cwd: Path, flags: tuple[str, ...] = ("-I", "-S")) -> subprocess.CompletedProcess[str]:
    """Runs the tool in a process that sees the standard library alone."""
    return subprocess.run(
        [sys.executable, *flags, str(TOOL), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=60
    )


def faults(path: Path, **options: Any) -> str:
    """What is broken, as text; there must be something."""
    report = verdict(path, **options)
    assert report.exit_code == 3, verifier.as_text(report)
    return "\n".join(report.faults)


# ---- as an auditor runs it -------------------------------------------------------------------------------------------


def test_tool_imports_the_standard_library_and_cryptography_alone() -> None:
    tree = ast.parse(TOOL.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names - set(sys.stdlib_module_names) == {"cryptography"}


def test_whole_bundle_is_verified_without_us(made: Path, tmp_path: Path) -> None:
    assert run("-c", cwd=tmp_path, flags=("-I", "-S", "-c", "import instar")).returncode == 1
    for name in ("b", "b.tar", "u"):
        done = run(made / name, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "events       1 to 8, the whole log; 1 erased" in done.stdout
        assert done.stdout.endswith("verified: whole; who signed it was not checked\n")


def test_signature_is_verified_where_the_package_is(made: Path, tmp_path: Path, public: str) -> None:
    flags = ("-I",)
    for key in (made / "public", public, made / "key.pub"):
        arguments = ("--public-key", key, "--require-signature", "--anchor", made / "anchor")
        done = run(made / "b", *arguments, cwd=tmp_path, flags=flags)
        assert (done.returncode, done.stderr) == (0, "")
        assert "event 8 is the one that was witnessed" in done.stdout
        assert done.stdout.endswith("verified: whole; signed by the key that you gave\n")
    done = run(made / "b", cwd=tmp_path, flags=flags)
    assert "proves nothing about who signed" in done.stdout


def test_without_the_package_a_signature_that_was_asked_for_fails(made: Path, tmp_path: Path, public: str) -> None:
    done = run(made / "b", cwd=tmp_path)
    assert "signature    not checked" in done.stdout
    done = run(made / "b", "--require-signature", "--public-key", public, cwd=tmp_path)
    assert done.returncode == 1
    assert "not verified" in done.stdout


def test_mistakes_in_the_call_are_usage(made: Path, tmp_path: Path) -> None:
    for arguments in (
        [],
        [made / "b", "--proof", made / "proof"],
        [made / "b", "--require-signature"],
        [made / "b", "--public-key", "abc"],
        [made / "b", "--public-key", made / "anchor"],
        [made / "b", "--anchor", made / "public"],
        [made / "b", "--anchor", "instar-anchor-1 w"],
    ):
        done = run(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
    assert run(made / "absent", cwd=tmp_path).returncode == 1


def test_json_says_what_the_text_says(bundle: Path, tmp_path: Path) -> None:
    found = json.loads(run(bundle, "--json", cwd=tmp_path).stdout)
    assert (found["ok"], found["exit_code"], found["faults"]) == (True, 0, [])
    assert (found["facts"]["events"], found["facts"]["erased"], found["facts"]["blobs"]) == (8, 1, 11)
    (bundle / "signature").unlink()
    done = run(bundle, "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"], found["faults"]) == (3, False, ["signature is missing"])


# ---- every byte ------------------------------------------------------------------------------------------------------


def unnoticed(bundle: Path, patterns: tuple[int, ...], take: Callable[[int], bool]) -> list[tuple[str, int, int]]:
    """Flips bits of one byte after the other in each file; gives the flips that the verifier does not find."""
    missed, tried = [], 0
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    for path in files:
        whole = path.read_bytes()
        for place in range(len(whole)):
            if not take(place):
                continue
            for pattern in patterns:
                tried += 1
                path.write_bytes(whole[:place] + bytes([whole[place] ^ pattern]) + whole[place + 1 :])
                if verdict(bundle).exit_code != 3:
                    missed.append((path.name, place, pattern))
        path.write_bytes(whole)
    assert verdict(bundle).exit_code == 0
    print(f"{tried} flips of single bytes in {len(files)} files, {len(missed)} not found")
    return missed


def test_flipped_bytes_are_found(made: Path, tmp_path: Path) -> None:
    """A sample; the whole is in ``make torture``."""
    chance = random.Random(3)
    copy = Path(shutil.copytree(made / "b", tmp_path / "b"))
    assert unnoticed(copy, (0x01,), lambda _: chance.random() < 0.02) == []


@pytest.mark.torture
@pytest.mark.parametrize("name", ["b", "u"])
def test_every_flipped_byte_is_found(made: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(made / name, tmp_path / name))
    assert unnoticed(copy, (0x01, 0x20, 0x80), lambda _: True) == []


@pytest.mark.torture
def test_every_flipped_byte_of_an_archive_is_found(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    whole = (made / "b.tar").read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert verdict(path).exit_code == 3, place


@pytest.mark.parametrize("name", ["events.jsonl", "manifest.json", "signature"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_file_is_found(bundle: Path, name: str, share: float) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: int(len(content) * share)])
    assert faults(bundle)


# ---- changed by hand, hashes left as they are ------------------------------------------------------------------------


def _other_text(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"payload": row["payload"].replace("tiny", "huge")}


EDITS: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "a payload changed": (lambda rows: [*rows[:4], _other_text(rows[4]), *rows[5:]], "event 5: its payload hashes to"),
    "a column changed": (lambda rows: [*rows[:4], rows[4] | {"actor": "x"}, *rows[5:]], "event 5: its columns hash to"),
    "a time changed": (lambda rows: [*rows[:4], rows[4] | {"recorded_at_us": 1}, *rows[5:]], "was recorded before"),
    "one left out": (lambda rows: [*rows[:3], *rows[4:]], "event 5 stands where event 4 should be"),
    "the first left out": (lambda rows: rows[1:], "event 2 stands where event 1 should be"),
    "the last left out": (lambda rows: rows[:-1], "last is 8, the events say 7"),
    "two exchanged": (lambda rows: [*rows[:3], rows[4], rows[3], *rows[5:]], "event 5 stands where event 4 should be"),
    "one twice": (lambda rows: [*rows[:4], *rows[3:]], "event 4 stands where event 5 should be"),
    "one added": (lambda rows: [*rows, rows[-1] | {"seq": 9}], "event 9: its columns hash to"),
    "a payload taken out": (
        lambda rows: [*rows[:3], rows[3] | {"payload": None}, *rows[4:]],
        "event 4 has no payload, and no later event says that it was erased",
    ),
    "none left": (lambda rows: [], "count is 8, the events say 0"),
    "a field added": (lambda rows: [*rows[:4], rows[4] | {"more": 1}, *rows[5:]], "unknown field more"),
    "a field of another kind": (lambda rows: [*rows[:4], rows[4] | {"seq": "5"}, *rows[5:]], "seq must be number"),
    "a truth for a number": (lambda rows: [*rows[:4], rows[4] | {"cycle": False}, *rows[5:]], "cycle must be number"),
}


@pytest.mark.parametrize("what", EDITS)
def test_edit_is_found_even_when_the_file_is_listed_anew(bundle: Path, what: str) -> None:
    """The checksum of the file is made to fit and the bundle sealed again: the rows themselves must tell."""
    change, said = EDITS[what]
    write_lines(bundle, change(lines_of(bundle)))
    content = (bundle / "events.jsonl").read_bytes()
    seal(bundle, None, events_bytes=len(content), events_sha256=sha256(content).hexdigest())
    assert said in faults(bundle)


def test_line_that_is_not_canonical_is_found(bundle: Path) -> None:
    rows = (bundle / "events.jsonl").read_bytes().splitlines(keepends=True)
    for spelled in (
        rows[3].replace(b'"actor":', b'"actor": ', 1),
        b"{" + rows[3][1:-2].split(b",", 1)[1] + b"," + rows[3][1:].split(b",", 1)[0] + b"}\n",
        rows[3].replace("é".encode(), b"\\u00e9"),
        rows[3].replace(b'"version":1', b'"version":1.0'),
        rows[3].replace(b'"version":1', b'"version":1,"version":1'),
        rows[3].replace(b"\n", b"\r\n"),
    ):
        assert spelled != rows[3]
        (bundle / "events.jsonl").write_bytes(b"".join([*rows[:3], spelled, *rows[4:]]))
        assert "line 4 of events.jsonl" in faults(bundle)


# ---- forged by one who can compute what we can -----------------------------------------------------------------------


FORGERIES: dict[str, Callable[[Rows], Rows]] = {
    "a payload changed": EDITS["a payload changed"][0],
    "the actor changed": EDITS["a column changed"][0],
    "the tail cut off": lambda rows: rows[:-1],
    "one in the middle left out": lambda rows: [*rows[:4], *rows[5:]],
    "one added": lambda rows: [*rows, dict(rows[3], key=None, recorded_at_us=rows[-1]["recorded_at_us"])],
    "two payloads exchanged": lambda rows: [
        *rows[:3],
        rows[3] | {"payload": rows[4]["payload"]},
        rows[4] | {"payload": rows[3]["payload"]},
        *rows[5:],
    ],
}


@pytest.mark.parametrize("what", FORGERIES)
def test_forgery_is_found_by_signature_or_anchor(
    made: Path, tmp_path: Path, public: str, anchor: str, forger: SigningKey, what: str
) -> None:
    signed = rewritten(made / "b", tmp_path / "signed", FORGERIES[what], forger)
    plain = rewritten(made / "b", tmp_path / "plain", FORGERIES[what], None)
    if what != "one in the middle left out":  # there the erasure no longer has its cause: found in any case
        assert verdict(signed).exit_code == verdict(plain).exit_code == 0, "without a key or an anchor nothing can tell"
    assert "not by the one that was given" in faults(signed, key=public)
    assert "is not signed, though a key was given" in faults(plain, key=public)
    if what != "one added":  # behind the anchor, where it says nothing
        said = faults(plain, anchors=(anchor,))
        assert "ends at event 7, and event 8 was witnessed" in said or "written anew" in said


def test_event_added_behind_an_anchor_is_found_by_the_signature_alone(
    made: Path, tmp_path: Path, public: str, anchor: str
) -> None:
    forged = rewritten(made / "b", tmp_path / "f", FORGERIES["one added"], None)
    assert verdict(forged, anchors=(anchor,)).facts["anchored"] == [8]
    assert faults(forged, key=public)


def test_true_signature_on_another_bundle_is_found(made: Path, tmp_path: Path, public: str, forger: SigningKey) -> None:
    forged = rewritten(made / "b", tmp_path / "f", FORGERIES["a payload changed"], forger)
    shutil.copyfile(made / "b" / "signature", forged / "signature")
    assert "signature does not say what manifest.json says" in faults(forged, key=public)
    true = (made / "b" / "signature").read_bytes().splitlines()[-1]
    seal(forged, forger)
    lines = (forged / "signature").read_bytes().splitlines()
    (forged / "signature").write_bytes(b"\n".join([*lines[:-1], true]) + b"\n")
    assert "was not made by the key" in faults(forged)


def test_manifest_that_says_otherwise_is_found_when_sealed_anew(bundle: Path, forger: SigningKey) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    zero = "0" * 64
    for name, value in (
        ("workspace", "other"),
        ("workspace", "a b\nfirst 1"),
        ("first", 2),
        ("last", 9),
        ("count", 7),
        ("erased", 0),
        ("genesis", zero),
        ("prev_hash", zero),
        ("head_hash", zero),
        ("merkle_root", zero),
        ("log_head", 7),
        ("events_bytes", 1),
        ("events_sha256", zero),
        ("format", "other"),
        ("format_version", 2),
        ("blobs", None),
        ("blobs", manifest["blobs"] | {"listed": manifest["blobs"]["listed"][1:]}),
        ("blobs", manifest["blobs"] | {"listed": manifest["blobs"]["listed"][::-1]}),
        ("blobs", manifest["blobs"] | {"listed": [*manifest["blobs"]["listed"], {"sha256": "f" * 64, "size": 0}]}),
        ("blobs", manifest["blobs"] | {"wanted": "some"}),
        ("blobs", manifest["blobs"] | {"left_out": [{"sha256": zero, "reason": "lost", "seq": 1, "size": None}]}),
    ):
        seal(bundle, forger, **(manifest | {name: value}))
        assert faults(bundle), (name, value)
    seal(bundle, forger, **manifest)
    assert verdict(bundle).exit_code == 0


# ---- erasures --------------------------------------------------------------------------------------------------------


def _without(rows: Rows, seq: int) -> Rows:
    return [row for row in rows if row["seq"] != seq]


def _payload(row: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return row | {"payload": canonical(json.loads(row["payload"]) | facts).decode().strip()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: _without(rows, 7), "event 3 has no payload, and no later event says that it was erased"),
        (
            lambda rows: [*rows[:6], _payload(rows[6], payload_hash="0" * 64), *rows[7:]],
            "event 7 erased another payload than the one missing at event 3",
        ),
        (
            lambda rows: [*rows[:6], _payload(rows[6], target=4), *rows[7:]],
            "event 7 erases event 4, which is not its cause",
        ),
        (lambda rows: [*rows[:6], _payload(rows[6], remains="{ }"), *rows[7:]], "event 7 is no erasure"),
        (lambda rows: [*rows[:6], _payload(rows[6], target="3"), *rows[7:]], "event 7 is no erasure"),
        (lambda rows: [*rows[:6], rows[6] | {"payload": None}, *rows[7:]], "event 3 has no payload"),
        (
            lambda rows: [*rows[:2], rows[2] | {"payload": rows[3]["payload"]}, *rows[3:]],
            "event 3 was erased by event 7, and yet its payload is here",
        ),
    ],
)
def test_erasure_is_believed_only_where_an_event_says_it(
    made: Path, tmp_path: Path, change: Callable[[Rows], Rows], said: str
) -> None:
    assert said in faults(rewritten(made / "b", tmp_path / "f", change, None))


def test_payload_that_was_erased_cannot_come_back_changed(bundle: Path) -> None:
    rows = lines_of(bundle)
    rows[2]["payload"] = canonical({"input": SECRET, "type": "FeedbackReceived"}).decode().strip()
    write_lines(bundle, rows)
    assert "event 3: its payload hashes to" in faults(bundle)


# ---- hostile input ---------------------------------------------------------------------------------------------------


def _deep(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b"[" * 200_000 + b"]" * 200_000 + b"\n")


def _deep_line(bundle: Path) -> None:
    (bundle / "events.jsonl").write_bytes(b'{"a":' * 100_000 + b"\n")


def _line(content: bytes) -> Callable[[Path], None]:
    def put(bundle: Path) -> None:
        (bundle / "events.jsonl").write_bytes(content)

    return put


def _manifest(**facts: Any) -> Callable[[Path], None]:
    return lambda bundle: seal(bundle, None, **facts)


def _listed(digest: str) -> Callable[[Path], None]:
    entry = {"sha256": digest, "size": 1}
    return _manifest(blobs={"wanted": "named", "blob_bytes_max": None, "listed": [entry], "left_out": []})


def _linked(bundle: Path) -> None:
    (bundle / "events.jsonl").rename(bundle.parent / "elsewhere")
    (bundle / "events.jsonl").symlink_to(bundle.parent / "elsewhere")


def _linked_folder(bundle: Path) -> None:
    (bundle / "blobs").rename(bundle.parent / "blobs")
    (bundle / "blobs").symlink_to(bundle.parent / "blobs")


def _pipe(bundle: Path) -> None:
    (bundle / "signature").unlink()
    os.mkfifo(bundle / "signature")


def _huge(bundle: Path) -> None:
    with (bundle / "signature").open("r+b") as file:
        file.truncate(1 << 40)  # a hole: it takes no room, and must not be read


HOSTILE: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda bundle: (bundle / "manifest.json").unlink(),
    "no events": lambda bundle: (bundle / "events.jsonl").unlink(),
    "a folder for a file": lambda bundle: ((bundle / "signature").unlink(), (bundle / "signature").mkdir()),
    "a link for a file": _linked,
    "a link for a folder": _linked_folder,
    "a link beside": lambda bundle: (bundle / "passwd").symlink_to("/etc/passwd"),
    "a pipe": _pipe,
    "a huge file": _huge,
    "a file more": lambda bundle: (bundle / "run-me.py").write_text("x"),
    "a name that moves the cursor": lambda bundle: (bundle / "\x1b[2J\x1b[31m").write_text("x"),
    "a name that is no text": lambda bundle: Path(os.fsdecode(os.fsencode(bundle) + b"/\xff\xfe")).write_text("x"),
    "a blob more": lambda bundle: next((bundle / "blobs").iterdir()).joinpath("0" * 62).write_text("x"),
    "an empty folder": lambda bundle: (bundle / "blobs" / "zz").mkdir(),
    "an empty folder of blobs": lambda bundle: (
        shutil.rmtree(bundle / "blobs") or (bundle / "blobs" / "aa").mkdir(parents=True)
    ),
    "a path for a digest": _listed("../../../../etc/passwd"),
    "an absolute path for a digest": _listed("/etc/passwd".ljust(64, "/")),
    "JSON too deep": _deep,
    "a line too deep": _deep_line,
    "a line without end": _line(b"{"),
    "no JSON": _line(b"\x00\xff\xfe\n" * 50),
    "NaN": _line(b'{"seq":NaN}\n'),
    "a number without end": _line(b'{"seq":' + b"9" * 10_000 + b"}\n"),
    "half a character": _line(b'{"actor":"\\ud800"}\n'),
    "a list for an object": _line(b"[]\n"),
    "a list for the manifest": lambda bundle: (bundle / "manifest.json").write_bytes(b"[]\n"),
    "a number for the manifest": lambda bundle: (bundle / "manifest.json").write_bytes(b"1\n"),
    "a huge count": _manifest(count=2**62, last=2**62, log_head=2**62),
    "a negative position": _manifest(first=-1),
    "a list of nothing for blobs": _manifest(
        blobs={"wanted": "named", "blob_bytes_max": None, "listed": [1], "left_out": []}
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_bundle_gets_a_sentence(bundle: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    HOSTILE[what](bundle)
    assert verifier.main([str(bundle)]) == 3
    out, err = capsys.readouterr()
    assert err == ""
    assert "  BROKEN       " in out
    assert "could not be taken at all" not in out, "a fault without a sentence of its own"
    assert all(" " <= char <= "~" or char == "\n" for char in out.replace("…", "")), "nothing that a terminal obeys"
    assert len(out) < 20_000


def _member(name: str, kind: bytes = b"0", content: bytes = b"x") -> bytes:
    header = bytearray(verifier.tar_header("signature", len(content)))
    header[:100] = name.encode().ljust(100, b"\0")
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content.ljust(512, b"\0")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive at all" * 100,
        _member("../../evil"),
        _member("/etc/passwd"),
        _member("events.jsonl", b"2"),
        _member("events.jsonl", b"5"),
        _member("events.jsonl") + _member("events.jsonl"),
        _member("signature") + _member("manifest.json"),
        verifier.tar_header("events.jsonl", 8**11 - 1),
        _member("events.jsonl")[:700],
        _member("events.jsonl") + bytes(10240),
    ],
)
def test_hostile_archive_gets_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(content)
    assert verifier.main([str(tmp_path / "b.tar")]) == 3
    out = capsys.readouterr().out
    assert "BROKEN" in out
    assert "could not be taken at all" not in out


def test_archive_with_something_behind_its_end_is_found(made: Path, tmp_path: Path) -> None:
    whole = (made / "b.tar").read_bytes()
    for content in (whole + b"x", whole + bytes(10240), whole[:-512], whole[:-1] + b"x"):
        (tmp_path / "b.tar").write_bytes(content)
        assert faults(tmp_path / "b.tar")


# ---- proofs ----------------------------------------------------------------------------------------------------------


def test_proof_is_verified_by_key_or_anchor(made: Path, tmp_path: Path, public: str) -> None:
    for arguments, flags in (
        ([], ("-I", "-S")),
        (["--anchor", made / "anchor"], ("-I", "-S")),
        (["--public-key", public], ("-I",)),
    ):
        done = run("--proof", made / "proof", *arguments, cwd=tmp_path, flags=flags)
        assert (done.returncode, done.stderr) == (0, "")
        assert '"input":"tiny"' in done.stdout


def test_changed_proof_is_found(made: Path, tmp_path: Path, public: str) -> None:
    whole = (made / "proof").read_bytes()
    chance = random.Random(5)
    path = tmp_path / "proof"
    for place in [*chance.sample(range(len(whole)), 150), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert verifier.check_proof(path, verifier.Options(public)).exit_code == 3, place
    for content in (b"", b"{}\n", b"[" * 100_000, b'{"row":1}\n', whole[:-1], whole * 2):
        path.write_bytes(content)
        assert verifier.main(["--proof", str(path)]) == 3


def test_proof_of_another_log_does_not_fit_an_anchor(made: Path, tmp_path: Path) -> None:
    other: EventLog = small_log(tmp_path / "agent")
    (tmp_path / "proof").write_bytes(prove(other.reader, Seq(5)))
    options = verifier.Options(None, (verifier.parse_anchor((made / "anchor").read_text()),))
    report = verifier.check_proof(tmp_path / "proof", options)
    assert len(report.faults) == 1
    assert "another anchor of event 8 than the one that was given: the log was written anew" in report.faults[0]
