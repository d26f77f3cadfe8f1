"""The one place that sets thread pools. Call `limit_threads` first thing in a process, before torch or JAX load."""

from __future__ import annotations

import os
import sys


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
