"""Memorisation: is an imagined frame nearer to a training frame than a true frame of a new scene is?

A bank of training frames, the distance of each held-out frame to its nearest neighbour there. A model that recalls
training scenes instead of imagining has imagined frames much nearer than the true ones are: `copies` counts those
nearer than 99 % of true frames. A persistent scene is near its own t0, which is held out too, so this needs no t0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from scipy.spatial import cKDTree
from torch import Tensor

from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence, Observed
from wmplan.validation.layers import Gate, Layer, mean_of, share_of

POOL_M = 4.0
COPIES = Gate(at_most=0.05)
NEAREST_SHARE = 0.01
"""Of true frames, so many are nearer than the threshold by definition."""
LEAST_M2 = 8.0
"""Frames with less than two cars on them are near to everything."""


@dataclass(frozen=True)
class Bank:
    """Descriptors of training frames, as a search tree."""

    tree: cKDTree
    step: int

    @staticmethod
    def of(training: Sequence[Observed], seconds: float = 3.0) -> Bank:
        """The true frames of training scenes `seconds` after t0.

        Raises:
            ValueError: no training scenes.
        """
        if not training:
            raise ValueError("Bank.of: no training scenes, expected some")
        step = round(seconds / 0.5) - 1
        rows = [descriptor(one.truth[step, :2], one.raster.grid.cell) for one in training]
        return Bank(cKDTree(np.stack(rows)), step)

    def distance(self, row: Float64[ndarray, "F"]) -> float:
        """To the nearest training frame, in square metres of occupancy."""
        return float(self.tree.query(row)[0])


@dataclass(frozen=True)
class SceneMemory:
    """Distance of a scene's imagined and true frame to the nearest training frame; NaN for a frame that is empty."""

    scene_id: str
    group: str
    imagined: float
    true: float


def measure_memorisation(evidence: Evidence, bank: Bank) -> SceneMemory:
    """Of the first sample, at the bank's time."""
    frames = (evidence.occupancy[0, bank.step], evidence.truth[bank.step, :2])
    rows = [descriptor(frame, evidence.grid.cell) for frame in frames]
    found = [bank.distance(row) if row.sum() >= LEAST_M2 else np.nan for row in rows]
    return SceneMemory(evidence.scene_id, evidence.group, *found)


def summarise(rows: Sequence[SceneMemory], seed: int) -> list[Measure]:
    """Ratio of distances (1: as new as the truth), and the share of imagined frames nearer than 99 % of the true."""
    imagined, true = (np.array([getattr(row, name) for row in rows]) for name in ("imagined", "true"))
    known = np.isfinite(imagined) & np.isfinite(true)
    both = [row for row, keep in zip(rows, known) if keep]
    threshold = np.quantile(true[known], NEAREST_SHARE, method="lower") if known.any() else np.nan
    return [
        share_of("distance to training, imagined over true", imagined[known], true[known], both, seed),
        mean_of("copies", (imagined[known] < threshold).astype(np.float64), both, seed, COPIES),
    ]


def layer(bank: Bank) -> Layer[SceneMemory]:
    """The layer that looks into this bank."""
    return Layer("memorisation", lambda evidence: measure_memorisation(evidence, bank), summarise)


def descriptor(occupancy: Float[Tensor, "2 H W"], cell_m: float) -> Float64[ndarray, "F"]:
    """Occupied square metres in every 4 m square, both kinds."""
    side = max(1, round(POOL_M / cell_m))
    pooled = torch.nn.functional.avg_pool2d(occupancy.double()[:, None], side) * (side * cell_m) ** 2
    return pooled.flatten().numpy()
