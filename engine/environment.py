"""Where an effect is computed, as its outcome records it: what the bits depend on beside the recorded inputs."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from instar.fsm.events import Environment

from .version import VERSION

LIBRARIES = ("numpy", "sentence-transformers", "tokenizers", "torch", "transformers", "usearch")
"""What vectors and weights go through; the version of torch names its build too, such as ``2.13.0+cpu``."""
_CPUINFO = Path("/proc/cpuinfo")


def of_text() -> Environment:
    """Describes this process for effects that compute texts: they depend on Instar and on Python's own parser."""
    return Environment(engine=VERSION, python=platform.python_version())


def of_model(precision: str, threads: int | None = None, packages: Iterable[str] = ()) -> Environment:
    """Describes this process for effects that run a model; loads torch.

    Args:
        precision: what the model multiplies in.
        threads: how many torch takes; by default what it is set to now.
        packages: what runs the model in torch's place.
    """
    import torch

    return Environment(
        engine=VERSION,
        python=platform.python_version(),
        processor=f"{_processor()} {torch.backends.cpu.get_cpu_capability()}",
        threads=threads or torch.get_num_threads(),
        precision=precision,
        libraries=libraries(packages),
    )


def libraries(packages: Iterable[str] = ()) -> dict[str, str]:
    """Gives the versions of what vectors and weights go through, and of some packages more; loads nothing."""
    return {name: _version(name) for name in sorted({*LIBRARIES, *packages})}


def of_device(device: str, precision: str) -> Environment:
    """Describes this process for a training on another device than the CPU; loads torch."""
    import torch

    here = of_model(precision)
    return msgspec.structs.replace(here, processor=f"{device} {torch.cuda.get_device_name()}")


def differing(recorded: Environment, here: Environment) -> dict[str, tuple[str, str]]:
    """Lists what of two environments differs: name → (recorded, here)."""
    before, after = _flat(recorded), _flat(here)
    return {
        name: (before.get(name, "absent"), after.get(name, "absent"))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Has torch use that many threads (0: as many as now) and puts the number back: it belongs to the host."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _flat(environment: Environment) -> dict[str, str]:
    content = msgspec.structs.asdict(environment)
    libraries: dict[str, str] = content.pop("libraries")
    return {name: str(value) for name, value in content.items()} | libraries


@cache
def _processor() -> str:
    """Names the processor by what decides on the code that libraries choose for it, not by what it is sold as."""
    facts: dict[str, str] = {}
    try:
        for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    known = " ".join(facts[name] for name in ("vendor_id", "cpu family", "model") if name in facts)
    return f"{platform.machine()} {known or platform.processor()}".strip()


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
