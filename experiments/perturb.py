"""Plans like an executed one but for a smooth change of its controls, ending a chosen distance away from it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.plans import Plans
from wmplan.randomness import fold_in

SHAPES = 3
"""Cosines that a change of controls is made of: slower than one swing in the horizon."""
TRIES = 8
"""Directions tried before a distance counts as out of reach."""
SCALES = np.geomspace(0.01, 30.0, 48)
"""Sizes at which a direction is first rolled, to bracket the distance."""
TOLERANCE = 0.1
"""A change is kept if its end lies within this share of the wanted distance."""


def perturbations(plan: Plans, distances: tuple[float, ...], each: int, seed: int) -> tuple[Plans, Float[ndarray, "K"]]:
    """Changed plans and the distance (metres) at which each was meant to end from where `plan` (one row) ends.

    A change adds smooth profiles to acceleration and curvature; its size is found by bisection. What cannot be reached
    (a standing car cannot end 8 m to the side) is left out, so a distance may have fewer than `each` rows.
    """
    speed = float(plan.states[0, 0, 3])
    found: list[Plans] = []
    meant: list[float] = []
    for distance in distances:
        for index in range(each):
            for attempt in range(TRIES):
                direction = _direction(plan, fold_in(seed, "perturb", repr(distance), index, attempt))
                changed = _at_distance(plan, direction, distance, speed)
                if changed is not None:
                    found.append(changed)
                    meant.append(distance)
                    break
    empty = plan.select([])
    return (Plans.concatenate(found) if found else empty), np.array(meant, dtype=np.float64)


def end_distance(plans: Plans, plan: Plans) -> Float[ndarray, "K"]:
    """Distance in metres between the ends of the plans and the end of `plan` (one row)."""
    gap = plans.states[:, -1, :2].astype(np.float64) - plan.states[0, -1, :2]
    return np.hypot(gap[:, 0], gap[:, 1])


def _direction(plan: Plans, seed: int) -> Float[ndarray, "T 2"]:
    """A random smooth profile of (acceleration, curvature): as far sideways as ahead for a car at this speed."""
    rng = np.random.default_rng(seed)
    steps = plan.controls.shape[1]
    phase = np.pi * (np.arange(steps) + 0.5) / steps
    shapes = np.cos(np.arange(SHAPES)[:, None] * phase)
    profile = rng.standard_normal((2, SHAPES)) @ shapes
    sideways = rng.uniform(0.0, 2.0 * np.pi)
    mean_speed = float(np.mean(plan.states[0, :, 3]))
    return np.stack([np.cos(sideways) * profile[0], np.sin(sideways) * profile[1] / max(mean_speed, 2.0) ** 2], axis=-1)


def _at_distance(plan: Plans, direction: Float[ndarray, "T 2"], distance: float, speed: float) -> Plans | None:
    """The plan changed along the direction so that it ends at the distance; None if it cannot."""

    def rolled(scales: Float[ndarray, "S"]) -> tuple[Plans, Float[ndarray, "S"]]:
        plans = Plans.from_controls(plan.controls.astype(np.float64) + scales[:, None, None] * direction, speed)
        return plans, end_distance(plans, plan)

    _, reached = rolled(SCALES)
    beyond = np.flatnonzero(reached >= distance)
    if not len(beyond):
        return None
    high = SCALES[beyond[0]]
    low = SCALES[beyond[0] - 1] if beyond[0] else 0.0
    for _ in range(4):
        scales = np.linspace(low, high, 12)
        _, reached = rolled(scales)
        first = int(np.argmax(reached >= distance))
        low, high = scales[max(first - 1, 0)], scales[first]
    plans, reached = rolled(np.array([0.5 * (low + high)]))
    return plans if abs(float(reached[0]) - distance) <= TOLERANCE * distance else None
