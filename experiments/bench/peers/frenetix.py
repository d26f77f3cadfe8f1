"""Frenetix (C++): its Frenet lattice on the benchmark's grid, with projection onto a polyline and its own checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from experiments.bench.lattice_task import Task

WHEELBASE_M = 2.7
STEERING_RAD = 0.35
STEERING_RATE_RADPS = 0.4
ACCEL_MPS2 = 4.0
CARS = np.array([[26.0, -0.6], [44.0, 1.8]])


def prepared(task: Task, priced: bool) -> tuple[Callable[[], int], Any]:
    """A function that makes one plan and gives the number of feasible candidates, and the handler that it fills.

    A plan is: polynomials, projection, four checks, and, where `priced`, five costs (both jerks, distance to the
    reference, speed, distance to two obstacles). The reference and the sampling matrix are made once, here.

    Raises:
        ImportError: where Frenetix is not installed (`pip install -c constraints.txt 'wmplan[peers]'`).
    """
    import frenetix
    from frenetix.trajectory_functions import FillCoordinates
    from frenetix.trajectory_functions import cost_functions as costs
    from frenetix.trajectory_functions import feasability_functions as checks

    reference = frenetix.CoordinateSystemWrapper(task.reference)
    ego = frenetix.CartesianPlannerState(np.zeros(2), 0.0, task.speed, 0.0, 0.0)
    seen = frenetix.compute_initial_state(reference, ego, WHEELBASE_M, False)
    handler = frenetix.TrajectoryHandler(dt=task.step_s)
    handler.add_feasability_function(checks.CheckYawRateConstraint(STEERING_RAD, WHEELBASE_M, True))
    handler.add_feasability_function(checks.CheckAccelerationConstraint(7.0, ACCEL_MPS2, True))
    handler.add_feasability_function(checks.CheckCurvatureConstraint(STEERING_RAD, WHEELBASE_M, True))
    handler.add_feasability_function(checks.CheckCurvatureRateConstraint(WHEELBASE_M, STEERING_RATE_RADPS, True))
    if priced:
        handler.add_cost_function(costs.CalculateLateralJerkCost("lateral_jerk", 0.2))
        handler.add_cost_function(costs.CalculateLongitudinalJerkCost("longitudinal_jerk", 0.2))
        handler.add_cost_function(costs.CalculateDistanceToReferencePathCost("reference", 5.0))
        handler.add_cost_function(costs.CalculateVelocityOffsetCost("speed", 1.0, 10.0, task.step_s, 1.1, False, 2))
        handler.add_cost_function(costs.CalculateDistanceToObstacleCost("obstacles", 1.0, CARS))
    handler.add_function(FillCoordinates(False, 0.0, reference, task.steps * task.step_s))
    matrix = _sampling_matrix(task, np.asarray(seen.x0_lon), np.asarray(seen.x0_lat))

    def plan() -> int:
        handler.reset_Trajectories()
        handler.generate_trajectories(matrix, False)
        handler.evaluate_all_current_functions(True)
        return int(handler.get_feasible_count())

    return plan, handler


def paths(task: Task) -> tuple[Float[ndarray, "K 3"], Float[ndarray, "K T 2"]]:
    """End time, speed and offset of every candidate that it takes for feasible, and its positions after each step."""
    plan, handler = prepared(task, priced=False)
    plan()
    feasible = [sample for sample in handler.get_sorted_trajectories() if sample.feasible]
    ends = np.array([np.asarray(sample.sampling_parameters)[[1, 5, 10]] for sample in feasible])
    return ends, np.array([np.stack([sample.cartesian.x, sample.cartesian.y], axis=1)[1:] for sample in feasible])


def _sampling_matrix(task: Task, along: ndarray, across: ndarray) -> Float[ndarray, "K 13"]:
    """Rows t0, t1, s0, s0', s0'', s1', s1'', d0, d0', d0'', d1, d1', d1''."""
    rows = [
        (0.0, end, *along, speed, 0.0, *across, offset, 0.0, 0.0)
        for offset in task.offsets_m
        for end in task.ends_s
        for speed in task.speeds_mps
    ]
    return np.array(rows, dtype=np.float64)
