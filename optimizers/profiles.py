"""The two convex programs of smoothing: a speed profile with bounded jerk, and gentle steering within a corridor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from optimizers.limits import Limits
from optimizers.quadratic import Answer, QuadraticProgram
from optimizers.settings import require
from wmplan.scene import STEP_S


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


class Longitudinal:
    """Speed profile near a candidate's: acceleration and jerk bounded, speed between standstill and the limit.

    In jerks alone: accelerations, speeds and positions are their sums, so that parameters move only right sides and the
    linear cost. With accelerations as unknowns the solver needs twice the iterations.
    """

    def __init__(self, config: SmoothingConfig, limits: Limits, steps: int) -> None:
        import cvxpy as cp

        self.config, self.limits = config, limits
        self.to_accel = STEP_S * np.tril(np.ones((steps, steps)))
        self.to_speed = self.to_accel @ self.to_accel
        before = np.vstack([np.zeros(steps), self.to_speed[:-1]])
        self.to_moved = 0.5 * self.to_accel @ (self.to_speed + before)
        form = config.position_weight * self.to_moved.T @ self.to_moved
        form += config.speed_weight * self.to_speed.T @ self.to_speed + config.jerk_weight * np.eye(steps)
        jerk, pull = cp.Variable(steps), cp.Parameter(steps, name="pull")
        most = cp.Parameter(name="jerk")
        low, high = cp.Parameter(name="braking"), cp.Parameter(name="acceleration")
        stand, top = cp.Parameter(steps, name="standstill"), cp.Parameter(steps, name="speed")
        problem = cp.Problem(
            cp.Minimize(cp.quad_form(jerk, cp.psd_wrap(form)) + pull @ jerk),
            [
                jerk >= -most,
                jerk <= most,
                self.to_accel @ jerk >= low,
                self.to_accel @ jerk <= high,
                self.to_speed @ jerk >= stand,
                self.to_speed @ jerk <= top,
            ],
        )
        bounds = (most, low, high, stand, top)
        self.program = QuadraticProgram(problem, jerk, (pull, *bounds), bounds)

    def solve(self, moved: Float[ndarray, "S"], speed: Float[ndarray, "S"], now: float, warm: bool) -> Answer:
        """Jerks from the present acceleration, `now`, near these positions and speeds."""
        config, limits = self.config, self.limits
        kept = speed[0] + now * self.to_accel.sum(axis=1)
        ahead = self.to_accel @ (0.5 * (kept + np.append(speed[0], kept[:-1])))
        pull = config.position_weight * self.to_moved.T @ (ahead - moved[1:])
        pull += config.speed_weight * self.to_speed.T @ (kept - speed[1:])
        braking, harder = limits.min_accel_mps2 - now, limits.max_accel_mps2 - now
        top = max(limits.max_speed_mps, speed[0])
        return self.program.solve((2.0 * pull, config.max_jerk_mps3, braking, harder, -kept, top - kept), warm)


class Lateral:
    """Curvature near a candidate's: its rate bounded and small, the path left by no more than the corridor.

    Offset and heading to the path are linear in the change of curvature, once the speeds are fixed.
    """

    def __init__(self, config: SmoothingConfig, limits: Limits, steps: int) -> None:
        import cvxpy as cp

        self.config, self.limits = config, limits
        change = cp.Variable(steps)
        offset, heading = cp.Variable(steps + 1), cp.Variable(steps + 1)
        distance, half_square = cp.Parameter(steps, name="distance"), cp.Parameter(steps, name="half_square")
        stiffness, reference = cp.Parameter(nonneg=True, name="stiffness"), cp.Parameter(steps, name="reference")
        right, left = cp.Parameter(name="corridor"), cp.Parameter(name="corridor")
        sharp_right, sharp_left = (cp.Parameter(steps, name="curvature or lateral acceleration") for _ in range(2))
        turn_right, turn_left = cp.Parameter(steps, name="curvature rate"), cp.Parameter(steps, name="curvature rate")
        # DPP wants parameters and variables apart: the scaled difference is a variable of its own.
        scaled = cp.Variable(steps)
        difference = np.eye(steps) - np.eye(steps, k=-1)
        problem = cp.Problem(
            cp.Minimize(
                config.lateral_weight * cp.sum_squares(offset)
                + config.lateral_weight * cp.sum_squares(heading)
                + config.curvature_rate_weight * cp.sum_squares(scaled)
                + 1e-3 * cp.sum_squares(change)
            ),
            [
                scaled == stiffness * (difference @ change) + reference,
                offset[0] == 0.0,
                heading[0] == 0.0,
                heading[1:] == heading[:-1] + cp.multiply(distance, change),
                offset[1:] == offset[:-1] + cp.multiply(distance, heading[:-1]) + cp.multiply(half_square, change),
                offset >= right,
                offset <= left,
                change >= sharp_right,
                change <= sharp_left,
                difference @ change >= turn_right,
                difference @ change <= turn_left,
            ],
        )
        bounds = (right, left, sharp_right, sharp_left, turn_right, turn_left)
        self.program = QuadraticProgram(problem, change, (distance, half_square, stiffness, reference, *bounds), bounds)

    def solve(
        self,
        path: Float[ndarray, "T"],
        distance: Float[ndarray, "T"],
        bound: Float[ndarray, "T"],
        before: float,
        warm: bool,
    ) -> Answer:
        """Changes of the path's curvature, with the present one, `before`, ahead of it."""
        stiffness = float(np.mean(distance) / STEP_S) ** 2
        step = np.diff(path, prepend=before)
        reach, corridor = self.limits.max_curvature_rate_pmps * STEP_S, self.config.corridor_m
        values = (distance, 0.5 * distance**2, stiffness, stiffness * step)
        bounds = (-corridor, corridor, -bound - path, bound - path, -reach - step, reach - step)
        return self.program.solve((*values, *bounds), warm)
