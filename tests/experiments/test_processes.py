"""Workers: every task answered once, a dead process costs one task, a sealed process cannot read the future."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.processes import WorkersBroken, run_tasks

HERE = "test_processes"


def doubling(settings: int) -> Callable[[str], object]:
    def handle(task: str) -> object:
        if task == "dies":
            os._exit(9)
        if task == "raises":
            raise ValueError("two\nlines")
        return int(task) * settings

    return handle


def broken(settings: object) -> Callable[[str], object]:
    raise OSError("no licence")


def peeking(store: str) -> Callable[[str], object]:
    """Tries to read a sealed future through the library, through Python and through a child process."""
    import subprocess

    from wmplan.sealed import SealedFutures

    def handle(task: str) -> object:
        seen = []
        files = sorted((Path(store) / "sealed").glob("*.parquet"))
        attempts: list[Callable[[], object]] = [
            lambda: SealedFutures.open(store).future(task),
            lambda: files[0].read_bytes(),
            lambda: subprocess.run(["cat", str(files[0])], capture_output=True, check=True),
        ]
        for attempt in attempts:
            try:
                attempt()
                seen.append("read")
            except (PermissionError, subprocess.CalledProcessError):
                seen.append("refused")
        return seen

    return handle


def test_every_task_is_answered_once_and_a_death_costs_one() -> None:
    tasks = ["1", "dies", "2", "raises", "3"]
    found = {done.task: done for done in run_tasks(f"{HERE}:doubling", 10, tasks, 2)}
    assert sorted(found) == sorted(tasks)
    assert [found[name].result for name in ("1", "2", "3")] == [10, 20, 30]
    assert found["raises"].error == "ValueError: two lines"
    assert "status 9" in found["dies"].error


def test_workers_that_cannot_start_say_why() -> None:
    with pytest.raises(WorkersBroken, match="OSError: no licence"):
        list(run_tasks(f"{HERE}:broken", None, ["1"], 1))


def test_a_sealed_process_reads_no_future_and_an_unsealed_one_does(place: Path) -> None:
    store = place / "store"
    sealed = next(iter(run_tasks(f"{HERE}:peeking", str(store), ["a-behind-a-leader"], 1, (store,))))
    free = next(iter(run_tasks(f"{HERE}:peeking", str(store), ["a-behind-a-leader"], 1)))
    assert sealed.error == ""
    assert sealed.result[:2] == ["refused", "refused"]
    assert free.result == ["read"] * 3
