"""The seams of the house on one page: what flows between readers, world models, critics, optimizers and roads.

A new method is one new class that fits one of these Protocols and one line in its registry; the contract suites in
`wmplan.testing` run over everything registered, and over a user's own class when asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int32
from numpy import ndarray
from torch import Tensor

from wmplan.plans import Plans, Start
from wmplan.randomness import NoiseBank
from wmplan.scene import Log, Scene

IMAGINED_STEP_S = 0.5
"""Step of imagined futures, seconds: five plan steps."""
RASTER_HISTORY = 4
"""Frames of history in a raster: t0 - 1.5, - 1.0, - 0.5 s and t0."""


# ---------------------------------------------------------------------------------------------------- logs


@runtime_checkable
class LogReader(Protocol):
    """Reads one format. Registered by name in `wmplan.readers`.

    `paths` lists the files (or folders) below `source` that are of this format, sorted; `read` gives the recordings of
    one of them. A damaged file raises `wmplan.errors.InputError` naming file, scene and field; it never yields a
    silently repaired recording.
    """

    name: str

    def paths(self, source: Path) -> list[Path]: ...

    def read(self, path: Path) -> Iterator[Log]: ...


# -------------------------------------------------------------------------------------------------- rasters


@dataclass(frozen=True)
class Grid:
    """A window of the scene frame, in metres, cut into square cells. Row i is y (to the left), column j is x (ahead).

    The centre of cell (i, j) is (x_min + (j + 0.5) cell, y_min + (i + 0.5) cell).
    """

    rows: int
    cols: int
    cell: float
    x_min: float
    y_min: float


GRIDS = {
    "nano": Grid(64, 96, 1.0, -48.0, -32.0),
    "small": Grid(128, 192, 0.5, -48.0, -32.0),
    "base": Grid(200, 200, 0.4, -40.0, -40.0),
}
STATIC_CHANNELS = (
    "drivable", "centreline", "direction_cos", "direction_sin", "crosswalk", "red_light", "obstacle", "route",
)  # fmt: skip
"""Given, never predicted. `centreline` is exp(-distance / 2 m); `obstacle` is what is solid and not a road user."""
LANE_DIRECTION = slice(2, 4)
"""Those of `STATIC_CHANNELS` that are the direction of the nearest lane: in [-1, 1], 0 where there is none."""
DYNAMIC_CHANNELS = ("vehicle", "vru", "vx", "vy", "observed")
"""Soft occupancy of vehicles and of vulnerable road users in [0, 1]; velocity in m/s (scene frame) where occupied, 0
elsewhere; whether the log says anything of the cell (0 beyond the map and every track)."""


@dataclass(frozen=True)
class SceneRaster:
    """A scene as a world model sees it; the ego itself is not drawn. `digest` identifies the content."""

    scene_id: str
    digest: str
    grid: Grid
    static: Float[Tensor, "C H W"]
    history: Float[Tensor, "T C2 H W"]
    start: Start


# --------------------------------------------------------------------------------------------- world models


@dataclass(frozen=True)
class Context:
    """A scene, encoded once for all candidates. `encoded` belongs to the model that made it."""

    raster: SceneRaster
    encoded: Any


@dataclass(frozen=True)
class Imagined:
    """M imagined futures of each of K candidates, `IMAGINED_STEP_S` apart; the first step is at t0 + 0.5 s.

    `occupancy` channels are vehicle and VRU probability; `velocity` is vx, vy in m/s where something is imagined;
    `latents` are what the model sampled, flattened (the quantised codes of a token model, the pooled occupancy of a
    model without any), in a scale of order one: Vista's reward is their variance over M. `steps` counts the rollout
    steps that were computed for it, K x M x T less what candidates share; None where the model does not count.
    """

    occupancy: Float[Tensor, "K M T 2 H W"]
    velocity: Float[Tensor, "K M T 2 H W"]
    latents: Float[Tensor, "K M T L"]
    grid: Grid
    steps: int | None = None


@runtime_checkable
class WorldModel(Protocol):
    """Imagines occupancy. Row-wise: a candidate's futures do not depend on its companions; deterministic given noise.

    `digest` identifies weights and settings: two models with one digest imagine the same bytes. `horizon` is in steps
    of `IMAGINED_STEP_S`.
    """

    name: str
    digest: str
    grid: Grid
    horizon: int

    def encode(self, raster: SceneRaster) -> Context: ...

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined: ...


# -------------------------------------------------------------------------------------------------- critics


@dataclass(frozen=True)
class Terms:
    """Named columns, one row a candidate. `values` may hold non-finite numbers: the composite counts them as +inf."""

    columns: tuple[str, ...]
    values: Float32[ndarray, "K N"]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns):
            raise ValueError(f"Terms.values has shape {self.values.shape}, expected (K, {len(self.columns)})")

    def column(self, name: str) -> Float32[ndarray, "K"]:
        """One column by name."""
        return self.values[:, self.columns.index(name)]

    @staticmethod
    def join(parts: list[Terms]) -> Terms:
        """The columns of all parts side by side."""
        columns = tuple(name for part in parts for name in part.columns)
        if len(set(columns)) != len(columns):
            raise ValueError(f"Terms.join: a column appears twice in {columns}")
        return Terms(columns, np.concatenate([part.values for part in parts], axis=1))


@runtime_checkable
class Critic(Protocol):
    """Turns imagined futures into named terms, row by row: the terms of a subset are the subset of the terms.

    `digest` identifies settings and fitted state.
    """

    name: str
    columns: tuple[str, ...]
    digest: str

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms: ...


# ----------------------------------------------------------------------------------------------- optimizers


class Infeasible(IntFlag):
    """Why a candidate cannot be driven; 0 is feasible."""

    SPEED = 1
    ACCEL = 2
    CURVATURE = 4
    CURVATURE_RATE = 8
    LATERAL_ACCEL = 16
    PROJECTION = 32
    SMOOTHING = 64


@dataclass(frozen=True)
class Proposal:
    """K candidates as controls (acceleration, curvature) at `STEP_S`, and why some cannot be driven.

    `labels` says what each row is ("sample", "mean", "nominal", "best", "smoothed", ...). Infeasible rows keep their
    place, so that shapes are constant; they are never imagined and cost +inf.
    """

    controls: Float[ndarray, "K T 2"]
    infeasible: Int32[ndarray, "K"]
    labels: tuple[str, ...]


@runtime_checkable
class Optimizer(Protocol):
    """Proposes candidates by ask and tell: pure functions of their arguments, state in, state out.

    A plan takes `rounds` rounds; each asks for `candidates` rows. `costs` may hold +inf, never NaN (the caller maps
    NaN to +inf and counts it). `finalists` are re-scored after the last round (mean, best sample, nominal; smoothed
    lattice profiles) and the cheapest of them is the plan. `key` is a seed from `fold_in`.
    """

    name: str
    digest: str
    rounds: int
    candidates: int
    horizon_steps: int

    def init(self, key: int, start: Start) -> Any: ...

    def ask(self, key: int, state: Any) -> Proposal: ...

    def tell(self, state: Any, controls: Float[ndarray, "K T 2"], costs: Float[ndarray, "K"]) -> Any: ...

    def finalists(self, state: Any) -> Proposal: ...


# -------------------------------------------------------------------------------------- policies and roads


@runtime_checkable
class Policy(Protocol):
    """Maps a scene to one plan; a baseline beside the optimizers."""

    name: str

    def plan(self, scene: Scene, start: Start, key: int) -> Plans: ...


@runtime_checkable
class Road(Protocol):
    """Executes actions for real. State and action are pytrees of the road's own."""

    name: str

    def reset(self, key: int) -> Any: ...

    def step(self, state: Any, action: Any) -> Any: ...
