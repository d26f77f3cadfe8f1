"""`wmplan ope` and `wmplan study` on a Ray cluster: the same bytes with 1, 2, 4 workers, and after one was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from experiments.cli import main
from experiments.ledger import LEDGER, PER_SCENE
from experiments.ope.results import TABLES

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(
    not os.environ.get("WMPLAN_SLOW"), reason="minutes of CPU: set WMPLAN_SLOW=1 to run whole commands on Ray"
)


def ope(out: Path, *more: str) -> list[str]:
    logs, policies = "simulator:n=4,seed=7000,behaviour=mixture", "[idm_normal,constant_velocity,held_normal]"
    plain = [f"logs='{logs}'", f"policies={policies}", "models=[cv]", "beside=[persistence,log-replay,open-loop]"]
    return ["ope", *plain, "scores=[pdms]", "draws=1", f"out={out}", "mlflow=false", "page=false", *more]


def study(out: Path, place: Path, *more: str) -> list[str]:
    words = ["study", "logs=store", f"logs.path={place / 'store'}", "model=cv", "optimizers=[lattice]", "candidates=32"]
    return [*words, "samples=2", "report=false", "mlflow=false", f"out={out}", f"cache={out.parent / 'terms'}", *more]


def serving(pid: int) -> list[psutil.Process]:
    """Ray's workers among the descendants of a process that hold a task."""
    found = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "ray::Serving.do" in " ".join(process.cmdline()):
                    found.append(process)
    return found


def run_apart(words: list[str], kills: bool = False) -> int:
    """Workers of Ray are killed once where told to: the first that is seen at a task. How many were."""
    process = subprocess.Popen([sys.executable, "-m", "experiments.cli", *words])
    killed = 0
    while process.poll() is None:
        if kills and not killed and (workers := serving(process.pid)):
            workers[0].send_signal(signal.SIGKILL)
            killed = 1
        time.sleep(0.05)
    assert process.returncode == 0
    return killed


def test_an_ope_run_has_the_same_bytes_with_any_number_of_workers_and_after_one_was_killed(tmp_path: Path) -> None:
    here, cache = tmp_path / "processes", f"cache={tmp_path / 'cache'}"
    assert main(ope(here, "workers=2", cache)) == 0
    for workers in (1, 2, 4):
        out = tmp_path / f"ray{workers}"
        killed = run_apart(ope(out, "executor=ray", f"workers={workers}", cache), kills=workers == 2)
        assert killed == (workers == 2)
        for name in TABLES:
            assert (out / name).read_bytes() == (here / name).read_bytes(), (workers, name)


def test_a_study_has_the_same_bytes_with_any_number_of_workers(tmp_path: Path, place: Path) -> None:
    here = tmp_path / "processes"
    assert main(study(here, place)) == 0
    for workers in (1, 2, 4):
        out = tmp_path / f"ray{workers}"
        run_apart(study(out, place, "executor=ray", f"workers={workers}"))
        for name in (LEDGER, PER_SCENE, "outcomes.parquet", "agreement.json"):
            assert (out / name).read_bytes() == (here / name).read_bytes(), (workers, name)
