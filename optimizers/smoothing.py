"""Smoothing of a few plans by convex programs: bounded jerk along the path, gentle steering near it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from optimizers.limits import Limits
from optimizers.profiles import Lateral, Longitudinal, SmoothingConfig
from optimizers.quadratic import Answer
from wmplan import bicycle
from wmplan.plans import Plans
from wmplan.scene import STEP_S

TOLERANCE = 2e-3
"""How far a certified plan may exceed a bound, in the bound's own unit; one fifth of the grid of accelerations."""
LINEARISED_M = 0.05
"""How far a certified plan may leave the corridor: the program's path is linear in the change of curvature."""
MOVING_MPS = 0.5
"""Below this speed at both ends of a step curvature moves nothing, and its rate is not judged."""


@dataclass(frozen=True)
class Certificate:
    """Whether the smoothed plan keeps every bound when it is rolled, and the reason where it does not.

    `excess` is the largest violation in the bound's own unit, `lateral_m` the largest distance to the path, both of the
    rolled plan in float64. `stationarity` and `gap` say how close both programs are to their optimum (the larger of
    the two): the largest entry of the gradient of the Lagrangian, the relative gap of primal and dual objective.
    """

    feasible: bool
    reason: str
    excess: float
    lateral_m: float
    stationarity: float
    gap: float


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
    if not len(plans):
        return []
    programs = _programs(config, limits, plans.controls.shape[1])
    tries = [_solved(programs, plans.select([i]), accel, curvature, warm=i > 0) for i in range(len(plans))]
    states = plans.states.astype(np.float64)
    rolled = bicycle.forward(states[:, 0], np.stack([found.controls for found in tries]), STEP_S)
    return [
        Smoothed(found.controls.astype(np.float32), _certificate(config, limits, found, at, path))
        for found, at, path in zip(tries, rolled, states, strict=True)
    ]


@dataclass(frozen=True)
class _Try:
    """What the programs found: controls, the acceleration and curvature that they start from, and both answers.

    The candidate's own controls, with the reason, where there is no solution.
    """

    controls: Float[ndarray, "T 2"]
    accel: float
    curvature: float
    answers: tuple[Answer, ...]
    reason: str = ""


@functools.cache
def _programs(config: SmoothingConfig, limits: Limits, steps: int) -> tuple[Longitudinal, Lateral]:
    return Longitudinal(config, limits, steps), Lateral(config, limits, steps)


def _solved(programs: tuple[Longitudinal, Lateral], plan: Plans, accel: float, curvature: float, warm: bool) -> _Try:
    states = plan.states[0].astype(np.float64)
    wanted = plan.controls[0].astype(np.float64)
    moved = np.concatenate([[0.0], np.cumsum(_distances(states[:, 3]))])
    longitudinal, lateral = programs
    limits = lateral.limits

    # A car about to stand releases its brake: no jerk-bounded profile stops from a harder deceleration than this.
    releasable = -0.9 * np.sqrt(2.0 * longitudinal.config.max_jerk_mps3 * states[0, 3])
    now = max(accel, float(releasable))
    along = longitudinal.solve(moved, states[:, 3], now, warm)
    if along.unknown is None:
        return _Try(wanted, now, curvature, (along,), f"no speed profile from here: {_contradiction(along)}")
    profile = now + STEP_S * np.cumsum(along.unknown)
    speed = np.maximum(np.concatenate([states[:1, 3], states[0, 3] + np.cumsum(profile) * STEP_S]), 0.0)
    distance = _distances(speed)
    # The path stays, the time at which its places are reached changes: curvature is looked up by way, not by time.
    reached = np.concatenate([[0.0], np.cumsum(distance)])
    middle = 0.5 * (reached[1:] + reached[:-1])
    path = np.interp(middle, 0.5 * (moved[1:] + moved[:-1]), wanted[:, 1])
    faster = np.maximum(np.maximum(speed[1:], speed[:-1]), 0.1)
    bound = np.minimum(limits.max_curvature_pm, limits.max_lateral_accel_mps2 / faster**2)
    before = float(np.clip(curvature, -bound[0], bound[0]))
    across = lateral.solve(path, distance, bound, before, warm)
    if across.unknown is None:
        return _Try(wanted, now, before, (along, across), f"no steering near the path: {_contradiction(across)}")
    return _Try(np.stack([profile, path + across.unknown], axis=1), now, before, (along, across))


def _contradiction(answer: Answer) -> str:
    """Which bounds cannot hold together, as the solver proved it."""
    if not answer.conflict:
        return f"the solver stopped after {answer.iterations} iterations without a proof"
    return f"{' and '.join(answer.conflict)} cannot be kept" + (" together" if len(answer.conflict) > 1 else "")


def _distances(speed: Float[ndarray, "S"]) -> Float[ndarray, "T"]:
    return 0.5 * (speed[1:] + speed[:-1]) * STEP_S


def _certificate(
    config: SmoothingConfig, limits: Limits, found: _Try, rolled: Float[ndarray, "S 4"], states: Float[ndarray, "S 4"]
) -> Certificate:
    """What the rolled plan says, independently of the solver's own status."""
    if found.reason:
        return Certificate(False, found.reason, np.inf, np.nan, np.inf, np.inf)
    accel, curvature, speed = found.controls[:, 0], found.controls[:, 1], rolled[:, 3]
    faster = np.maximum(speed[1:], speed[:-1])
    jerk = np.diff(accel, prepend=found.accel) / STEP_S
    rate = np.diff(curvature, prepend=found.curvature) / STEP_S
    lateral = _beside(rolled, states)
    excess = {
        "acceleration": max((accel - limits.max_accel_mps2).max(), (limits.min_accel_mps2 - accel).max()),
        "speed": (speed - limits.max_speed_mps).max(),
        # Jerk and rate are differences over 0.1 s, which multiplies the solver's error by ten.
        "jerk": (np.abs(jerk) - config.max_jerk_mps3).max() * STEP_S,
        "curvature": (np.abs(curvature) - limits.max_curvature_pm).max(),
        "curvature rate": ((np.abs(rate) - limits.max_curvature_rate_pmps) * (faster > MOVING_MPS)).max() * STEP_S,
        "lateral acceleration": (faster**2 * np.abs(curvature) - limits.max_lateral_accel_mps2).max(),
        "corridor": lateral - config.corridor_m - LINEARISED_M,
    }
    worst = max(excess, key=lambda name: excess[name])
    largest = float(max(excess[worst], 0.0))
    reason = f"{worst} exceeds its bound by {largest:.3g}" if largest > TOLERANCE else ""
    stationarity = max(answer.stationarity for answer in found.answers)
    gap = max(answer.gap for answer in found.answers)
    return Certificate(not reason, reason, largest, lateral, stationarity, gap)


def _beside(rolled: Float[ndarray, "S 4"], states: Float[ndarray, "S 4"]) -> float:
    """Largest distance of the rolled plan to the left or right of the nearest state of the candidate, m."""
    apart = rolled[:, None, :2] - states[None, :, :2]
    beside = np.abs(-np.sin(states[:, 2]) * apart[..., 0] + np.cos(states[:, 2]) * apart[..., 1])
    return float(beside[np.arange(len(rolled)), (apart**2).sum(axis=-1).argmin(axis=1)].max())
