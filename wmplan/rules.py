"""The small rules that both published driving scores are made of; shared by the critics and the real scores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

DRIVABLE_TOLERANCE_M = 0.3
"""nuPlan: a corner may lie less than this outside the drivable area."""
DIRECTION_WINDOW_STEPS = 10
"""Progress against the lane direction is summed over 1 s."""
STOPPED_MPS = 0.05
"""At or below this speed something stands."""
TTC_STOPPED_MPS = 0.005
"""An ego at or below this speed has no time to collision."""
PROGRESS_FLOOR_M = 2.0
"""nuPlan's threshold of the progress ratio."""
EP_FLOOR_M = 5.0
"""NAVSIM: with less progress to be made than this, every plan has full progress."""
OVERSPEED_MPS = 2.23
"""nuPlan: a mean overspeed of this gives a speed score of 0."""
MAKING_PROGRESS = 0.2
"""nuPlan: a progress ratio from this on is making progress."""


def direction_score(against_m: Float[ndarray, "K"]) -> Float[ndarray, "K"]:
    """Under 2 m against the lanes in the worst second 1, under 6 m 0.5, else 0 (nuPlan, NAVSIM)."""
    return np.where(against_m < 2.0, 1.0, np.where(against_m < 6.0, 0.5, 0.0))


def worst_against(progress: Float[ndarray, "K T"], window: int = DIRECTION_WINDOW_STEPS) -> Float[ndarray, "K"]:
    """Most metres driven against the lanes within any window, from signed progress a step; at least 0."""
    window = min(window, progress.shape[1])
    windows = progress.shape[1] - window + 1
    # Added in order, so that a row does not depend on others.
    total = np.zeros((len(progress), windows))
    for t in range(window):
        total = total + progress[:, t : t + windows]
    return np.maximum(0.0 - total, 0.0).max(axis=1, initial=0.0)


def progress_ratio(moved_m: Float[ndarray, "K"], wanted_m: float) -> Float[ndarray, "K"]:
    """nuPlan: 0 when moving back beyond the floor, else max(moved, 2 m) / max(wanted, 2 m), at most 1."""
    ratio = np.maximum(moved_m, PROGRESS_FLOOR_M) / max(wanted_m, PROGRESS_FLOOR_M)
    return np.where(moved_m < -PROGRESS_FLOOR_M, 0.0, np.minimum(ratio, 1.0))


def ego_progress(moved_m: Float[ndarray, "K"], wanted_m: float) -> Float[ndarray, "K"]:
    """NAVSIM's EP against a fixed distance: moved / wanted in [0, 1]; 1 where no more than 5 m are wanted."""
    if wanted_m <= EP_FLOOR_M:
        return np.ones(len(moved_m))
    return np.clip(moved_m / wanted_m, 0.0, 1.0)


def speed_score(speed: Float[ndarray, "K T"], limit_mps: float) -> Float[ndarray, "K"]:
    """nuPlan: 1 - mean overspeed / 2.23 m/s, at least 0; added in order, so a row does not depend on others."""
    total = np.zeros(len(speed))
    for t in range(speed.shape[1]):
        total = total + np.maximum(speed[:, t] - limit_mps, 0.0)
    return np.maximum(1.0 - total / speed.shape[1] / OVERSPEED_MPS, 0.0)


def pdms(
    no_collision: Float[ndarray, "K"],
    drivable: Float[ndarray, "K"],
    ttc: Float[ndarray, "K"],
    progress: Float[ndarray, "K"],
    comfort: Float[ndarray, "K"],
) -> Float[ndarray, "K"]:
    """NAVSIM v1: NC * DAC * (5 TTC + 5 EP + 2 C) / 12."""
    return no_collision * drivable * (5.0 * ttc + 5.0 * progress + 2.0 * comfort) / 12.0


def nuplan_score(
    multipliers: list[Float[ndarray, "K"]],
    progress: Float[ndarray, "K"],
    ttc: Float[ndarray, "K"],
    speed: Float[ndarray, "K"],
    comfort: Float[ndarray, "K"],
) -> Float[ndarray, "K"]:
    """nuPlan closed loop: the product of the multipliers times the mean weighted 5, 5, 4, 2."""
    score = (5.0 * progress + 5.0 * ttc + 4.0 * speed + 2.0 * comfort) / 16.0
    for multiplier in multipliers:
        score = score * multiplier
    return score
