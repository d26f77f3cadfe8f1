"""`wmplan bench cache`: shared prefixes, races, the second run of a study, memory, and what the cache survives."""

from __future__ import annotations

import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.bench.rows import Rows
from experiments.bench.study import measured_study
from experiments.files import sha256
from experiments.ledger import LEDGER, PER_SCENE, TIMINGS
from experiments.progress import say
from experiments.results import FOLDER
from wmplan.errors import InputError

TABLES = (LEDGER, PER_SCENE, "outcomes.parquet")
ALL_FILES = (*TABLES, TIMINGS, "agreement.json", "report.html")
SECOND_RUNS = 5
"""Second runs, of which the median counts; the interval is from the shortest to the longest."""


@dataclass(frozen=True)
class CacheBench:
    """What to measure."""

    parts: tuple[str, ...] = ("prefix", "race", "memory", "kills", "flips", "second", "disk")
    """Some of prefix, race, memory, kills, flips, second, disk."""
    scenes: int = 8
    """Scenes of the simulator for prefix and race."""
    study: str = ""
    """Words for the study of `second`, e.g. "samples=16"; empty = the embedded default."""
    small: str = "logs.n=2 model=cv candidates=32 optimizers=[cem,tree] baselines=[]"
    """Words for the study that meets a full disk."""
    results: str = str(FOLDER)
    """Folder of the results."""


def run(config: CacheBench) -> int:
    """Measure and record; the exit status."""
    for part in config.parts:
        if part not in PARTS:
            raise InputError(f"bench cache: parts holds {part!r}, expected some of {', '.join(PARTS)}")
    rows = Rows(5, "wmplan bench cache", config.results)
    with tempfile.TemporaryDirectory() as folder:
        for part in config.parts:
            PARTS[part](config, Path(folder), rows)
    return 0


def _prefix(config: CacheBench, folder: Path, rows: Rows) -> None:
    from wmplan.threads import limit_threads

    limit_threads(1)
    from experiments.bench.cache_scoring import simulated_scenes, without_sharing

    asked = imagined = candidates = 0
    equal = True
    for scene in simulated_scenes(folder, config.scenes):
        shared, apart, count = without_sharing(scene)
        asked, imagined = asked + count.steps_asked, imagined + count.steps_imagined
        candidates, equal = candidates + len(shared), equal and shared.tobytes() == apart.tobytes()
    ratio = asked / imagined
    name = "depth-3 tree of 128 candidates"
    rows.write(f"{name}: imagined steps asked / computed", ratio, "at least 2", ratio >= 2.0, n=config.scenes)
    rows.write(
        f"{name}: terms with and without shared prefixes",
        "equal" if equal else "different",
        "equal",
        equal,
        n=candidates,
    )


def _race(config: CacheBench, folder: Path, rows: Rows) -> None:
    from wmplan.threads import limit_threads

    limit_threads(1)
    from experiments.bench.cache_scoring import raced_and_full, simulated_scenes

    for samples in (4, 8):
        for planner in ("tree", "lattice"):
            found = [raced_and_full(scene, planner, samples) for scene in simulated_scenes(folder, config.scenes)]
            regret = np.array([item.regret for item in found])
            spread = np.array([item.spread for item in found])
            steps = sum(item.raced_steps for item in found) / sum(item.full_steps for item in found)
            name = f"race of {planner}, M = {samples}"
            rows.write(f"{name}: steps / full scoring", steps, n=len(found))
            rows.write(f"{name}: same choice as full scoring, share", float((regret == 0.0).mean()), n=len(found))
            rows.write(f"{name}: mean regret, cost", float(regret.mean()), n=len(found))
            rows.write(f"{name}: largest regret, cost", float(regret.max()), n=len(found))
            rows.write(f"{name}: median cost - best cost of its candidates", float(spread.mean()), n=len(found))


def _memory(config: CacheBench, folder: Path, rows: Rows) -> None:
    from experiments.study import StudyConfig

    budget = StudyConfig().memory_mib
    for model, candidates, samples, horizon_s in (
        ("nano", 16, 4, 3.0), ("nano", 256, 4, 3.0), ("nano", 16, 32, 3.0), ("cv", 2048, 4, 3.0), ("cv", 64, 32, 8.0),
    ):  # fmt: skip
        words = [model, str(candidates), str(samples), str(horizon_s), str(budget)]
        done = _said([sys.executable, "-m", "experiments.bench.cache_scoring", *words])
        peak = float(done.stdout.split()[-1])
        name = f"imagination, {model}, K = {candidates}, M = {samples}, {horizon_s:g} s: peak beyond idle, MiB"
        rows.write(name, peak, f"at most {budget}", peak <= budget)


def _kills(config: CacheBench, folder: Path, rows: Rows) -> None:
    from experiments.bench.cache_abuse import kill_at_random

    found = kill_at_random(folder / "killed")
    name = f"8 processes on one cache, {found.kills} kills at random moments"
    rows.write(f"{name}: rows acknowledged", float(found.acknowledged))
    rows.write(f"{name}: acknowledged rows lost", float(found.lost), "0", found.lost == 0, n=found.acknowledged)
    rows.write(f"{name}: wrong rows", float(found.wrong), "0", found.wrong == 0, n=found.acknowledged)
    rows.write(f"{name}: the next process completes", str(found.next_completes), "True", found.next_completes)


def _flips(config: CacheBench, folder: Path, rows: Rows) -> None:
    import logging

    from experiments.bench.cache_abuse import flip_bits

    logging.getLogger("rollout_cache").setLevel(logging.ERROR)
    found = list(flip_bits(folder / "flipped"))
    detected, right = sum(seen for seen, _ in found), sum(right for _, right in found)
    flips = len(found)
    rows.write("flipped bits in the cache, one at a time: detected", float(detected), "all", detected == flips, n=flips)
    rows.write("flipped bits in the cache: every row given was right", float(right), "all", right == flips, n=flips)


def _second(config: CacheBench, folder: Path, rows: Rows) -> None:
    words = [*shlex.split(config.study), f"cache={folder / 'cache'}"]
    first = measured_study([*words, f"out={folder / 'first'}"], str(folder))
    again = [measured_study([*words, f"out={folder / str(i)}"], str(folder)).seconds for i in range(SECOND_RUNS)]
    second = statistics.median(again)
    share = second / first.seconds
    same = all(_same(folder / "first", folder / str(i), ALL_FILES) for i in range(SECOND_RUNS))
    name = f"study {config.study}".strip()
    rows.write(f"{name}: first run, s", first.seconds)
    rows.write(f"{name}: second run, s", second, interval=(min(again), max(again)), n=SECOND_RUNS)
    rows.write(f"{name}: second run / first", share, "at most 0.03", share <= 0.03, n=SECOND_RUNS)
    rows.write(f"{name}: tables and report of both runs", "equal" if same else "different", "equal", same)


def _disk(config: CacheBench, folder: Path, rows: Rows) -> None:
    """A file system of 16 KiB under the cache's terms, in a mount namespace of its own; nothing is recorded where the
    system forbids that."""
    if not shutil.which("unshare"):
        say("bench cache: no unshare here, the full disk is left out")
        return
    cache = folder / "small"
    words = [*shlex.split(config.small), "report=false", "mlflow=false"]
    measured_study([*words, f"cache={cache}", f"out={folder / 'roomy'}"], str(folder))
    shutil.rmtree(cache / "terms")
    shutil.rmtree(cache / "compared")
    shutil.rmtree(cache / "kept")
    (cache / "terms").mkdir()
    words += [f"cache={cache}", f"out={folder / 'full'}"]
    study = shlex.join([sys.executable, "-m", "experiments.cli", "study", *words])
    mount = f"mount -t tmpfs -o size=16k tmpfs {shlex.quote(str(cache / 'terms'))}"
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*namespace, mount], capture_output=True, check=False).returncode != 0:
        say("bench cache: mounting is not permitted here, the full disk is left out")
        return
    done = subprocess.run([*namespace, f"{mount} && exec {study}"], capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"bench cache: the study on a full disk ended with {done.returncode}: {done.stderr[-500:]}")
    said = (done.stdout + done.stderr).count("without storing more")
    same = done.returncode == 0 and _same(folder / "roomy", folder / "full")
    name = "disk full (tmpfs of 16 KiB) while a study stores its terms"
    rows.write(f"{name}: exit status", float(done.returncode), "0", done.returncode == 0)
    rows.write(f"{name}: times it says so", float(said), "1", said == 1)
    rows.write(f"{name}: tables as with room", "equal" if same else "different", "equal", same)


PARTS: dict[str, Callable[[CacheBench, Path, Rows], None]] = {
    "prefix": _prefix,
    "race": _race,
    "memory": _memory,
    "kills": _kills,
    "flips": _flips,
    "second": _second,
    "disk": _disk,
}


def _same(first: Path, second: Path, names: tuple[str, ...] = TABLES) -> bool:
    return all(sha256(first / name) == sha256(second / name) for name in names)


def _said(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"bench cache: {' '.join(command[1:])} ended with {done.returncode}: {done.stderr[-300:]}")
    return done
