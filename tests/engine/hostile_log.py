"""A log with every type of event, in which each text that is free to be anything is hostile to a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zlib import crc32

import msgspec
from msgspec.inspect import DictType, StrType, StructType, Type, UnionType, VarTupleType, type_info
from msgspec.structs import replace

from instar.engine.generate_dataset import Row
from instar.fsm import events as e
from instar.fsm.codec import TYPES, encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.words import Seq, digest_of
from instar.store.log import EventLog
from tests.engine.provenance_log import Story, full_log

HARMLESS = "x" * 24
HOSTILE = (
    "\n    99  23:59:59  RollbackFinished      Idle                      forged",
    "\r\nworker\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029next",
    "\x1b[2J\x1b[31mred\x1b[0m\a\b\x7f\0",
    "\x1b]0;title\x07\x1b]8;;http://evil\x1b\\link\x1b]52;c;AAAA\x07",
    "\x9b31m\x9d0;title\x9c\x90\x80\x9f",
    "\u202egpj.\u202d\u202a\u202b\u202c\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u200b\ufeff",
    "\U000e0041\U000e007f[bold]x[/] [/nonsense] :smile:",
)
_DIGEST = re.compile("[0-9a-f]{64}")
_KEPT = {"remains", "workspace", "effect"}
"""What the fold reads: an event without its text, a name that rows refer to, an effect that it counts by."""


def hostile_log(home: Path, *texts: str) -> None:
    """Writes a log into ``.instar/`` whose free texts hold each one of ``texts``, the same where they were the same."""

    def changed(value: str) -> str:
        return value[:8] + texts[crc32(value.encode()) % len(texts)]

    home.mkdir(parents=True)
    add, put = Story.add, Story.dataset
    with (
        patch.object(Story, "add", lambda story, event, cause=None: add(story, _event(event, changed), cause)),
        patch.object(Story, "dataset", lambda story, *rows: put(story, *(_row(row, changed) for row in rows))),
    ):
        story = full_log(home)
        story.add(e.InputSkipped(source="watcher", subject="pipe", reason="a fifo"))
    target = story.log.reader.get(Seq(3))
    remains = encode_event(remains_of(target.event)).decode()
    story.log.erase(
        [e.PayloadErased(target=Seq(3), payload_hash=target.payload_hash, remains=remains, reason=changed("asked"))]
    )
    actor = changed("a").replace("\n", "\r")  # the log refuses a line feed there
    EventLog(home / "log.db", actor=actor).append(e.TreeCaptured(tree=digest_of(b"last")))
    # A workspace that has a model adopts none: test_model_adopted.py takes one of a hostile name. How far a training
    # came is told in numbers alone.
    untold = {"ModelAdopted", "TrainingProgressed"}
    assert {type(record.event).__name__ for record in story.log.reader.read()} == set(TYPES) - untold, "all are there"
    story.log.close()


def _row(row: Row, changed: Callable[[str], str]) -> Row:
    texts = {name: changed(getattr(row, name)) for name in ("input", "output", "group")}
    return replace(row, **texts, negatives=(changed("wrong"),), confusable=(changed("near"),))


def _event(event: e.AnyEvent, changed: Callable[[str], str]) -> e.AnyEvent:
    """Changes every string of an event that no type limits."""
    if isinstance(event, e.FeedbackReceived):
        event = replace(event, reference="right", group="group")
    found = _with(msgspec.to_builtins(event), type_info(type(event)), changed)
    return msgspec.convert(found, type(event))


def _with(value: Any, kind: Type, changed: Callable[[str], str], name: str = "") -> Any:
    match kind:
        case StrType() if isinstance(value, str) and name not in _KEPT and not _DIGEST.fullmatch(value):
            return changed(value)
        case StructType(fields=fields) if isinstance(value, dict):
            types = {field.encode_name: field.type for field in fields}
            return {key: _with(one, types[key], changed, key) if key in types else one for key, one in value.items()}
        case UnionType(types=options):
            for option in options:
                value = _with(value, option, changed, name)
            return value
        case VarTupleType(item_type=inner) if isinstance(value, list | tuple):
            return [_with(one, inner, changed) for one in value]
        case DictType() if isinstance(value, dict) and name != "grouping":
            return {changed(key): one for key, one in (value or {"key": 1}).items()}
    return value
