"""Wall time and peak memory of a command with all processes that it starts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

EVERY_S = 0.1


@dataclass(frozen=True)
class Measured:
    """What a command cost; `peak_bytes` is the largest sum of resident memory of all its processes.

    Shared pages count in each process, so the peak is an upper bound.
    """

    seconds: float
    peak_bytes: int
    status: int
    output: str


def measured(arguments: Sequence[str], folder: str | None = None) -> Measured:
    """What `python <arguments>` cost. Its messages pass through; what it prints is kept."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, cwd=folder)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(EVERY_S)
    seconds = time.perf_counter() - began
    output = process.stdout.read() if process.stdout else ""
    return Measured(seconds, peak, process.returncode, output)


def resident(pid: int) -> int:
    """Resident bytes of a process and its descendants."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            continue
    return total
