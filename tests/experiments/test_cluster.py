"""A Ray cluster on this machine: the same outcomes for any number of workers, a worker that dies is replaced."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.processes import Executor, WorkersBroken, run_tasks

pytest.importorskip("ray")
HERE = "test_cluster"
RAY = Executor("ray")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's own warnings are not ours; its workers find this folder."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def doubling(marks: str) -> Callable[[str], object]:
    def handle(task: str) -> object:
        if task == "dies always":
            os._exit(9)
        if task == "dies once":
            mark = Path(marks) / "died"
            if not mark.exists():
                mark.touch()
                os._exit(9)
            return "second try"
        if task == "raises":
            raise ValueError("two\nlines")
        if task == "threads":
            return os.environ["OMP_NUM_THREADS"]
        return 2 * int(task)

    return handle


def broken(settings: object) -> Callable[[str], object]:
    raise OSError("no licence")


def test_deaths_are_tried_again_and_then_listed(tmp_path: Path) -> None:
    tasks = ["1", "dies once", "2", "raises", "dies always", "3", "threads"]
    found = {done.task: done for done in run_tasks(f"{HERE}:doubling", str(tmp_path), tasks, 2, (), RAY)}
    assert sorted(found) == sorted(tasks)
    assert [found[name].result for name in ("1", "2", "3")] == [2, 4, 6]
    assert found["dies once"].result == "second try"
    assert found["raises"].error == "ValueError: two lines"
    assert found["dies always"].error == "its worker died 2 times"
    assert found["threads"].result == "1"


def test_a_handler_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(WorkersBroken, match="OSError: no licence"):
        list(run_tasks(f"{HERE}:broken", None, ["1"], 1, (), RAY))
