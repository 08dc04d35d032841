"""A log of every schema that was ever released is read for ever, to the same state."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.fsm.codec import TYPES
from instar.fsm.state import form_of, state_digest
from instar.store.log import EventLog, create_log
from instar.store.reader import SCHEMA_HEAD, LogReader
from instar.store.schema_faults import schema_faults

GOLDEN = Path(__file__).parent
ENDS = {
    "schema_0001.db": (
        "683fdb5794c5af2d9d99eb7d9f5eadb0b1a3fba3e7d0bb4ec831ccbbdfa579fc",
        "1:09410e8ecf04cfffd06e6a66fbc459c2578f028de369b6403b917ca5db24cba5",
    ),
    "schema_0002.db": (
        "1ae66b3265ccccaf6ee9f2a3bca12649e473f3130a946f59f467b35987ddf9c2",
        "1:ac2ec60db633e41dd971117ffdfa83db5def7fed7a278300a2d02949349e7ed0",
    ),
    "schema_0003.db": (
        "31540599d9f7db50f8eb7b4fb1b4f28ffca59bb5f2ed56820fb35dd768955968",
        "3:490cb051a59cc7b376f8e9781e6db102850e19c82d6b749c0301632348a68696",
    ),
    "schema_0003_2.db": (
        "360149b71f8ef2b842f5cdbd24a6d1173d6c37ff385e5f2c154370dc2a0bf311",
        "3:14b12ba062835cce4b675e0804705b877e380f6f5bb31b3945dd7f8283b6e236",
    ),
    "schema_0003_3.db": (
        "87301a625ee7fd517d5b7b33b8f1752c20e54d74aecb7c8e4c85f64542f6e3ef",
        "3:6315dca8a5eec0f2629f4b34b4abc609ef1810db847d0927d36dd74f273cf445",
    ),
    "schema_0003_4.db": (
        "3a0275406afac3469bcf8b6e320bfba6bacd122525c40421e015bde8fbee562c",
        "3:b24e49fb425b284a6fb82c9aa70c062f8eaf0b41db7c92d2604c635cd511d41d",
    ),
    "schema_0004.db": (
        "b337b321e7cb1c3b4429857705613f93cc7452572b4028cefe18acb2914873b2",
        "3:58688b5c1187b97b52fe278c65e270e76a14baea4f73e188335d03a4bb60396d",
    ),
    "schema_0004_2.db": (
        "720007b3051c59a6d957cf5131a003173349a3f6f55fc6b4c8a7199af7695756",
        "4:9d17fdfc25f98d89e11caa57126b305c065fa05a382e5d0d4debe6c71c95a8d5",
    ),
    "schema_0004_3.db": (
        "eb6531f3641c7314c6b79de1e7911644d4f95fdd084859eb1425e1c49aef047f",
        "4:2ddb5e7e0b16d692f4b7a42a6310d42d4e1754b3f9f4a87f401591e5c248a01a",
    ),
    "schema_0004_4.db": (
        "7e064e58e81d8dd4650f631087699c42d8074d4ee92e425a0a646ad2a8935170",
        "5:933586694b870a1afd0085783dea912f828bac452a6112cc800dcab740afb4bc",
    ),
    "schema_0004_5.db": (
        "29bc86a798875742a146eee1af77e15541f1cca568c573934855337ffd80f958",
        "5:1015ea7fb59b8db3e8655839f7756a6f145eedbd42e6c31052b52c876620ffc8",
    ),
    "schema_0004_6.db": (
        "6bdf4fa3d4865c75e9c6d5c1c5d94a2565560719a5c1f907eee53fe1c6f708fa",
        "6:35811b4825fffeafe67a861af21834d6654f98ee8892d0f875dbd3daac7fbcff",
    ),
}
_SINCE_4_5 = {"TrainingProgressed"}
_SINCE_4_4 = {"ModelAdopted", *_SINCE_4_5}
_SINCE_4_2 = {"ProbationEnded", *_SINCE_4_4}
_SINCE_3 = {"BlobsCollected", "TreeCaptured", *_SINCE_4_2}
LATER = {
    **dict.fromkeys(set(ENDS) - {"schema_0004_5.db", "schema_0004_6.db"}, _SINCE_4_2),
    **dict.fromkeys(("schema_0004_2.db", "schema_0004_3.db"), _SINCE_4_4),
    "schema_0004_4.db": _SINCE_4_5,
    "schema_0001.db": {"PayloadErased", *_SINCE_3},
    "schema_0002.db": _SINCE_3,
}
"""Event types that a schema's logs do not hold: they came later."""


def test_present_schema_has_a_golden_log() -> None:
    assert {path.name for path in GOLDEN.glob("*.db")} == set(ENDS)
    assert f"schema_{SCHEMA_HEAD}.db" in ENDS


@pytest.mark.parametrize("name", ENDS)
def test_golden_log_replays_to_the_state_it_always_had(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.db"
    shutil.copyfile(GOLDEN / name, path)
    create_log(path)
    replayed = replay(LogReader(path))
    digest = ENDS[name][1]
    assert (replayed.head_hash, state_digest(replayed.state, form_of(digest))) == ENDS[name]
    held = {type(record.event).__name__ for record in LogReader(path).read()}
    assert held == set(TYPES) - LATER.get(name, set())


@pytest.mark.parametrize("name", ENDS)
def test_upgrade_changes_no_event(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.db"
    shutil.copyfile(GOLDEN / name, path)
    with sqlite3.connect(path) as connection:
        before = connection.execute("SELECT * FROM events ORDER BY seq").fetchall()
    connection.close()
    create_log(path)
    reader = LogReader(path)
    assert list(reader.rows()) == before
    assert reader.schema == SCHEMA_HEAD
    assert schema_faults(reader) == []
    reader.close()


@pytest.mark.parametrize("name", ENDS)
def test_golden_log_can_be_appended_to(tmp_path: Path, name: str) -> None:
    from tests.store.logs import feedback

    path = tmp_path / "log.db"
    shutil.copyfile(GOLDEN / name, path)
    create_log(path)
    log = EventLog(path)
    head = log.reader.head()
    assert log.append(feedback(1)).seq == head + 1
    assert replay(log.reader).events == head + 1
    log.close()
