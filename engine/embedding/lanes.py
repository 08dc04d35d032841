"""Work of torch side by side: a batch a thread, in place of all threads on each batch.

Threads that share every product wait for each other a hundred times a batch; on two cores that something else uses too,
that cost five times as much as the products. And what one thread computes depends on no number of threads.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def lanes() -> int:
    """Says how many pieces of work are done at a time."""
    import torch

    return torch.get_num_threads() if can_part() else 1


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Does each piece of work in a thread that computes alone, as many at a time as torch has threads here.

    Where torch cannot be told so for a thread of its own, or has but one, they are done here, one after another.
    """
    threads = lanes()
    if threads == 1 or not items:
        return [work(item) for item in items]
    return list(_pool(threads).map(work, items))


@cache
def can_part() -> bool:
    """Says whether a thread can be made to compute alone, whatever the others do."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_compute_alone).result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="instar-embed", initializer=_compute_alone)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def _compute_alone() -> bool:
    """Has the calling thread compute alone, and no other: ``torch.set_num_threads`` would tell all that are to come."""
    import torch

    torch.get_num_threads()  # which gives the thread the number of all others, for the last time
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        torch_cpu = ctypes.CDLL(str(library))
        torch_cpu.MKL_Set_Num_Threads_Local(1)  # so written it takes a number, in small letters a pointer
        torch_cpu.omp_set_num_threads(1)
    except (OSError, AttributeError):  # another platform, or built with other libraries
        return False
    return torch.get_num_threads() == 1
