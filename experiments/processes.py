"""Tasks over single-threaded worker processes: results do not depend on their number, a dead worker costs one task."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Done:
    """What became of one task: its result, or what went wrong in one line and (for the log) in full."""

    task: str
    result: Any
    error: str = ""
    details: str = ""


class WorkersBroken(RuntimeError):
    """The workers cannot start; the message is the cause in one line."""


@dataclass(frozen=True)
class Executor:
    """What carries tasks out: processes of this machine, or the workers of a Ray cluster (at an address; none: one that
    is started here)."""

    kind: Literal["processes", "ray"] = "processes"
    address: str = ""


def run_tasks(
    factory: str,
    settings: Any,
    tasks: Sequence[str],
    workers: int,
    sealed: tuple[Path, ...] = (),
    executor: Executor = Executor(),
) -> Iterator[Done]:
    """The outcome of each task, in the order in which they finish.

    Each process first limits its threads, then gives up the right to read what lies under `sealed` in each of the
    folders `sealed` (a store, the comparisons of earlier studies), and only then loads anything else: `factory`
    (`module:function`) is called once with `settings`, and the handler that it returns for one task after another. An
    exception in a task is that task's outcome; a process that dies (out of memory, a signal) is replaced, and the task
    it held is reported. When the parent dies, the workers see their pipe end and stop after the task at hand.

    Raises:
        WorkersBroken: `factory` raised, so no task could be done.
    """
    if executor.kind == "ray":
        from experiments.cluster import run_on_ray

        yield from run_on_ray(factory, settings, tasks, workers, sealed, executor.address)
        return
    waiting = deque(tasks)
    crew: list[_Worker] = []
    try:
        while waiting or any(worker.task is not None for worker in crew):
            while len(crew) < max(1, workers) and sum(worker.task is None for worker in crew) < len(waiting):
                crew.append(_Worker(factory, settings, sealed))
            for worker in crew:
                if worker.task is None and waiting and worker.ready:
                    worker.give(waiting.popleft())
            for worker in _heard(crew):
                outcome = worker.listen()
                if outcome is not None:
                    yield outcome
                if worker.dead:
                    crew.remove(worker)
    finally:
        for worker in crew:
            worker.stop()


def in_order(outcomes: Iterator[Done], tasks: Sequence[str]) -> Iterator[Done]:
    """The outcomes in the order of the tasks; those that finish early wait."""
    early: dict[str, Done] = {}
    for task in tasks:
        while task not in early:
            done = next(outcomes)
            early[done.task] = done
        yield early.pop(task)


class _Worker:
    """One process, the pipe to it, and the task it holds."""

    def __init__(self, factory: str, settings: Any, sealed: tuple[Path, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        # The settings go as bytes: to load them is to load libraries, and that must wait for the limits.
        content = pickle.dumps(settings)
        self.process = context.Process(target=_serve, args=(theirs, factory, content, sealed), daemon=True)
        self.process.start()
        theirs.close()
        self.task: str | None = None
        self.ready = False
        self.dead = False

    def give(self, task: str) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `listen` sees that and reports the task
            self.pipe.send(task)

    def listen(self) -> Done | None:
        try:
            kind, result, error, details = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._died()
        if kind == "broken":
            raise WorkersBroken(error)
        if kind == "ready":
            self.ready = True
            return None
        task, self.task = self.task or "", None
        return Done(task, result, error, details)

    def _died(self) -> Done | None:
        self.process.join()
        self.dead = True
        if not self.ready:
            raise WorkersBroken(f"a worker process ended with status {self.process.exitcode} while it started")
        if self.task is None:
            return None
        error = f"the worker process ended with status {self.process.exitcode}"
        return Done(self.task, None, error, error)

    def stop(self) -> None:
        self.pipe.close()
        if self.task is not None or not self.ready:
            self.process.terminate()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _heard(crew: list[_Worker]) -> list[_Worker]:
    """The workers that have something to say (or ended)."""
    spoken = wait([worker.pipe for worker in crew])
    return [worker for worker in crew if worker.pipe in spoken]


def _serve(pipe: Connection, factory: str, settings: bytes, sealed: tuple[Path, ...]) -> None:
    """A worker's life."""
    try:
        handle = prepared(factory, settings, sealed)
    except KeyboardInterrupt:
        return
    except BaseException as error:
        pipe.send(("broken", None, one_line(error), traceback.format_exc()))
        return
    pipe.send(("ready", None, "", ""))
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionResetError, KeyboardInterrupt):
            return
        try:
            reply = ("done", handle(task), "", "")
        except KeyboardInterrupt:
            return
        except Exception as error:
            reply = ("failed", None, one_line(error), traceback.format_exc())
        try:
            pipe.send(reply)
        except (BrokenPipeError, ConnectionResetError):
            return


def prepared(factory: str, settings: bytes, sealed: tuple[Path, ...]) -> Callable[[str], Any]:
    """What handles tasks in this process, after the process was limited to one thread and sealed off."""
    from wmplan.threads import limit_threads

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's remarks on its own compiled files
    limit_threads(1)
    if sealed:
        from wmplan.sealed import forbid

        for folder in sealed:
            forbid(folder)
    module, name = factory.split(":")
    return getattr(importlib.import_module(module), name)(pickle.loads(settings))  # type: ignore[no-any-return]


def one_line(error: BaseException) -> str:
    """`Kind: message`, without line breaks and not longer than a table can hold."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."
