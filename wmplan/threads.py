"""The one place that sets thread pools. Call `limit_threads` first thing in a process, before torch or JAX load."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_side_by_side = 1


def limit_threads(threads: int) -> None:
    """Give every numeric library of this process `threads` threads.

    Studies run one single-threaded process a core: faster than one process with many threads for small networks, and
    the same bytes on any number of workers. JAX reads its flags when it loads, torch can be told at any time.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(threads)
    # XLA reports pseudo-features ("prefer-no-gather") as errors whenever it loads a program from its own cache.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
    if threads == 1 and "jax" not in sys.modules:
        flags = os.environ.get("XLA_FLAGS", "")
        wanted = "--xla_cpu_multi_thread_eigen=false"
        if wanted not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {wanted}".strip()
    import torch

    torch.set_num_threads(threads)


def work_side_by_side(threads: int) -> None:
    """Let imagination in this process run `threads` passes at once, each on one thread; 1 unless this is called.

    For one scene that has to be answered quickly. A study has a process a core instead. Numeric libraries must have one
    thread each (`limit_threads(1)`), so that a pass is the same program wherever it runs.

    Raises:
        ValueError: fewer than one, or several where a library has several of its own.
    """
    import torch

    global _side_by_side
    if threads < 1 or (threads > 1 and torch.get_num_threads() > 1):
        raise ValueError(f"{threads} threads beside torch's {torch.get_num_threads()}, expected torch to have one")
    _side_by_side = threads


def side_by_side() -> int:
    """How many passes may run at once."""
    return _side_by_side


def each(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Call `work` once for every item, so many at once as `work_side_by_side` said, and wait for all.

    Which thread takes which item is left open: `work` writes to places that belong to its item alone.
    """
    if _side_by_side == 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(_side_by_side) as crew:
        for done in [crew.submit(work, item) for item in items]:
            done.result()
