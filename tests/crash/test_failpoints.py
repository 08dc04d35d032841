"""kill -9 at every named failpoint: what was recorded stays, and the next process ends what was begun, once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.engine.tool_executor import execute
from instar.engine.worker import Worker
from instar.fsm.events import BlobsCollected, ProbationEnded, RollbackFinished, RollbackStarted, TaskQueued
from instar.fsm.react import EffectName
from instar.fsm.words import State
from instar.store.log import Pending
from instar.store.packing import is_pressed
from instar.store.reader import LogReader
from tests.crash.power_workload import LARGE
from tests.crash.test_worker_killed import POINTS
from tests.engine.agents import PROJECT, agent_folder, code_only, contents, instar
from tests.engine.test_kernel import GATE, GOOD
from tests.store.logs import feedback

PASSES_MAX = 3
NEVER = {f"{name}.{place}" for name in ("roll_forward", "end_probation") for place in ("done", "recorded")}
"""These are no effects with an outcome of their own: the loop does not pass there."""

_APPENDER = """
import sys
from pathlib import Path
from instar.store.log import EventLog
from tests.crash.power_workload import LARGE, naming
from tests.store.logs import feedback
log = EventLog(Path(sys.argv[1]))
naming(log, LARGE)
for number in range(3):
    log.append(feedback(number), key=f"appended {number}")
log.close()
"""


@dataclass(frozen=True)
class Scenario:
    """What a process does when it is killed, and what has to be there once another has gone on.

    Args:
        prepare: sets the agent's folder up.
        act: does the work, with failpoints armed or not; gives the exit code.
        finish: what a user does afterwards.
        check: looks at the outcome.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path, str], int]
    finish: Callable[[Path], None]
    check: Callable[[Path], None]


def log_of(root: Path) -> LogReader:
    return LogReader(root / ".instar" / "log.db")


def hashes(root: Path) -> dict[int, str]:
    reader = log_of(root)
    found = {row[0]: row[13] for row in reader.rows()}
    keys = Counter(row[9] for row in reader.rows() if row[9])
    assert all(count == 1 for count in keys.values()), keys
    reader.close()
    return found


def ran(root: Path, *arguments: str, stdin: bytes = b"", armed: str = "") -> int:
    environ = {"INSTAR_FAILPOINTS": armed} if armed else {}
    done = instar(*arguments, cwd=root, stdin=stdin, **environ)
    assert done.returncode in (0, -9), done.stderr.decode()
    return done.returncode


# ---- rollback --------------------------------------------------------------------------------------------------------


def edited_agent(root: Path) -> None:
    runtime = code_only(root)
    (root / "heuristics.py").write_text("def score(a, b):\n    return 0\n")
    (root / "notes.txt").unlink()
    (root / "new.py").write_text("x = 1\n")
    take_snapshot(runtime, "edited")
    runtime.close()


def roll_back(root: Path, armed: str) -> int:
    if not armed.startswith("restore.kept"):
        return ran(root, "rollback", "1", "-y", armed=armed)
    # Only what somebody wrote between the plan and the restore is kept aside.
    assert ran(root, "rollback", "1", "-y", armed="rollback.started=kill") == -9
    (root / "heuristics.py").write_text("typed since\n")
    return ran(root, "rollback", "latest", "-n", armed=armed)


def rolled_back(root: Path) -> None:
    begun = log_of(root).state_at().restoring
    ran(root, *(("rollback", "latest", "-n") if begun else ("rollback", "1", "-y")))


def is_rolled_back(root: Path) -> None:
    code_only(root.with_name("fresh")).close()
    assert contents(root) == contents(root.with_name("fresh"))
    finished = [record.event for record in log_of(root).read(types=[RollbackFinished])]
    assert 1 <= len(finished) <= 2  # the second is of a rollback that was asked for again
    assert not list((root / ".instar" / "staging").glob("*/*"))


# ---- mutation --------------------------------------------------------------------------------------------------------


def agent(root: Path) -> None:
    code_only(root).close()


def mutate(root: Path, armed: str) -> int:
    gate = " ".join(["python", *(f"'{one}'" for one in GATE[1:])])
    return ran(root, "mutate", "--patch", "-", "--gate", gate, stdin=GOOD.encode(), armed=armed)


def gone_on(root: Path) -> None:
    assert ran(root, "run", "--once") == 0


def is_mutated(root: Path) -> None:
    assert "b + a" in (root / "heuristics.py").read_text()
    kinds = [type(record.event).__name__ for record in log_of(root).read()]
    assert (kinds.count("MutationAccepted"), kinds.count("MutationApplied")) == (1, 1)


# ---- a trigger file --------------------------------------------------------------------------------------------------


def triggered_agent(root: Path) -> None:
    agent(root)
    trigger = root / "run" / "checkpoints" / "retrain_trigger.json"
    trigger.parent.mkdir(parents=True, exist_ok=True)
    trigger.write_text(json.dumps({"trigger": "cron"}))


def work(root: Path, armed: str) -> int:
    return ran(root, "run", "--once", armed=armed)


def is_taken_once(root: Path) -> None:
    tasks = [record.event for record in log_of(root).read(types=[TaskQueued])]
    assert [task.source for task in tasks] == ["trigger_file:cron"]  # type: ignore[union-attr]


# ---- appends and the creation of a log -------------------------------------------------------------------------------


def append(root: Path, armed: str) -> int:
    command = [sys.executable, "-c", _APPENDER, str(root / ".instar" / "log.db")]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "INSTAR_FAILPOINTS": armed}
    code = subprocess.run(command, cwd=PROJECT, env=environ, check=False).returncode
    assert code in (0, -9)
    return code


def appended(root: Path) -> None:
    assert append(root, "") == 0


def is_appended(root: Path) -> None:
    keys = [row[9] for row in log_of(root).rows() if row[9]]
    assert keys == [f"appended {number}" for number in range(3)]


def initialize(root: Path, armed: str) -> int:
    agent_folder(root)
    return ran(root, "init", "--no-model", armed=armed)


def initialized(root: Path) -> None:
    assert initialize(root, "") == 0


def is_initialized(root: Path) -> None:
    assert log_of(root).head() == 1


# ---- an erasure ------------------------------------------------------------------------------------------------------


def erasable(root: Path) -> None:
    runtime = code_only(root)
    digest = runtime.blobs.put(LARGE)
    runtime.log.append(replace(feedback(1), log=digest))
    runtime.close()


def erase(root: Path, armed: str) -> int:
    return ran(root, "erase", "2", "--reason", "asked for", "-y", armed=armed)


def erased(root: Path) -> None:
    if log_of(root).erased(2) is None:
        assert erase(root, "") == 0
    else:
        gone_on(root)


def is_erased(root: Path) -> None:
    assert log_of(root).erased(2) is not None
    assert not [path for path in (root / ".instar" / "blobs").rglob("*") if path.is_file()]


# ---- a collection ----------------------------------------------------------------------------------------------------


def collectable(root: Path) -> None:
    """An agent with a named point, orphans of an effect that crashed, and blobs that no compaction has seen."""
    edited_agent(root)
    runtime = Runtime(root, actor="test")
    runtime.blobs.put(LARGE)
    runtime.blobs.put(b"a small orphan")
    runtime.log.append(feedback(1))
    runtime.close()
    gone_on(root)


def sweep(root: Path, armed: str) -> int:
    return ran(root, "gc", "--days", "0", "-y", armed=armed)


def swept(root: Path) -> None:
    assert sweep(root, "") == 0


def is_swept(root: Path) -> None:
    reader = log_of(root)
    assert len(list(reader.read(types=[BlobsCollected]))) == 1
    assert not [path for path in (root / ".instar" / "blobs").rglob("*") if path.is_file()]
    assert all(is_pressed(head) for _, size, _, head in reader.stored_forms() if size >= 96)
    reader.close()
    assert ran(root, "rollback", "snapshot:edited", "-y") == 0
    assert (root / "new.py").read_text() == "x = 1\n"
    assert not (root / "notes.txt").exists()


# ---- probation ------------------------------------------------------------------------------------------------------


def watched_agent(root: Path) -> None:
    """An agent whose mutation is about to lose its probation: one more cycle, and it is due."""
    runtime = code_only(root)
    events = [replace(feedback(number), outcome="pass") for number in range(20)]
    runtime.log.transact(lambda _: [Pending(event) for event in events])
    Worker(runtime).run_once()
    execute(runtime, {"type": "mutate", "patch": GOOD, "gate": GATE}, source="test")
    Worker(runtime).run_once()
    events = [replace(feedback(number), outcome="fail") for number in range(30, 38)]
    runtime.log.transact(lambda _: [Pending(event) for event in events])
    runtime.close()


def is_undone(root: Path) -> None:
    reader = log_of(root)
    (verdict,) = reader.read(types=[ProbationEnded])
    assert isinstance(verdict.event, ProbationEnded)
    assert verdict.event.verdict == "undone"
    assert len(list(reader.read(types=[RollbackStarted]))) == len(list(reader.read(types=[RollbackFinished]))) == 1
    assert not reader.state_at().mutation_probations
    assert "return a + b" in (root / "heuristics.py").read_text()
    reader.close()


ROLLBACK = Scenario(edited_agent, roll_back, rolled_back, is_rolled_back)
MUTATION = Scenario(agent, mutate, gone_on, is_mutated)
PROBATION = Scenario(watched_agent, work, gone_on, is_undone)
TRIGGER = Scenario(triggered_agent, work, gone_on, is_taken_once)
APPENDS = Scenario(agent, append, appended, is_appended)
COLLECTION = Scenario(collectable, sweep, swept, is_swept)
ERASURE = Scenario(erasable, erase, erased, is_erased)
CREATION = Scenario(Path.mkdir, initialize, initialized, is_initialized)
SCENARIOS = {
    "rollback.": ROLLBACK,
    "restore.": ROLLBACK,
    "mutate.": MUTATION,
    "roll_forward.": MUTATION,
    "probation.": PROBATION,
    "end_probation.": PROBATION,
    "trigger.": TRIGGER,
    "log.ma": CREATION,
    "log.migrated": CREATION,
    "log.named": CREATION,
    "log.": APPENDS,
    "blob.": APPENDS,
    "durable.": APPENDS,
    "blob.forgotten": ERASURE,
    "log.checkpointed": ERASURE,
    "gc.": COLLECTION,
    "log.collected": COLLECTION,
    "log.vacuumed": COLLECTION,
}
"""By what a failpoint's name begins with, the longest first; the effects of a cycle are in test_worker_killed.py."""


ELSEWHERE = {
    "reembed.kept": "engine/test_search.py",
    "train.step": "crash/test_training_killed.py",
    **dict.fromkeys(("log.asked", "log.answered", "log.taken", "log.served"), "crash/test_asking_killed.py"),
}
"""Failpoints inside one effect, which a test of that effect kills at."""


def named_failpoints() -> set[str]:
    """Finds every failpoint in the code."""
    found = set()
    for room in ("engine", "store", "fsm"):
        for path in (PROJECT / room).rglob("*.py"):
            for formatted, name in re.findall(r'failpoint\((f?)"([^"]+)"\)', path.read_text()):
                names = [name.replace("{effect.name}", effect) for effect in EffectName] if formatted else [name]
                found.update(names)
    return found - NEVER - set(ELSEWHERE)


def scenario_of(name: str) -> Scenario:
    return next(SCENARIOS[start] for start in sorted(SCENARIOS, key=len, reverse=True) if name.startswith(start))


def killed_at(folder: Path, name: str, passes_max: int) -> int:
    """Kills at the first pass of a failpoint, then at the second, and so on; gives how often it could."""
    scenario = scenario_of(name)
    for passes in range(1, passes_max + 1):
        root = folder / f"{name}-{passes}" / "agent"
        root.parent.mkdir()
        scenario.prepare(root)
        if scenario.act(root, f"{name}=kill@{passes}") == 0:
            return passes - 1
        before = hashes(root) if (root / ".instar" / "log.db").exists() else {}
        scenario.finish(root)
        after = hashes(root)
        assert before.items() <= after.items(), "an event that was recorded before the kill is gone"
        state = log_of(root).state_at()
        assert state.restoring is None
        assert state.machine is State.IDLE
        scenario.check(root)
        assert ran(root, "verify") == 0
        shutil.rmtree(root.parent)
    return passes_max


def test_every_failpoint_has_somebody_who_kills_there() -> None:
    left = [name for name in named_failpoints() - set(POINTS) if not name.startswith(tuple(SCENARIOS))]
    assert not left, "add a scenario for them"
    assert set(POINTS) <= named_failpoints()
    assert all(f"{name}=kill@" in (PROJECT / "tests" / path).read_text() for name, path in ELSEWHERE.items())


@pytest.mark.parametrize("name", ["roll_forward.owed", "trigger.taken", "blob.forgotten", "log.collected"])
def test_killed_process_is_followed_by_one_that_ends_its_work(tmp_path: Path, name: str) -> None:
    assert killed_at(tmp_path, name, passes_max=1) == 1


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_killed_at_every_failpoint_and_pass(tmp_path: Path) -> None:
    names = sorted(named_failpoints() - set(POINTS))
    kills = {name: killed_at(tmp_path, name, PASSES_MAX) for name in names}
    assert all(kills.values()), f"never passed: {[name for name, count in kills.items() if not count]}"
    print(f"\n{sum(kills.values())} kills at {len(kills)} failpoints: nothing lost, nothing twice ({kills})")
