"""A bundle holds what it should, says what it does not hold, and is written whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.engine.bundles.bundle import export
from instar.engine.bundles.merkle import MerkleTree, inclusion_path
from instar.engine.bundles.proof import prove
from instar.engine.bundles.signing import SigningKey, check_signature, load_key, new_key, public_key
from instar.engine.cli.main import main
from instar.fsm.errors import BlobCorrupt, BlobMissing, ConfigError, InstarError, LogCorrupt, SignatureInvalid
from instar.fsm.events import FeedbackReceived
from instar.fsm.words import Digest, Seq
from instar.store.log import EventLog
from tests.engine.bundles import (
    CHANGED,
    CONFIG,
    HEADER,
    PATCH,
    SECRET,
    SOURCE,
    TENSOR,
    bundle_of,
    erase,
    key_at,
    lines_of,
    log_at,
    small_log,
    verdict,
    verifier,
)
from tests.store.logs import feedback, tamper

Run = Callable[..., tuple[int, str, str]]
"""Runs a command line; gives its exit code, and what it printed and said."""


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return small_log(tmp_path / "agent")


def manifest_of(bundle: Path) -> Any:
    return json.loads((bundle / "manifest.json").read_bytes())


def blob_in(bundle: Path, content: bytes) -> Path:
    digest = sha256(content).hexdigest()
    return bundle / "blobs" / digest[:2] / digest[2:]


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_bundle_holds_each_row_and_each_blob_that_an_event_names(log: EventLog, tmp_path: Path) -> None:
    exported = bundle_of(log, tmp_path / "b")
    rows = lines_of(tmp_path / "b")
    assert [row["seq"] for row in rows] == list(range(1, 9))
    assert [row["hash"] for row in rows] == [row[13] for row in log.reader.rows()]
    assert [row["payload"] for row in rows] == [row[10] for row in log.reader.rows()]
    assert rows[2]["payload"] is None
    for content in (SOURCE, CHANGED, PATCH, HEADER, TENSOR, CONFIG):
        assert blob_in(tmp_path / "b", content).read_bytes() == content
    files = [path for path in (tmp_path / "b" / "blobs").rglob("*") if path.is_file()]
    assert exported.blobs == len(files) == len(manifest_of(tmp_path / "b")["blobs"]["listed"])
    assert exported.blob_bytes == sum(path.stat().st_size for path in files)
    assert verdict(tmp_path / "b").exit_code == 0


def test_erased_payload_is_nowhere_in_the_bundle(log: EventLog, tmp_path: Path) -> None:
    assert bundle_of(log, tmp_path / "b").erased == 1
    assert not any(SECRET.encode() in path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file())
    assert verdict(tmp_path / "b").facts["erased"] == 1


def test_erased_blob_is_listed_as_left_out(log: EventLog, tmp_path: Path) -> None:
    patch = Digest(sha256(PATCH).hexdigest())
    erase(log, 6, blobs=(patch,))
    exported = bundle_of(log, tmp_path / "b")
    assert [(one.sha256, one.reason, one.seq, one.size) for one in exported.left_out] == [(patch, "erased", 6, None)]
    assert not blob_in(tmp_path / "b", PATCH).exists()
    assert verdict(tmp_path / "b").facts["blobs_left_out"] == 1
    assert verdict(tmp_path / "b").exit_code == 0


def test_large_blobs_are_left_out_and_listed(log: EventLog, tmp_path: Path) -> None:
    exported = bundle_of(log, tmp_path / "b", blob_bytes_max=63)
    assert {one.reason for one in exported.left_out} == {"too large"}
    assert (sha256(TENSOR).hexdigest(), 64) in [(one.sha256, one.size) for one in exported.left_out]
    assert max(blob["size"] for blob in manifest_of(tmp_path / "b")["blobs"]["listed"]) <= 63
    assert verdict(tmp_path / "b").exit_code == 0


def test_wanted_blobs_are_none_named_or_all(log: EventLog, tmp_path: Path) -> None:
    stray, large = log.blobs.put(b"named by nobody"), log.blobs.put(bytes(1 << 20))
    log.append(feedback(9))
    assert bundle_of(log, tmp_path / "none", wanted="none").blobs == 0
    named = bundle_of(log, tmp_path / "named")
    every = bundle_of(log, tmp_path / "all", wanted="all")
    assert every.blobs == named.blobs + 2
    listed = {blob["sha256"] for blob in manifest_of(tmp_path / "all")["blobs"]["listed"]}
    assert {stray, large} <= listed
    assert blob_in(tmp_path / "all", bytes(1 << 20)).stat().st_size == 1 << 20
    assert [verdict(tmp_path / name).exit_code for name in ("none", "named", "all")] == [0, 0, 0]


def test_part_of_a_log_begins_with_the_hash_before_it(log: EventLog, tmp_path: Path) -> None:
    bundle_of(log, tmp_path / "b", first=Seq(4), last=Seq(6))
    manifest, rows = manifest_of(tmp_path / "b"), lines_of(tmp_path / "b")
    assert [row["seq"] for row in rows] == [4, 5, 6]
    assert manifest["prev_hash"] == rows[0]["prev_hash"] == log.reader.get(3).hash
    assert (manifest["head_hash"], manifest["log_head"]) == (log.reader.get(6).hash, 8)
    assert manifest["merkle_root"] == MerkleTree(row["hash"] for row in rows).root()
    assert blob_in(tmp_path / "b", PATCH).exists()
    assert not blob_in(tmp_path / "b", TENSOR).exists()
    assert verdict(tmp_path / "b").exit_code == 0


def test_part_that_ends_before_an_erasure_is_refused(log: EventLog, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="event 3 was erased after event 5"):
        bundle_of(log, tmp_path / "b", last=Seq(5))
    assert verdict(bundle_of(log, tmp_path / "b", last=Seq(7)).path).exit_code == 0


def test_same_log_and_key_give_the_same_bytes(log: EventLog, tmp_path: Path) -> None:
    key = key_at(tmp_path)
    for name in ("one", "two"):
        bundle_of(log, tmp_path / name, key=key)
        bundle_of(log, tmp_path / f"{name}.tar", key=key)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_archive_is_read_by_any_tar_and_by_the_verifier(log: EventLog, tmp_path: Path) -> None:
    key = key_at(tmp_path)
    bundle_of(log, tmp_path / "b", key=key)
    bundle_of(log, tmp_path / "b.tar", key=key)
    with tarfile.open(tmp_path / "b.tar") as archive:
        names = archive.getnames()
        for name in names:
            extracted = archive.extractfile(name)
            assert extracted is not None
            assert extracted.read() == (tmp_path / "b" / name).read_bytes()
    assert len(names) == sum(path.is_file() for path in (tmp_path / "b").rglob("*"))
    assert verdict(tmp_path / "b.tar", key=key.public).exit_code == 0


# ---- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["there", "there.tar", "link", "no/folder", "b.tar.gz"])
def test_place_that_cannot_be_used_is_refused(log: EventLog, tmp_path: Path, name: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there.tar").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError):
        bundle_of(log, tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.tar").read_bytes() == b"mine"


def test_missing_blob_leaves_no_bundle(log: EventLog, tmp_path: Path) -> None:
    log.append(FeedbackReceived(task_type="a", input="b", outcome="pass", log=Digest("ab" * 32)))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BlobMissing, match="event 9 names abababababab"):
        bundle_of(log, tmp_path / "b")
    assert sorted(tmp_path.iterdir()) == before
    assert verdict(bundle_of(log, tmp_path / "b", wanted="none").path).exit_code == 0


def test_damaged_blob_is_not_exported(log: EventLog, tmp_path: Path) -> None:
    large = log.blobs.put(os.urandom(1 << 20))
    log.append(FeedbackReceived(task_type="a", input="b", outcome="pass", log=large))
    stored = log.path.with_name("blobs") / large[:2] / large[2:]
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(BlobCorrupt, match="event 9 names"):
        bundle_of(log, tmp_path / "b")


def test_altered_log_is_not_signed(log: EventLog, tmp_path: Path) -> None:
    reader = tamper(log, "UPDATE events SET actor = 'somebody' WHERE seq = 4")
    with pytest.raises(LogCorrupt, match="event 4"):
        export(reader, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_row_whose_hash_is_ambiguous_is_not_shown(tmp_path: Path) -> None:
    log = log_at(tmp_path / "agent")
    try:
        log.append(feedback(1), key="a\nb")
    except InstarError:
        return  # refused where it would be written: better still
    with pytest.raises(InstarError, match="line feed in its key"):
        bundle_of(log, tmp_path / "b", wanted="none")


# ---- the Merkle tree -------------------------------------------------------------------------------------------------


def test_merkle_root_is_that_of_the_rfc() -> None:
    """RFC 9162, section 2.1.1: no leaves, one leaf, and three, spelled out by hand."""
    a, b, c = (sha256(bytes([n])).hexdigest() for n in range(3))

    def hashed(*parts: bytes) -> bytes:
        return sha256(b"".join(parts)).digest()

    leaves = [hashed(b"\0", bytes.fromhex(row)) for row in (a, b, c)]
    assert MerkleTree().root() == sha256(b"").hexdigest()
    assert MerkleTree([a]).root() == leaves[0].hex()
    assert MerkleTree([a, b, c]).root() == hashed(b"\1", hashed(b"\1", leaves[0], leaves[1]), leaves[2]).hex()


@given(st.integers(1, 70), st.data())
def test_inclusion_path_leads_to_the_root_and_from_no_other_leaf(size: int, data: st.DataObject) -> None:
    rows = [sha256(bytes([n])).hexdigest() for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path, root = inclusion_path(rows, index), MerkleTree(rows).root()
    assert verifier.root_by_path(rows[index], index, size, path) == root
    for other in range(size):
        if other != index:
            assert verifier.root_by_path(rows[index], other, size, path) != root
    if path:
        assert verifier.root_by_path(rows[index], index, size, path[:-1]) != root
        assert verifier.root_by_path(rows[index], index, size, [*path, path[0]]) != root


# ---- the key ---------------------------------------------------------------------------------------------------------


def test_key_is_for_its_owner_alone_and_signs_alike_each_time(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "key.pem"
    made = new_key(path, workspace=tmp_path / "agent")
    assert path.stat().st_mode & 0o777 == 0o600
    read = load_key(path, workspace=tmp_path / "agent")
    assert read.public == made.public == public_key(str(tmp_path / "folder" / "key.pub")) == public_key(made.public)
    assert read.sign(b"text") == made.sign(b"text")
    check_signature(made.public, b"text", made.sign(b"text"), "it")
    for wrong in (b"Text", b""):
        with pytest.raises(SignatureInvalid):
            check_signature(made.public, wrong, made.sign(b"text"), "it")
    with pytest.raises(ConfigError, match="is taken"):
        new_key(path, workspace=tmp_path / "agent")


@pytest.mark.parametrize("spelling", ["agent/key.pem", "agent/../agent/sub/key.pem", "into/key.pem", "out.pem"])
def test_key_within_reach_of_the_agent_is_refused(tmp_path: Path, spelling: str) -> None:
    agent = tmp_path / "agent"
    (agent / "sub").mkdir(parents=True)
    (tmp_path / "into").symlink_to(agent)
    (tmp_path / "out.pem").symlink_to(agent / "key.pem")
    for use in (new_key, load_key):
        with pytest.raises(ConfigError, match="inside the workspace"):
            use(tmp_path / spelling, workspace=agent)
    assert not (agent / "key.pem").exists()


def test_key_that_is_reached_through_the_workspace_is_refused(tmp_path: Path) -> None:
    """The agent could lead such a link elsewhere, to a key of its own."""
    agent = tmp_path / "agent"
    agent.mkdir()
    key_at(tmp_path)
    (agent / "link.pem").symlink_to(tmp_path / "key.pem")
    with pytest.raises(ConfigError, match="inside the workspace"):
        load_key(agent / "link.pem", workspace=agent)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    key_at(tmp_path)
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_key(tmp_path / "key.pem", workspace=tmp_path / "agent")


def test_what_is_no_key_is_refused_by_name(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    other = ec.generate_private_key(ec.SECP256R1())
    locked = ed25519.Ed25519PrivateKey.generate()
    pem, pkcs8 = s.Encoding.PEM, s.PrivateFormat.PKCS8
    cases = {
        "no private key in PEM": b"hello",
        "no Ed25519 key": other.private_bytes(pem, pkcs8, s.NoEncryption()),
        "locked by a passphrase": locked.private_bytes(pem, pkcs8, s.BestAvailableEncryption(b"x")),
    }
    for said, content in cases.items():
        (tmp_path / "key.pem").write_bytes(content)
        (tmp_path / "key.pem").chmod(0o600)
        with pytest.raises(ConfigError, match=said):
            load_key(tmp_path / "key.pem", workspace=tmp_path / "agent")
    with pytest.raises(ConfigError, match="there is no key"):
        load_key(tmp_path / "absent.pem", workspace=tmp_path / "agent")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="no plain file"):
        load_key(tmp_path / "pipe", workspace=tmp_path / "agent")


def test_without_cryptography_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_at(tmp_path)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(ConfigError, match=r"instar\[audit\]"):
        load_key(tmp_path / "key.pem", workspace=tmp_path / "agent")


# ---- one event alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", range(1, 9))
def test_one_event_is_proved_without_the_others(log: EventLog, tmp_path: Path, seq: int) -> None:
    key = key_at(tmp_path)
    (tmp_path / "proof").write_bytes(prove(log.reader, Seq(seq), key=key))
    report = verifier.check_proof(tmp_path / "proof", verifier.Options(key.public))
    assert report.exit_code == 0, report.faults
    assert (report.facts["seq"], report.facts["signed_by"]) == (seq, key.public)
    proof = json.loads((tmp_path / "proof").read_bytes())
    assert proof["row"]["payload_hash"] == log.reader.get(seq).payload_hash
    assert len(proof["path"]) == 3


def test_proof_of_an_event_that_is_not_there_is_refused(log: EventLog) -> None:
    for seq, to in ((0, None), (9, None), (5, Seq(4))):
        with pytest.raises(ConfigError):
            prove(log.reader, Seq(seq), to=to)


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def agent(log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log.close()
    monkeypatch.chdir(tmp_path / "agent")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("INSTAR_SIGNING_KEY", raising=False)
    return tmp_path / "agent"


@pytest.fixture
def run(agent: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_export_signs_by_a_new_key_and_says_so(run: Run, tmp_path: Path) -> None:
    code, out, err = run("export", "../b", "--json")
    assert code == 0, err
    assert "made a signing key at" in err
    public = json.loads(out)["data"]["public_key"]
    assert (tmp_path / "config" / "instar" / "signing-key.pem").stat().st_mode & 0o777 == 0o600
    assert verdict(tmp_path / "b", key=public).exit_code == 0
    code, _, err = run("export", "../b.tar")
    assert (code, err) == (0, "")
    assert verdict(tmp_path / "b.tar", key=public).facts["signed_by"] == public


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--key", "key.pem"], "inside the workspace"),
        (["--key", "../absent.pem"], "instar anchor --new-key --key ../absent.pem"),
        (["--unsigned", "--key", "../key.pem"], "contradict"),
        (["--unsigned", "--from", "7", "--to", "3"], "no events 7 to 3"),
        (["--unsigned", "--to", "5"], "was erased after event 5"),
        (["--unsigned", "--to", "99"], "no position"),
        (["--unsigned", "--blobs", "some"], "some"),
    ],
)
def test_export_refuses_what_it_cannot_do(run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    key_at(tmp_path)
    code, out, err = run("export", "../b", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not (tmp_path / "b").exists()


def test_key_that_the_environment_names_is_not_made_by_chance(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTAR_SIGNING_KEY", str(tmp_path / "typo.pem"))
    code, _, err = run("export", "../b")
    assert code == 2
    assert "no key at" in err
    assert not (tmp_path / "config").exists()
    key = key_at(tmp_path)
    monkeypatch.setenv("INSTAR_SIGNING_KEY", str(tmp_path / "key.pem"))
    assert run("export", "../b")[0] == 0
    assert verdict(tmp_path / "b", key=key.public).exit_code == 0
    assert run("status")[0] == 0  # the variable is no setting, and is not taken for one


def test_export_inside_the_workspace_is_noted(run: Run) -> None:
    code, out, err = run("export", "b", "--unsigned")
    assert code == 0
    assert "agent's own folder" in err
    assert "signed by    nobody" in out


def test_proof_is_written_to_a_file_or_printed(run: Run, tmp_path: Path) -> None:
    printed = run("export", "-", "--proof", "4", "--unsigned")[1]
    assert json.loads(run("export", "../p.json", "--proof", "4", "--unsigned", "--json")[1])["data"]["seq"] == 4
    assert (tmp_path / "p.json").read_text() == printed
    assert verifier.check_proof(tmp_path / "p.json", verifier.Options()).exit_code == 0
    assert run("export", "../p.json", "--proof", "4", "--unsigned")[0] == 2


def test_export_loads_neither_models_nor_statement_builders(agent: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from instar.engine.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'usearch'} & set(sys.modules); sys.exit(code or len(heavy))"
    )
    for verb in (["anchor"], ["export", "../b", "--unsigned"]):  # verify makes a schema to compare with
        done = subprocess.run([sys.executable, "-c", script, *verb], cwd=agent, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()


def test_engine_exports_and_anchors(tmp_path: Path) -> None:
    from instar.engine.bundles.anchor import check_anchor
    from instar.engine.facade import Engine
    from instar.engine.initialize import initialize
    from tests.engine.agents import agent_folder

    root = agent_folder(tmp_path / "agent")
    initialize(root, with_model=False)
    key: SigningKey = key_at(tmp_path)
    with Engine(root, worker=False) as engine:
        engine.feedback(task_type="a", input="b")
        exported = engine.export(tmp_path / "b", key=tmp_path / "key.pem", to="latest")
        anchor = engine.anchor(key=tmp_path / "key.pem")
        assert check_anchor(engine.runtime.reader, anchor, public_key=key.public).since == 0
    assert exported.public_key == key.public
    assert verdict(tmp_path / "b", key=key.public, anchors=(anchor.line,)).exit_code == 0
