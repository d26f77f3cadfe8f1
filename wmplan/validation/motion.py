"""Motion against truth: do road users go the right way (direction), and as far (magnitude)?

Three readings. `displacement`: how far the instances of t0 have got at 3 s, imagined and true read alike. `flow`: the
velocity channel on the cells that are occupied in truth. `change`: what has changed in the occupancy since t0, blurred
over 2 m, so that no instance is needed. Direction is the cosine between imagined and true motion of a whole scene,
magnitude the ratio of their lengths.

A forecast in which nothing moves has no direction. `of those that move` leaves such scenes out, as the published figure
does; `all` counts them as 0. A road user that the read-out lost has not moved. The published figures (direction 0.48,
magnitude 1.02) rest on about two scenes and on pictures, whose motion is mostly the camera's.

References:
    `reference/seed_inventory.md`, rows 9 and 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence
from wmplan.validation.layers import Gate, Layer, mean_of

DIRECTION = Gate(at_least=0.9)
MAGNITUDE = Gate(0.95, 1.05)
READINGS = ("displacement", "flow", "change")
BLUR_M = 2.0
LEAST = {"displacement": 1.0, "flow": 1.0, "change": 0.5}
"""Length of the true motion below which a scene has none: metres, m/s times root of cells, root of cells."""
PRESENT = 0.25
TOP_SHARE = 0.25


@dataclass(frozen=True)
class SceneMotion:
    """One scene, in the order of `READINGS`: length of the true motion, of the imagined, and their inner product; means
    over samples. NaN where the reading does not exist."""

    scene_id: str
    group: str
    true: Float64[ndarray, "3"]
    imagined: Float64[ndarray, "3"]
    inner: Float64[ndarray, "3"]

    @property
    def moves(self) -> ndarray:
        """Which readings have a true motion."""
        return self.true >= np.array([LEAST[name] for name in READINGS])

    @property
    def direction(self) -> Float64[ndarray, "3"]:
        """Cosines; 0 where nothing moves in the imagination, NaN where nothing moves in truth."""
        length = self.true * self.imagined
        cosine = np.divide(self.inner, length, out=np.zeros(3), where=length > 1e-9)
        return np.where(self.moves, cosine, np.nan)

    @property
    def magnitude(self) -> Float64[ndarray, "3"]:
        """Imagined over true length; NaN where nothing moves in truth."""
        return np.where(self.moves, self.imagined / np.where(self.moves, self.true, 1.0), np.nan)


def measure_motion(evidence: Evidence, seconds: float = 3.0) -> SceneMotion:
    """All three readings at one time after t0."""
    step = evidence.seconds.index(seconds)
    pairs = [
        [_displacements(evidence, m, step + 1), _flows(evidence, m, step), _changes(evidence, m, step)]
        for m in range(len(evidence.occupancy))
    ]
    products = np.array([[_products(true, imagined) for true, imagined in sample] for sample in pairs])
    true, imagined, inner = products.mean(0).T
    return SceneMotion(evidence.scene_id, evidence.group, np.sqrt(true), np.sqrt(imagined), inner)


def summarise(rows: Sequence[SceneMotion], seed: int) -> list[Measure]:
    """Direction and magnitude of each reading, over all scenes that truly move, and over the most moving quarter."""
    measures = []
    for i, name in enumerate(READINGS):
        direction, magnitude = (
            np.array([getattr(row, kind)[i] for row in rows]) for kind in ("direction", "magnitude")
        )
        silent = np.array([row.imagined[i] <= 1e-9 for row in rows], dtype=bool)
        true = np.array([row.true[i] for row in rows])
        most = true >= np.quantile(true, 1.0 - TOP_SHARE) if len(rows) else silent
        gates = (DIRECTION, MAGNITUDE) if name == "displacement" else (None, None)
        measures += [
            mean_of(f"direction, {name}, all", direction, rows, seed, gates[0]),
            mean_of(f"direction, {name}, of those that move", np.where(silent, np.nan, direction), rows, seed),
            mean_of(f"magnitude, {name}, all", magnitude, rows, seed, gates[1]),
            mean_of(f"direction, {name}, most moving quarter", np.where(most, direction, np.nan), rows, seed),
            mean_of(f"magnitude, {name}, most moving quarter", np.where(most, magnitude, np.nan), rows, seed),
        ]
    return measures


LAYER = Layer("motion", measure_motion, summarise)


def _displacements(evidence: Evidence, sample: int, step: int) -> tuple[ndarray, ndarray]:
    """Metres from t0, of instances that are still there in truth; who is lost in the imagination has not moved."""
    true, imagined = evidence.observed.traces.followed, evidence.traces[sample].followed
    there = true.seen[:, step]
    moved = [one.position[there, step] - one.position[there, 0] for one in (true, imagined)]
    return moved[0], np.where(imagined.seen[there, step, None], moved[1], 0.0)


def _flows(evidence: Evidence, sample: int, step: int) -> tuple[ndarray, ndarray]:
    """Velocity on truly occupied cells, where the imagination has something too, else 0."""
    truth = evidence.truth[step]
    cells = truth[:2].amax(0) > PRESENT
    here = evidence.occupancy[sample, step].amax(0)[cells] > PRESENT
    return truth[2:4, cells].numpy(), (evidence.velocity[sample, step][:, cells] * here).numpy()


def _changes(evidence: Evidence, sample: int, step: int) -> tuple[ndarray, ndarray]:
    now = evidence.raster.history[-1, :2]
    sigma = BLUR_M / evidence.grid.cell
    true, imagined = (
        _blurred(frame - now, sigma).numpy() for frame in (evidence.truth[step, :2], evidence.occupancy[sample, step])
    )
    return true, imagined


def _products(true: ndarray, imagined: ndarray) -> tuple[float, float, float]:
    a, b = true.astype(np.float64).ravel(), imagined.astype(np.float64).ravel()
    return float(a @ a), float(b @ b), float(a @ b)


def _blurred(planes: Float[Tensor, "C H W"], sigma: float) -> Float[Tensor, "C H W"]:
    reach = math.ceil(3.0 * sigma)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(x**2) / (2.0 * sigma**2))
    kernel = (kernel / kernel.sum()).reshape(1, 1, 1, -1)
    once = torch.nn.functional.conv2d(planes[:, None].float(), kernel, padding=(0, reach))
    return torch.nn.functional.conv2d(once, kernel.transpose(2, 3), padding=(reach, 0))[:, 0]
