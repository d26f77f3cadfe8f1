"""What a cache goes through in `wmplan bench cache`: processes that are killed, flipped bits, a disk that is full.

As a program (`python -m experiments.bench.cache_abuse hammer <folder> <seed> <rounds>`) it is one of the processes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from rollout_cache import TermsCache, verify
from rollout_cache.room import shards

COLUMNS = 45
SCENES = 12
"""Scenes that the processes share, so that they write the same files at once."""
MOST_ROWS = 300


@dataclass(frozen=True)
class Killed:
    """What was left after the kills: rows whose storing had returned, how many of them were lost, how many of all rows
    were wrong, damaged places that kills left and readers dropped, and whether the next process went through."""

    kills: int
    acknowledged: int
    lost: int
    wrong: int
    damaged_after: int
    next_completes: bool


def key_of(number: int) -> bytes:
    """The key of row `number`."""
    return (number % SCENES).to_bytes(16, "little") + number.to_bytes(16, "little")


def row_of(number: int) -> Float32[ndarray, "N"]:
    """The only right row under that key."""
    return np.random.default_rng(number).normal(size=COLUMNS).astype(np.float32)


def kill_at_random(folder: Path, processes: int = 8, kills: int = 100) -> Killed:
    """Processes that store into one cache; one after another is killed at a random moment and replaced."""
    rng = np.random.default_rng(0)
    running = [_start(folder, seed) for seed in range(processes)]
    while not all(log.stat().st_size for log, _ in running):
        time.sleep(0.05)
    heard: set[int] = set()
    for seed in range(processes, processes + kills):
        time.sleep(float(rng.uniform(0.0, 0.4)))
        heard |= _kill(*running.pop(int(rng.integers(processes))))
        running.append(_start(folder, seed))
    for log, process in running:
        heard |= _kill(log, process)
    lost = wrong = 0
    with TermsCache(folder) as cache:
        for first in range(0, len(heard), 5000):
            numbers = sorted(heard)[first : first + 5000]
            found, values = cache.lookup([key_of(n) for n in numbers], COLUMNS)
            lost += int((~found).sum())
            truth = np.stack([row_of(n) for n in numbers])
            wrong += int((values[found] != truth[found]).any(axis=1).sum())
    log, process = _start(folder, 10**6, 20)
    completes = process.wait(timeout=300) == 0
    log.unlink()
    return Killed(kills, len(heard), lost, wrong, verify(folder).damaged or 0, completes)


def flip_bits(folder: Path, flips: int = 1000) -> Iterator[tuple[bool, bool]]:
    """For each bit, flipped alone and flipped back: whether it was detected, and whether every row that was still given
    was right. Stores some scenes first."""
    numbers = list(range(SCENES * 40))
    with TermsCache(folder) as cache:
        cache.store([key_of(n) for n in numbers], np.stack([row_of(n) for n in numbers]))
    files = sorted((file.path, file.size) for file in shards(folder))
    ends = np.cumsum([size for _, size in files])
    rng = np.random.default_rng(1)
    for bit in rng.integers(0, 8 * int(ends[-1]), flips).tolist():
        which = int(np.searchsorted(ends, bit // 8, side="right"))
        path, size = files[which]
        before = path.read_bytes()
        data = bytearray(before)
        data[bit // 8 - int(ends[which]) + size] ^= 1 << (bit % 8)
        path.write_bytes(bytes(data))
        reported = (verify(folder).damaged or 0) > 0
        with TermsCache(folder) as cache:
            found, values = cache.lookup([key_of(n) for n in numbers], COLUMNS)
            right = all(np.array_equal(values[n], row_of(n)) for n in np.flatnonzero(found).tolist())
            seen = cache.stats.damaged > 0
        path.write_bytes(before)
        yield reported and seen, right


def hammer(folder: str, seed: int, rounds: int) -> None:
    """Look up and store random rows, and say the numbers of each batch once its storing has returned."""
    rng = np.random.default_rng([seed, 7])
    with TermsCache(folder) as cache:
        print("ready", flush=True)
        for _ in range(rounds):
            numbers = rng.integers(0, 2**40, int(rng.integers(1, MOST_ROWS))).tolist()
            rows = np.stack([row_of(n) for n in numbers])
            found, values = cache.lookup([key_of(n) for n in numbers], COLUMNS)
            if not np.array_equal(values[found], rows[found]):
                raise SystemExit("a wrong row")
            if cache.store([key_of(n) for n in numbers], rows) == len(numbers):
                print(*numbers, flush=True)


def _start(folder: Path, seed: int, rounds: int = 10**6) -> tuple[Path, subprocess.Popen[bytes]]:
    log = folder.parent / f"{folder.name}-{seed}.log"
    command = [sys.executable, "-m", "experiments.bench.cache_abuse", "hammer", str(folder), str(seed), str(rounds)]
    with log.open("wb") as out:
        return log, subprocess.Popen(command, stdout=out)


def _kill(log: Path, process: subprocess.Popen[bytes]) -> set[int]:
    process.kill()
    process.wait()
    lines = log.read_text().split("\n")[:-1]  # the last one may be cut short
    log.unlink()
    return {int(word) for line in lines if line != "ready" for word in line.split()}


if __name__ == "__main__":
    hammer(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
