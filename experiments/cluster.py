"""Tasks over the workers of a Ray cluster: the same handlers, the same outcomes as `experiments.processes`.

Each worker is an actor of one CPU with the same limits as a local process. A worker that dies is replaced and its task
tried again; a task that keeps killing its worker is listed as failed. Workers on other machines see the study's folders
under the same paths (a shared file system) and have wmplan installed.
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.processes import Done, WorkersBroken, one_line, prepared
from wmplan.errors import InputError

TRIES = 2
"""A task whose worker died is given to another one, so many times in all."""
OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's shared memory on this machine: tasks are names and results small tables."""


def run_on_ray(
    factory: str, settings: Any, tasks: Sequence[str], workers: int, sealed: tuple[Path, ...], address: str
) -> Iterator[Done]:
    """The outcome of each task, in the order in which they finish; see `experiments.processes.run_tasks`.

    `address` is that of a running cluster; empty starts one on this machine, with as many CPUs as workers, and ends it
    with the last task.

    Raises:
        InputError: Ray isn't installed, or no cluster answers at the address.
        WorkersBroken: `factory` raised, so no task could be done.
    """
    with _cluster(workers, address) as ray:
        serve = ray.remote(num_cpus=1, max_restarts=0)(Serving)
        content = pickle.dumps(settings)
        waiting, tries = deque(tasks), Counter[str]()
        idle: deque[Any] = deque()
        held: dict[Any, tuple[str, Any]] = {}
        crew = 0
        while waiting or held:
            while waiting and (idle or crew < max(1, workers)):
                if idle:
                    worker = idle.popleft()
                else:
                    worker, crew = serve.remote(factory, content, sealed), crew + 1
                task = waiting.popleft()
                tries[task] += 1
                held[worker.do.remote(task)] = task, worker
            ready, _ = ray.wait(list(held), num_returns=1)
            task, worker = held.pop(ready[0])
            try:
                result, error, details = ray.get(ready[0])
            except ray.exceptions.ActorDiedError as problem:
                crew -= 1
                if tries[task] < TRIES:
                    waiting.append(task)
                else:
                    message = f"its worker died {TRIES} times"
                    yield Done(task, None, message, one_line(problem))
                continue
            if error.startswith(_BROKEN):
                raise WorkersBroken(error.removeprefix(_BROKEN))
            idle.append(worker)
            yield Done(task, result, error, details)


_BROKEN = "broken: "


class Serving:
    """A worker on the cluster: prepared once, then one task after another."""

    def __init__(self, factory: str, content: bytes, sealed: tuple[Path, ...]) -> None:
        self._broken, self._handle = "", None
        try:
            self._handle = prepared(factory, content, sealed)
        except Exception as error:  # an actor whose constructor raises only says that it died
            self._broken = _BROKEN + one_line(error)

    def do(self, task: str) -> tuple[Any, str, str]:
        """Result, error in one line, details."""
        if self._handle is None:
            return None, self._broken, ""
        try:
            return self._handle(task), "", ""
        except Exception as error:
            return None, one_line(error), ""


@contextmanager
def _cluster(workers: int, address: str) -> Iterator[Any]:
    """Ray, connected."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # its workers yield to everybody else (15) unless told otherwise
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError("executor=ray needs Ray: pip install 'wmplan[ray]'") from error
    with tempfile.TemporaryDirectory(prefix="wmplan-ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        here: dict[str, Any] = {
            "num_cpus": max(1, workers),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": folder,
        }
        how: dict[str, Any] = {"address": address} if address else here
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **how)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"executor=ray: no cluster answers at {address or 'this machine'} ({error})") from error
        try:
            yield ray
        finally:
            ray.shutdown()
