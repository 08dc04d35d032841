"""A training in several processes that ``accelerate launch`` or ``torchrun`` starts, told by files in a scratch folder.

``[training] launcher = "accelerate launch --num_processes 2"`` has the trainer start the processes by that command; the
first of them measures, reports each step on standard output, and writes what the training came to.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from instar.engine.ports import Progress, TrainOutcome, TrainRequest
from instar.fsm.errors import EffectFailedError

logger = logging.getLogger("instar.engine")

GRACE_S = 45.0
"""torchrun gives its processes 30 s to end before it kills them."""
REQUEST, OUTCOME = "request.json", "outcome.json"
_STEP = "instar-step"
_TAIL_CHARS = 2000


class Asked(Struct, frozen=True):
    """What the processes are told."""

    request: TrainRequest
    threads: int
    device: str
    keep_every_s: float


def launch(launcher: str, asked: Asked, progress: Progress) -> TrainOutcome:
    """Trains in the processes that a command starts, and waits for them.

    Raises:
        EffectFailedError: the command cannot be run, or the processes failed.
    """
    scratch = asked.request.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / OUTCOME).unlink(missing_ok=True)
    (scratch / REQUEST).write_bytes(msgspec.json.encode(asked, enc_hook=str))
    command = [*shlex.split(launcher), "-m", "instar.engine.training.launched", str(scratch)]
    errors = scratch / "launched.log"
    try:
        with (
            errors.open("wb") as log,
            # In a group of its own, which can be killed as one; Ctrl-C then reaches it through us alone.
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True) as run,
        ):
            try:
                _follow(run, progress)
            except BaseException:
                _end(run)
                raise
    except OSError as error:
        raise EffectFailedError(f"training.launcher cannot be run: {error}") from error
    if run.returncode != 0 or not (scratch / OUTCOME).is_file():
        told = errors.read_text(errors="replace")[-_TAIL_CHARS:]
        raise EffectFailedError(f"the launched training ended with code {run.returncode}: {told}")
    return msgspec.json.decode((scratch / OUTCOME).read_bytes(), type=TrainOutcome, dec_hook=_path)


def _end(run: subprocess.Popen[str]) -> None:
    """Ends the processes; a launcher that does not end when it is told to is killed, with what it started."""
    run.terminate()  # a launcher hands that on to the processes it started
    try:
        run.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        logger.warning("the launched training did not end within %g s and is killed", GRACE_S)
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def _follow(run: subprocess.Popen[str], progress: Progress) -> None:
    assert run.stdout is not None
    for line in run.stdout:
        word, _, told = line.partition(" ")
        if word == _STEP:
            step, steps, loss = told.split()
            progress(int(step), int(steps), float(loss))


def _path(kind: type, value: object) -> Path:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(f"nothing here is a {kind.__name__}")


def main(scratch: Path) -> None:
    """Trains as one of the processes; rank and number of them are in the environment."""
    import torch

    from instar.engine.trainer import MiniLMTrainer, device_of

    from .shards import Shards

    asked = msgspec.json.decode((scratch / REQUEST).read_bytes(), type=Asked, dec_hook=_path)
    device = device_of(asked.device)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    shards = Shards()
    grouped = "RANK" in os.environ  # accelerate starts a single process without naming a group
    if grouped:
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
        shards = Shards(torch.distributed.get_rank(), torch.distributed.get_world_size())

    def report(step: int, steps: int, loss: float) -> None:
        if shards.first:
            sys.stdout.write(f"{_STEP} {step} {steps} {loss!r}\n")
            sys.stdout.flush()

    trainer = MiniLMTrainer(asked.threads, device=device, keep_every_s=asked.keep_every_s, shards=shards)
    outcome = trainer.train(asked.request, report)
    if shards.first:
        (scratch / OUTCOME).write_bytes(msgspec.json.encode(outcome, enc_hook=str))
    if grouped:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main(Path(sys.argv[1]))
