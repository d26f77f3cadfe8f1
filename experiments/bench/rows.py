"""Rows of results: written to the issue's file and shown in the terminal, one call a figure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from experiments.results import FOLDER, record

GIB = 2**30


@dataclass(frozen=True)
class Rows:
    """Writes the figures of one command. `label` is put into every figure's name, to tell logs or models apart."""

    issue: int
    command: str
    folder: str = str(FOLDER)
    label: str = ""

    def write(
        self,
        figure: str,
        value: float | str,
        goal: str = "",
        met: bool | None = None,
        interval: tuple[float, float] | None = None,
        n: int | None = None,
    ) -> None:
        """Record and print one figure. A value that is not finite is written as "none" and misses its goal."""
        if interval is not None and not all(map(math.isfinite, interval)):
            interval = None
        if isinstance(value, float) and not math.isfinite(value):
            value, met = "none", False if met is not None else None
        name = f"{figure} ({self.label})" if self.label else figure
        record(self.issue, name, value, interval, n, goal, met, self.command, Path(self.folder))
        shown = value if isinstance(value, str) else f"{value:.4g}"
        between = f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""
        verdict = {None: "", True: f"  goal {goal}: met", False: f"  goal {goal}: MISSED"}[met]
        print(f"{name}: {shown}{between}{verdict}")
