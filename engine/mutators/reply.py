"""Reads a model's answer: one unified diff, or one whole file, of files that it was shown; all else is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from instar.fsm.errors import InputRefused

_FENCE: Final = re.compile(r"^(`{3,})([^`\n]*)\n(.*?)^\1[ \t]*$", re.M | re.S)
_HUNK: Final = re.compile(r"^@@ -(\d{1,7})(?:,\d{1,7})? \+\d{1,7}(?:,\d{1,7})? @@")
_FILE: Final = re.compile(r"path=(\S+)")


def read_reply(text: str, files: Mapping[str, bytes], hidden: Collection[str] = ()) -> dict[str, bytes]:
    """Gives the new bytes of the file that an answer changes, by its path.

    Args:
        text: the answer.
        files: what may be changed.
        hidden: those of which parts were not shown: a whole file in their place would lose these.

    Raises:
        InputRefused: the answer is not one fenced diff or file, is of a file that may not be changed, or does not fit.
    """
    blocks = _FENCE.findall(text.replace("\r\n", "\n"))
    if len(blocks) != 1:
        raise InputRefused(f"the model's answer has {len(blocks)} fenced blocks; it was asked for one")
    (_, about, body) = blocks[0]
    named = _FILE.search(about)
    if named is None:
        return _patched(body, files)
    path = named[1].strip("\"'")
    if path not in files:
        raise InputRefused(f"the model's answer is of {path[:200]!r}, which is none of the files that may be changed")
    if path in hidden:
        raise InputRefused(f"the model's answer is all of {path}, of which it was not shown all")
    return {path: body.encode("utf-8", "surrogatepass")}


def _patched(patch: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    lines = patch.split("\n")
    olds = [line[4:].split("\t")[0].strip() for line in lines if line.startswith("--- ")]
    news = [line[4:].split("\t")[0].strip() for line in lines if line.startswith("+++ ")]
    if len(olds) != 1 or len(news) != 1:
        raise InputRefused("the model's answer is no unified diff of one file")
    old, new = olds[0].removeprefix("a/"), news[0].removeprefix("b/")
    if old != new or old not in files:
        raise InputRefused(f"the model's answer is of {old[:200]!r}, which is none of the files that may be changed")
    try:
        source = files[old].decode()
    except UnicodeDecodeError:
        raise InputRefused(f"{old} is not UTF-8: no diff is applied to it") from None
    end = "\r\n" if "\r\n" in source else "\n"
    content = source.split(end)
    for at, before, after in _hunks(lines):
        place = _place(content, before, at)
        content[place : place + len(before)] = after
    return {old: end.join(content).encode("utf-8", "surrogatepass")}


def _hunks(lines: list[str]) -> list[tuple[int, list[str], list[str]]]:
    """Splits a diff into hunks: the line where each says that it stands, what it takes and what it puts."""
    found: list[tuple[int, list[str], list[str]]] = []
    for line in lines:
        header = _HUNK.match(line)
        if header:
            found.append((int(header[1]), [], []))
        elif not found or line.startswith("\\"):
            continue
        elif line[:1] in (" ", "-", "+"):
            if line[0] != "+":
                found[-1][1].append(line[1:])
            if line[0] != "-":
                found[-1][2].append(line[1:])
        elif line:
            raise InputRefused(f"the model's answer has a line that no diff has: {line[:80]!r}")
    if not found or not any(before != after for _, before, after in found):
        raise InputRefused("the model's answer changes nothing")
    return found


def _place(content: list[str], before: list[str], at: int) -> int:
    """Finds the lines that a hunk takes, nearest to where it says: models count lines badly, but quote them."""
    if not before:
        raise InputRefused("the model's answer puts lines in without saying after which")
    size = len(before)
    places = [place for place in range(len(content) - size + 1) if content[place : place + size] == before]
    if not places:
        raise InputRefused("the model's answer does not fit the file: the lines that it takes are not there")
    nearest = min(abs(place - (at - 1)) for place in places)
    (place, *more) = [place for place in places if abs(place - (at - 1)) == nearest]
    if more:
        raise InputRefused("the model's answer fits two places equally well")
    return place
