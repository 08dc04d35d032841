"""The main job: an agent works, fails, learns, is broken by a bad edit, and is put back. ``make run`` runs it."""

from __future__ import annotations

import shutil
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

import instar
from instar.engine.restoring.rollback import RolledBack

from .agent import LOGIC_FILES, Answer, ApiFinder
from .follow import Follow
from .metrics import paired_bootstrap, recall_at_1, reciprocal_rank
from .world import ApiObject, collect, requests

HERE = Path(__file__).parent
WORKSPACE = HERE.parent.parent / "var" / "api_finder"
TO_LEARN, TO_JUDGE, AFTER_EDIT = 800, 400, 120
"""Requests from modules that may be learned, from held-out modules, and after the bad edit."""
CHUNK, LISTED = 100, 50
BAD_EDIT = ("np.argsort(-scores", "np.argsort(scores")
"""A sign lost while "simplifying" ``order``: the worst candidate comes first."""

Recorded = TypeVar("Recorded")

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def prepare() -> Path:
    """Sets up the agent's folder anew: its three logic files and the engine's settings."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    WORKSPACE.mkdir(parents=True)
    for name in (*LOGIC_FILES, "instar.toml"):
        shutil.copyfile(HERE / name, WORKSPACE / name)
    return WORKSPACE


def work(engine: instar.Engine, finder: ApiFinder, world: list[ApiObject], asked: list[ApiObject]) -> float:
    """Lets the agent answer, and tells the engine how each answer turned out; returns the share that was right."""
    texts = {thing.name: thing.text for thing in world}
    right = 0
    for start in range(0, len(asked), CHUNK):
        part = asked[start : start + CHUNK]
        answers = finder.answer_all([thing.request for thing in part], top=LISTED)
        right += sum(answer.name == thing.name for answer, thing in zip(answers, part, strict=True))
        engine.feedback_many(outcome(*pair, texts) for pair in zip(part, answers, strict=True))
    return right / len(asked)


def outcome(thing: ApiObject, answer: Answer, texts: dict[str, str]) -> dict[str, object]:
    """Describes one answer as feedback; the right answer is known, since the request came from its docstring.

    The reward is the reciprocal of the right answer's place in the agent's list, 0 where the list does not hold it.
    """
    verdict = "skip" if answer.name is None else "pass" if answer.name == thing.name else "fail"
    places = {name: place for place, (name, _) in enumerate(answer.top, 1)}
    return {
        "task_type": f"find {thing.kind}",
        "input": thing.request,
        "output": texts[answer.name] if answer.name else "",
        "reference": thing.text,
        "outcome": verdict,
        "confidence": answer.confidence,
        "reward": 1 / places[thing.name] if thing.name in places else 0.0,
        "group": thing.group,
    }


def fingerprint(folder: Path) -> dict[str, str]:
    """Hashes every byte of the agent's code and of its active model."""
    model = folder / "run" / "checkpoints" / "active"
    files = [path for path in folder.iterdir() if path.is_file()]
    files += [path for path in model.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def whole(prints: dict[str, str]) -> str:
    """Hashes a fingerprint into one line."""
    return sha256("\n".join(f"{name} {digest}" for name, digest in prints.items()).encode()).hexdigest()


def learning_table(held: list[ApiObject], before: np.ndarray, after: np.ndarray) -> Table:
    """Compares the ranks of the right answers on held-out modules, before and after the retrain."""
    table = Table(title="held-out modules, never trained on", title_justify="left")
    for name in ("requests", "measure", "before", "after", "gain", "95 % interval (bootstrap)"):
        table.add_column(name, justify="left" if name in ("requests", "measure") else "right")
    unseen = np.arange(len(held)) >= TO_JUDGE
    for label, chosen in (("all", np.ones(len(held), bool)), ("the gate never saw", unseen)):
        for measure, score in (("recall@1", recall_at_1), ("MRR", reciprocal_rank)):
            old, new = score(before[chosen]), score(after[chosen])
            gain = paired_bootstrap(old, new)
            table.add_row(
                f"{label} ({chosen.sum()})",
                measure,
                f"{old.mean():.3f}",
                f"{new.mean():.3f}",
                f"{gain.mean:+.3f}",
                f"[{gain.low:+.3f}, {gain.high:+.3f}]",
            )
    return table


def learn(engine: instar.Engine, finder: ApiFinder, world: list[ApiObject]) -> None:
    """Lets the agent work and the engine learn from it, and shows what it gained on modules that it never saw."""
    held, free = requests(world, held=True), requests(world, held=False)
    before = finder.ranks([thing.request for thing in held], [thing.name for thing in held])
    todo = [*free[:TO_LEARN], *held[:TO_JUDGE]]
    todo.sort(key=lambda thing: sha256(thing.request.encode()).digest())
    console.rule(f"[bold]1. The agent works through {len(todo)} requests; the engine learns from its failures")
    with Follow(engine):
        right = work(engine, finder, world, todo)
        engine.wait(timeout_s=600)
    console.print(f"right at first: {right:.1%} of {len(todo)} requests")
    verdicts = [event for event in recorded(engine, instar.events.OutcomeRewarded) if event.subject == "checkpoint"]
    told = [f"{event.verdict}: {event.reason}" for event in verdicts] or ["no checkpoint was trained"]
    console.print(f"the gate: {'; '.join(told)}")
    finder.index()
    after = finder.ranks([thing.request for thing in held], [thing.name for thing in held])
    console.print(learning_table(held, before, after))


def recorded(engine: instar.Engine, kind: type[Recorded]) -> list[Recorded]:
    """Reads the events of one type."""
    return [record.event for record in engine.events() if isinstance(record.event, kind)]


def rewards(engine: instar.Engine) -> dict[str, float]:
    """Reads the mean reward of each task type that is common enough to show."""
    return {row["task_type"]: row["mean"] for row in engine.status().rewards if row["count"] >= 20}


def break_it(engine: instar.Engine, finder: ApiFinder, world: list[ApiObject]) -> None:
    """Makes a bad edit, and shows how rewards fall and the flag is raised."""
    console.rule("[bold]2. A bad edit to heuristics.py")
    edited = engine.status().head
    path = WORKSPACE / "heuristics.py"
    path.write_text(path.read_text().replace(*BAD_EDIT))
    finder.reload()
    console.print(f"{BAD_EDIT[0]}…  →  {BAD_EDIT[1]}…")
    earlier = rewards(engine)
    with Follow(engine):
        right = work(engine, finder, world, requests(world, held=False)[TO_LEARN : TO_LEARN + AFTER_EDIT])
        engine.wait(timeout_s=300)
    console.print(f"right after the edit: {right:.1%} of {AFTER_EDIT} requests")
    table = Table(title="mean reward by task type", title_justify="left")
    for name in ("task type", "before the edit", "after it"):
        table.add_column(name, justify="left" if name == "task type" else "right")
    for name, mean in rewards(engine).items():
        table.add_row(name, f"{earlier.get(name, float('nan')):.3f}", f"{mean:.3f}")
    console.print(table)
    flags = [flag for flag in recorded(engine, instar.events.RetrainFlagged) if flag.triggers[0].events[0] > edited]
    for trigger in (trigger for flag in flags for trigger in flag.triggers):
        console.print(
            f"flagged: {trigger.policy} {trigger.value:.2f} (threshold {trigger.threshold:.2f}), {trigger.note}"
        )


def prove(label: str, done: RolledBack, wanted: dict[str, str]) -> bool:
    """Compares every byte with what stood there, and says so."""
    found = fingerprint(WORKSPACE)
    same = found == wanted
    console.print(
        f"rolled back to {label} (event {done.target}): {done.changed} code files and the checkpoint put back"
    )
    console.print(f"  then  {whole(wanted)}  {len(wanted)} files, code and model")
    console.print(f"  now   {whole(found)}  {'[bold green]every byte as before' if same else '[bold red]DIFFERENT'}")
    return same


def main() -> int:
    """Runs the whole story; the exit code says whether every byte came back and the log holds."""
    started = time.monotonic()
    root = prepare()
    console.rule("[bold]The API finder, with Instar embedded")
    world = collect()
    console.print(f"world: {len(world)} functions and classes of the standard library and of installed packages")
    with instar.Engine(root) as engine:
        first = fingerprint(root)
        finder = ApiFinder(engine.embed, world, logic=root)
        learn(engine, finder, world)
        engine.snapshot("good")
        good = fingerprint(root)
        break_it(engine, finder, world)
        console.rule("[bold]3. Rollback, proved by hash")
        proofs = [
            prove("snapshot:good", engine.rollback("snapshot:good"), good),
            prove("the very beginning", engine.rollback(1), first),
            prove("snapshot:good again", engine.rollback("snapshot:good"), good),
        ]
        finder.reload()  # the checkpoint is the one of "good" again, so what was embedded with it still stands
        again = work(engine, finder, world, requests(world, held=False)[TO_LEARN : TO_LEARN + AFTER_EDIT])
        console.print(f"right after the rollback: {again:.1%} of the same {AFTER_EDIT} requests")
        engine.wait(timeout_s=300)
        console.rule("[bold]4. The log, verified")
        replayed = engine.replay()
    console.print(
        f"{replayed.events} events, {replayed.transitions} transitions, {replayed.digests} state digests: whole"
    )
    console.print(f"head hash {replayed.head_hash}")
    console.print(f"\n{time.monotonic() - started:.0f} s. Look further, with .venv/bin on your PATH:")
    for line in ("status", "log", "lineage", "show latest", "search 'sort a list'", "replay --verify", "dashboard"):
        console.print(f"  instar {line} -C {root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root}")
    return 0 if all(proofs) else 1


if __name__ == "__main__":
    sys.exit(main())
