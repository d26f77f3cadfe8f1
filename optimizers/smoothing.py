"""Smoothing of a few plans by convex programs: bounded jerk along the path, gentle steering near it."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from optimizers.limits import Limits
from optimizers.settings import require
from wmplan import bicycle
from wmplan.plans import Plans
from wmplan.scene import STEP_S

TOLERANCE = 2e-3
"""How far a certified plan may exceed a bound, in the bound's own unit; one fifth of the grid of accelerations."""
MOVING_MPS = 0.5
"""Below this speed at both ends of a step curvature moves nothing, and its rate is not judged."""


@dataclass(frozen=True)
class SmoothingConfig:
    """Settings of the two programs."""

    max_jerk_mps3: float = 4.13
    """Largest longitudinal jerk, m/s3; nuPlan's comfort bound."""
    corridor_m: float = 0.3
    """Largest distance to the left or right of the candidate's path, m."""
    position_weight: float = 1.0
    """Weight of squared metres along the path to where the candidate would be."""
    speed_weight: float = 1.0
    """Weight of squared m/s to the candidate's speed."""
    jerk_weight: float = 0.05
    """Weight of squared jerk."""
    lateral_weight: float = 1.0
    """Weight of squared metres to the side of the path."""
    curvature_rate_weight: float = 5.0
    """Weight of squared steps of curvature, times the fourth power of the mean speed (in effect: of lateral jerk)."""

    def __post_init__(self) -> None:
        for name in ("max_jerk_mps3", "corridor_m", "position_weight", "jerk_weight", "lateral_weight"):
            require("SmoothingConfig", name, getattr(self, name), getattr(self, name) > 0.0, "a positive number")


@dataclass(frozen=True)
class Certificate:
    """Whether the smoothed plan keeps every bound when it is rolled, and the reason where it does not.

    `excess` is the largest violation in the bound's own unit, `lateral_m` the largest distance to the path.
    """

    feasible: bool
    reason: str
    excess: float
    lateral_m: float


@dataclass(frozen=True)
class Smoothed:
    """Controls of a smoothed plan; the candidate's own where the programs have no solution."""

    controls: Float[ndarray, "T 2"]
    certificate: Certificate


def smooth_all(config: SmoothingConfig, limits: Limits, plans: Plans, accel: float, curvature: float) -> list[Smoothed]:
    """Each plan smoothed, with a certificate; `accel` and `curvature` are the ego's present ones.

    The solver starts cold at the first plan and warm at the others, so the answer depends on these plans alone, never
    on what another scene asked before.
    """
    steps = plans.controls.shape[1]
    programs = _programs(config, limits, steps) if len(plans) else None
    return [
        _smooth(programs, config, limits, plans.select([i]), accel, curvature, warm=i > 0) for i in range(len(plans))
    ]


def _smooth(
    programs: Any, config: SmoothingConfig, limits: Limits, plan: Plans, accel: float, curvature: float, warm: bool
) -> Smoothed:
    states = plan.states[0].astype(np.float64)
    wanted = plan.controls[0].astype(np.float64)
    moved = np.concatenate([[0.0], np.cumsum(_distances(states[:, 3]))])
    longitudinal, lateral = programs

    # A car about to stand releases its brake: no jerk-bounded profile stops from a harder deceleration than this.
    releasable = -0.9 * np.sqrt(2.0 * config.max_jerk_mps3 * states[0, 3])
    now = max(accel, releasable)
    profile = longitudinal.solve(moved, states[:, 3], now, warm)
    if profile is None:
        return _refused(wanted, f"no speed profile within the bounds (jerk {config.max_jerk_mps3:g} m/s3) from here")
    speed = np.maximum(np.concatenate([states[:1, 3], states[0, 3] + np.cumsum(profile) * STEP_S]), 0.0)
    distance = _distances(speed)
    # The path stays, the time at which its places are reached changes: curvature is looked up by way, not by time.
    reached = np.concatenate([[0.0], np.cumsum(distance)])
    middle = 0.5 * (reached[1:] + reached[:-1])
    path = np.interp(middle, 0.5 * (moved[1:] + moved[:-1]), wanted[:, 1])
    bound = np.minimum(
        limits.max_curvature_pm, limits.max_lateral_accel_mps2 / np.maximum(np.maximum(speed[1:], speed[:-1]), 0.1) ** 2
    )
    before = float(np.clip(curvature, -bound[0], bound[0]))
    steered = lateral.solve(path, distance, bound, before, warm)
    if steered is None:
        return _refused(wanted, f"no steering within {config.corridor_m:g} m of the path keeps the bounds")
    controls = np.stack([profile, steered], axis=1)
    certificate = _certify(config, limits, controls, states, now, before)
    return Smoothed(controls.astype(np.float32), certificate)


def _distances(speed: Float[ndarray, "S"]) -> Float[ndarray, "T"]:
    return 0.5 * (speed[1:] + speed[:-1]) * STEP_S


def _refused(wanted: Float[ndarray, "T 2"], reason: str) -> Smoothed:
    return Smoothed(wanted.astype(np.float32), Certificate(False, reason, float("inf"), float("nan")))


def _certify(
    config: SmoothingConfig,
    limits: Limits,
    controls: Float[ndarray, "T 2"],
    states: Float[ndarray, "S 4"],
    accel: float,
    curvature: float,
) -> Certificate:
    """What the rolled plan says, independently of the solver's own status."""
    rolled = bicycle.forward(states[0], controls, STEP_S)
    speed = rolled[:, 3]
    faster = np.maximum(speed[1:], speed[:-1])
    moving = faster > MOVING_MPS
    jerk = np.diff(controls[:, 0], prepend=accel) / STEP_S
    rate = np.diff(controls[:, 1], prepend=curvature) / STEP_S
    excess = {
        "acceleration": max(
            (controls[:, 0] - limits.max_accel_mps2).max(), (limits.min_accel_mps2 - controls[:, 0]).max()
        ),
        "speed": (speed - limits.max_speed_mps).max(),
        # Jerk and rate are differences over 0.1 s, which multiplies the solver's error by ten.
        "jerk": (np.abs(jerk) - config.max_jerk_mps3).max() * STEP_S,
        "curvature": (np.abs(controls[:, 1]) - limits.max_curvature_pm).max(),
        "curvature rate": ((np.abs(rate) - limits.max_curvature_rate_pmps) * moving).max() * STEP_S,
        "lateral acceleration": (faster**2 * np.abs(controls[:, 1]) - limits.max_lateral_accel_mps2).max(),
    }
    gap = rolled[:, None, :2] - states[None, :, :2]
    beside = np.abs(-np.sin(states[:, 2]) * gap[..., 0] + np.cos(states[:, 2]) * gap[..., 1])
    lateral = float(beside[np.arange(len(rolled)), (gap**2).sum(axis=-1).argmin(axis=1)].max())
    worst = max(excess, key=lambda name: excess[name])
    largest = float(max(excess[worst], 0.0))
    if largest > TOLERANCE:
        return Certificate(False, f"{worst} exceeds its bound by {largest:.3g}", largest, lateral)
    return Certificate(True, "", largest, lateral)


# ------------------------------------------------------------------------------------------------- programs


@functools.cache
def _programs(config: SmoothingConfig, limits: Limits, steps: int) -> tuple[_Longitudinal, _Lateral]:
    return _Longitudinal(config, limits, steps), _Lateral(config, limits, steps)


class _Program:
    """A parametrised quadratic program: canonicalised once (DPP), solved by OSQP for each set of parameters."""

    problem: Any

    def _run(self, warm: bool) -> bool:
        import cvxpy as cp

        # Adapting rho by the clock would make the answer depend on the machine's load.
        options = {"eps_abs": 1e-6, "eps_rel": 1e-6, "max_iter": 8000, "polishing": True, "adaptive_rho_interval": 50}
        with warnings.catch_warnings():
            # An inaccurate solution is told as a warning; here the certificate judges it.
            warnings.simplefilter("ignore", UserWarning)
            try:
                self.problem.solve(solver=cp.OSQP, warm_start=warm, **options)
            except cp.SolverError:
                return False
        return self.problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)


class _Longitudinal(_Program):
    """Speed profile near a candidate's: acceleration and jerk bounded, speed between standstill and the limit."""

    def __init__(self, config: SmoothingConfig, limits: Limits, steps: int) -> None:
        import cvxpy as cp

        self.accel = cp.Variable(steps)
        speed, moved = cp.Variable(steps + 1), cp.Variable(steps + 1)
        self.moved, self.speed = cp.Parameter(steps + 1), cp.Parameter(steps + 1)
        self.now, self.speed_now, self.top = cp.Parameter(), cp.Parameter(), cp.Parameter()
        jerk = cp.diff(cp.hstack([self.now, self.accel])) / STEP_S
        cost = config.position_weight * cp.sum_squares(moved - self.moved)
        cost += config.speed_weight * cp.sum_squares(speed - self.speed)
        cost += config.jerk_weight * cp.sum_squares(jerk)
        self.problem = cp.Problem(
            cp.Minimize(cost),
            [
                speed[0] == self.speed_now,
                moved[0] == 0.0,
                speed[1:] == speed[:-1] + STEP_S * self.accel,
                moved[1:] == moved[:-1] + 0.5 * STEP_S * (speed[1:] + speed[:-1]),
                speed >= 0.0,
                speed <= self.top,
                self.accel >= limits.min_accel_mps2,
                self.accel <= limits.max_accel_mps2,
                cp.abs(jerk) <= config.max_jerk_mps3,
            ],
        )
        self.limit = limits.max_speed_mps

    def solve(
        self, moved: Float[ndarray, "S"], speed: Float[ndarray, "S"], now: float, warm: bool
    ) -> Float[ndarray, "T"] | None:
        """Accelerations; None where the bounds leave no profile."""
        self.moved.value, self.speed.value, self.now.value = moved, speed, now
        self.speed_now.value = speed[0]
        self.top.value = max(self.limit, speed[0])
        return np.array(self.accel.value) if self._run(warm) else None


class _Lateral(_Program):
    """Curvature near a candidate's: its rate bounded and small, the path left by no more than the corridor.

    Offset and heading to the path are linear in the change of curvature, once the speeds are fixed.
    """

    def __init__(self, config: SmoothingConfig, limits: Limits, steps: int) -> None:
        import cvxpy as cp

        change = cp.Variable(steps)
        offset, heading = cp.Variable(steps + 1), cp.Variable(steps + 1)
        self.path, self.bound, self.before = cp.Parameter(steps), cp.Parameter(steps), cp.Parameter()
        self.distance, self.half_square = cp.Parameter(steps), cp.Parameter(steps)
        self.stiffness = cp.Parameter(nonneg=True)
        self.curvature = change + self.path
        difference = cp.diff(cp.hstack([self.before, self.curvature]))
        # DPP wants parameters and variables apart: the scaled difference is a variable of its own.
        scaled = cp.Variable(steps)
        self.problem = cp.Problem(
            cp.Minimize(
                config.lateral_weight * cp.sum_squares(offset)
                + config.lateral_weight * cp.sum_squares(heading)
                + config.curvature_rate_weight * cp.sum_squares(scaled)
                + 1e-3 * cp.sum_squares(change)
            ),
            [
                scaled == self.stiffness * cp.diff(cp.hstack([0.0, change])) + self._reference(cp, steps),
                offset[0] == 0.0,
                heading[0] == 0.0,
                heading[1:] == heading[:-1] + cp.multiply(self.distance, change),
                offset[1:]
                == offset[:-1] + cp.multiply(self.distance, heading[:-1]) + cp.multiply(self.half_square, change),
                cp.abs(offset) <= config.corridor_m,
                self.curvature <= self.bound,
                self.curvature >= -self.bound,
                cp.abs(difference) <= limits.max_curvature_rate_pmps * STEP_S,
            ],
        )

    def _reference(self, cp: Any, steps: int) -> Any:
        self.reference = cp.Parameter(steps)
        return self.reference

    def solve(
        self,
        path: Float[ndarray, "T"],
        distance: Float[ndarray, "T"],
        bound: Float[ndarray, "T"],
        before: float,
        warm: bool,
    ) -> Float[ndarray, "T"] | None:
        """Curvatures; None where the corridor and the bounds leave none."""
        stiffness = float(np.mean(distance) / STEP_S) ** 2
        self.path.value, self.distance.value, self.bound.value, self.before.value = path, distance, bound, before
        self.half_square.value = 0.5 * distance**2
        self.stiffness.value = stiffness
        self.reference.value = stiffness * np.diff(path, prepend=before)
        return np.array(self.curvature.value) if self._run(warm) else None
