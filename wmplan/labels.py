"""What a log says happened after a scene: hard braking, a short time to collision. Each with whether it can be told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.signal import savgol_filter

from wmplan.rules import STOPPED_MPS, TTC_STOPPED_MPS
from wmplan.scene import STEP_S, Future, Scene
from wmplan.traffic_contacts import BEHIND_RAD, Traffic, bearing, ego_boxes, touching

SPEED_WINDOW = 7
"""Samples of the quadratic that gives the logged ego's acceleration: 0.7 s, so single bad boxes are no braking."""
TTC_CAP_S = 3.0
"""Times to collision are looked for up to this."""


@dataclass(frozen=True)
class Label:
    """A fact of the log; `valid` is False where the log cannot tell, and `value` then means nothing."""

    value: bool
    valid: bool


@dataclass(frozen=True)
class OutcomeLabels:
    """What followed within 3 s: the ego braked harder than 3 m/s2; its time to collision fell under 1.5 s."""

    hard_braking: Label
    short_ttc: Label


def outcome_labels(scene: Scene, future: Future, within_s: float = 3.0) -> OutcomeLabels:
    """Both labels; braking is not told where the log's accelerations are not to be trusted."""
    braking = hard_braking_within(future, within_s)
    ttc, seen = min_ttc_within(future, within_s)
    return OutcomeLabels(
        Label(braking.value, braking.valid and scene.labels_reliable), Label(ttc < 1.5, seen and scene.labels_reliable)
    )


def hard_braking_within(future: Future, within_s: float = 3.0, limit_mps2: float = 3.0) -> Label:
    """Whether the logged ego braked harder than the limit at some time; told only if it is seen all the time."""
    steps = round(within_s / STEP_S)
    valid = future.ego.valid[0, :steps]
    states = future.ego.states[0, :steps].astype(np.float64)
    if steps < SPEED_WINDOW or len(valid) < steps or not valid.all() or not np.isfinite(states).all():
        return Label(False, False)
    accel = savgol_filter(_forward(states), SPEED_WINDOW, 2, deriv=1, delta=STEP_S)
    return Label(bool(accel.min() < -limit_mps2), True)


def min_ttc_within(future: Future, within_s: float = 3.0) -> tuple[float, bool]:
    """Smallest time to collision (s, at most 3.0 where none is nearer) of the logged ego, and whether it can be told.

    At each step everyone moves on at constant velocity and heading, in steps of 0.1 s; counted are road users that are
    not behind (150 degrees). A standing ego has no time to collision; contact itself is 0.
    """
    steps = round(within_s / STEP_S)
    valid = future.ego.valid[0, :steps]
    states = future.ego.states[0, :steps].astype(np.float64)
    if len(valid) < steps or not valid.all() or not np.isfinite(states).all():
        return TTC_CAP_S, False
    motion = np.concatenate([states[:, :3], _forward(states)[:, None]], axis=1)
    length, width = (float(s) for s in future.ego.sizes[0])
    boxes = ego_boxes(motion, length, width)
    traffic = Traffic.of(future.agents.steps(0, steps))
    shortest = TTC_CAP_S
    for t in np.flatnonzero(motion[:, 3] > max(TTC_STOPPED_MPS, STOPPED_MPS)):
        for tick in range(round(shortest / STEP_S)):
            moved = boxes[t : t + 1].copy()
            moved[:, 0] += motion[t, 3] * tick * STEP_S * np.cos(moved[:, 2])
            moved[:, 1] += motion[t, 3] * tick * STEP_S * np.sin(moved[:, 2])
            hit = touching(moved, traffic.moved_on(int(t), tick * STEP_S), traffic.valid[:, t])[0]
            a = np.flatnonzero(hit)
            if (
                len(a)
                and (bearing(np.repeat(boxes[t : t + 1], len(a), axis=0), traffic.boxes[a, t]) <= BEHIND_RAD).any()
            ):
                shortest = tick * STEP_S
                break
    return float(shortest), True


def _forward(states: ndarray) -> ndarray:
    """Speed along the heading, m/s."""
    return states[:, 3] * np.cos(states[:, 2]) + states[:, 4] * np.sin(states[:, 2])
