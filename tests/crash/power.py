"""Every state in which a power cut can leave the files of a recorded process, each opened by the real code."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.crash import power_workload
from tests.crash.disk import Choose, Content, Disk, Fate, Written
from tests.crash.probes import Acknowledged, Found, look
from tests.crash.syscalls import Call, buffer_of, record
from tests.engine.agents import PROJECT

MEMORY = Path("/dev/shm")
"""Crash states are built in memory where that can be: they are looked at once."""


@dataclass
class Verdict:
    """How many states were built and looked at, and which of them lost something."""

    points: int = 0
    states: int = 0
    different: int = 0
    events_max: int = 0
    losses: list[str] = field(default_factory=list)
    syncs: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        syncs = ", ".join(f"{count} × {kind}" for kind, count in sorted(self.syncs.items()))
        return (
            f"{self.states} crash states at {self.points} points ({self.different} different, up to {self.events_max} "
            f"events; syncs: {syncs}), {len(self.losses)} with a loss"
        )


def recorded(root: Path, *parts: str, exit_code: int = 0) -> list[Call]:
    """Runs the workload on the log below ``root``; gives its calls that have to do with files there, or acknowledge."""
    trace = root.with_name(f"{root.name}.trace")
    command = [sys.executable, "-m", "tests.crash.power_workload", str(root), *parts]
    below = (str(root), "".join(f"\\x{byte:02x}" for byte in str(root).encode()))
    calls = record(command, trace, cwd=PROJECT, exit_code=exit_code)
    trace.unlink()
    return [call for call in calls if _acks(call) or any(path in text for text in _texts(call) for path in below)]


def _texts(call: Call) -> Iterator[str]:
    """What a call says, its buffer left out."""
    yield call.result_path
    yield from (argument for argument in call.arguments if len(argument) < 20_000)


def cut_everywhere(
    calls: Sequence[Call],
    disk: Disk,
    *,
    randoms: int,
    seed: int = 1,
    every: int = 1,
    acknowledged: Acknowledged | None = None,
    known: Iterable[str] = (),
    first_only: bool = False,
    seen: dict[bytes, Found] | None = None,
    look_at: Callable[[Path, Content], Found] | None = None,
) -> Verdict:
    """Cuts the power after every call, and looks at what the disk may then hold.

    Args:
        calls: what was recorded.
        disk: the disk that is fed with it; it may hold something already.
        randoms: how many states a point has beside the plain ones (all unsynced dropped, all kept, the last torn).
        seed: of those states.
        every: look at every n-th point alone.
        acknowledged: the events that the disk holds from the start.
        known: problems that the log had before, for an old log without its blobs.
        first_only: stop at the first loss.
        seen: what was found in states by their digest; a state is looked at once.
        look_at: builds a state in a folder, looks at it and removes it; the log is looked at by default.
    """
    verdict = Verdict(syncs=disk.syncs)
    past = set(known)
    seen = {} if seen is None else seen
    met: set[bytes] = set()
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    try:
        for number, promised in enumerate(_played(calls, disk, acknowledged or {})):
            if number % every:
                continue
            verdict.points += 1
            rng = random.Random(f"{seed} {number}")
            for how, choose in _choices(disk, rng, randoms):
                content = disk.after_cut(choose, rng)
                key = _digest(content)
                if key not in seen:
                    seen[key] = (look_at or _look)(folder / "cut", content)
                verdict.states += 1
                met.add(key)
                lost = [loss for loss in seen[key].losses(promised) if loss not in past]
                if lost:
                    verdict.losses.append(f"point {number}, {how}: {'; '.join(lost[:3])}")
            if first_only and verdict.losses:
                break
        verdict.events_max = max((len(seen[key].hashes) for key in met), default=0)
    finally:
        shutil.rmtree(folder)
    verdict.different = len(met)
    return verdict


def play(calls: Sequence[Call], disk: Disk) -> Disk:
    """Feeds a disk with all calls."""
    for _ in _played(calls, disk, {}):
        pass
    return disk


def _played(calls: Sequence[Call], disk: Disk, before: Acknowledged) -> Iterator[Acknowledged]:
    """Feeds the disk call by call; yields, at each point that matters, what was acknowledged until then."""
    acknowledged = dict(before)
    syncing = {}
    moments = sorted(
        [(call.began, 0, number) for number, call in enumerate(calls)]
        + [(call.ended, 1, number) for number, call in enumerate(calls)]
    )
    moved = disk.moved
    for _, ends, number in moments:
        call = calls[number]
        if not ends:
            acks = _acks(call)
            if "sync" in call.name:
                syncing[number] = disk.begin_sync(call)
            acknowledged.update(acks)
            if not acks:
                continue
        elif number in syncing:
            finish = syncing.pop(number)
            if finish:
                finish()
        else:
            disk.feed(call)
        if not ends or disk.moved != moved:
            moved = disk.moved
            yield acknowledged


def _acks(call: Call) -> Acknowledged:
    if call.name != "write" or not call.arguments[0].startswith("1<"):
        return {}
    lines = [line.split() for line in buffer_of(call.arguments[1]).decode().splitlines()]
    return {int(seq): own for word, seq, own in lines if word == "ack"}


def _choices(disk: Disk, rng: random.Random, randoms: int) -> Iterator[tuple[str, Choose]]:
    yield "all unsynced dropped", lambda _: Fate.DROPPED
    yield "all kept", lambda _: Fate.KEPT
    pending = disk.pending()
    writes = [one for one in pending if one is not None]
    if writes:
        last = writes[-1]
        yield "the last write torn", lambda one: Fate.TORN if one is last else Fate.KEPT
        yield "the last write alone kept", lambda one: Fate.KEPT if one is last or one is None else Fate.DROPPED
    for number in range(randoms if pending else 0):
        yield f"random part {number}", _random_fates(rng)


def _random_fates(rng: random.Random) -> Choose:
    kept = rng.choice((0.2, 0.5, 0.8, 0.95))

    def choose(one: Written | None) -> Fate:
        if rng.random() < kept:
            return Fate.KEPT
        return Fate.DROPPED if one is None else rng.choice((Fate.DROPPED, Fate.DROPPED, Fate.TORN, Fate.ZEROS))

    return choose


def _digest(content: Content) -> bytes:
    whole = sha256()
    for path, found in sorted(content.items()):
        if not path.endswith(".lock"):
            whole.update(f"{path}\0{len(found)}\0".encode())
            whole.update(found)
    return whole.digest()


def build(root: Path, content: Content) -> None:
    """Writes the files of a crash state."""
    root.mkdir()
    for path, found in sorted(content.items()):
        place = root / path
        if path.endswith("/"):
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(found)


def _look(root: Path, content: Content) -> Found:
    build(root, content)
    try:
        return look(root / power_workload.HOME / "log.db")
    finally:
        shutil.rmtree(root)
