"""What support is measured on: a plan's action in nine numbers, given the situation in three."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from wmplan.contracts import SceneRaster
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.scene import STEP_S

KNOTS = 3
ACTION_FEATURES = tuple(f"{name}_{i + 1}" for name in ("accel", "curvature", "jerk") for i in range(KNOTS))
CONTEXT_FEATURES = ("speed", "curvature", "lead_gap")
GAP_CAP_M = 40.0
CORRIDOR_HALF_WIDTH_M = 1.5
OCCUPIED = 0.3


def action_features(plans: Plans) -> Float64[ndarray, "K 9"]:
    """Mean acceleration, curvature (turn over distance, 0 at standstill) and jerk in each third of the plan.

    Raises:
        InputError: a plan of fewer than six steps has no jerk in its thirds.
    """
    steps = plans.controls.shape[1]
    if steps < 2 * KNOTS:
        raise InputError(f"plans of {steps} steps, support features expect at least {2 * KNOTS}")
    states = plans.states.astype(np.float64)
    speed, yaw = np.ascontiguousarray(states[:, :, 3]), np.unwrap(np.ascontiguousarray(states[:, :, 2]), axis=1)
    edges = np.linspace(0, steps, KNOTS + 1).round().astype(int)
    accel, curvature, jerk = [], [], []
    for a, b in pairwise(edges.tolist()):
        middle = (a + b) // 2
        accel.append((speed[:, b] - speed[:, a]) / ((b - a) * STEP_S))
        distance = np.zeros(len(states))
        for t in range(a, b):
            distance = distance + 0.5 * (speed[:, t] + speed[:, t + 1]) * STEP_S
        curvature.append((yaw[:, b] - yaw[:, a]) / np.maximum(distance, 1.0))
        first = (speed[:, middle] - speed[:, a]) / ((middle - a) * STEP_S)
        second = (speed[:, b] - speed[:, middle]) / ((b - middle) * STEP_S)
        jerk.append((second - first) / (0.5 * (b - a) * STEP_S))
    return np.stack([*accel, *curvature, *jerk], axis=1)


def context_features(raster: SceneRaster) -> Float64[ndarray, "3"]:
    """Speed (m/s), curvature (1/m), and log(1 + gap / 1 m) to what is ahead on the route, at most 40 m away."""
    start = raster.start
    return np.array([start.speed, start.curvature, np.log1p(lead_gap(raster))], dtype=np.float64)


def lead_gap(raster: SceneRaster) -> float:
    """Metres from the ego's front to the nearest occupied cell in a 3 m wide corridor along the route, at most 40."""
    grid, start = raster.grid, raster.start
    occupied = raster.history[-1, :2].detach().numpy().max(axis=0) > OCCUPIED
    i, j = np.nonzero(occupied)
    x, y = grid.x_min + (j + 0.5) * grid.cell, grid.y_min + (i + 0.5) * grid.cell
    close = (np.abs(x) < GAP_CAP_M + start.length) & (np.abs(y) < GAP_CAP_M + start.length)
    x, y = x[close], y[close]
    if not len(x):
        return GAP_CAP_M
    route = start.route.astype(np.float64)
    step = np.diff(route, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    keep = length > 1e-6
    origin, tangent, length = route[:-1][keep], (step[keep] / length[keep, None]), length[keep]
    arc = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    dx, dy = x[:, None] - origin[:, 0], y[:, None] - origin[:, 1]
    along = np.clip(dx * tangent[:, 0] + dy * tangent[:, 1], 0.0, length)
    gap = np.hypot(dx - along * tangent[:, 0], dy - along * tangent[:, 1])
    nearest = gap.argmin(axis=1)
    cells = np.arange(len(x))
    ahead = arc[nearest] + along[cells, nearest] - start.length / 2.0
    # Behind the route's first point everything projects onto it; only what lies beyond the ego's front is a lead.
    lead = ahead[(gap[cells, nearest] <= CORRIDOR_HALF_WIDTH_M) & (ahead > 0.0)]
    return float(min(lead.min(), GAP_CAP_M)) if len(lead) else GAP_CAP_M


@dataclass(frozen=True)
class SupportExamples:
    """Executed actions in their situations, one a scene; `groups` names what shares traffic."""

    actions: Float64[ndarray, "N 9"]
    contexts: Float64[ndarray, "N 3"]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.actions)

    @staticmethod
    def of(raster: SceneRaster, plans: Plans, group: str) -> SupportExamples:
        """The example of one scene's executed plan (one row a plan given)."""
        actions = action_features(plans)
        contexts = np.repeat(context_features(raster)[None], len(plans), axis=0)
        return SupportExamples(actions, contexts, (group,) * len(plans))

    @staticmethod
    def concatenate(parts: list[SupportExamples]) -> SupportExamples:
        """All examples of the parts, in order."""
        if not parts:
            return SupportExamples(np.zeros((0, len(ACTION_FEATURES))), np.zeros((0, len(CONTEXT_FEATURES))), ())
        return SupportExamples(
            np.concatenate([part.actions for part in parts]),
            np.concatenate([part.contexts for part in parts]),
            tuple(group for part in parts for group in part.groups),
        )
