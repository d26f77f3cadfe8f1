"""How likely a log is under a simulator, by the Waymo Open Sim Agents challenge: kinematic and interactive features.

Written from the published definitions, not from their code. Bins and weights are those of 2024 and of 2025, which
differ in map features only; those (road edges, off-road, red lights) are not computed, so there is no total to compare
with the challenge's. Its version of 2023 differs.

References:
    Montali et al. (2023), The Waymo Open Sim Agents Challenge, section 4 and appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from wmplan.frames import wrap_angle
from wmplan.scene import STEP_S

YEARS = "2024, 2025"
"""Years of the challenge whose bins and weights these are."""
PSEUDO_COUNT, PSEUDO_COUNT_BERNOULLI = 0.1, 0.001
ROUNDED = 0.7
"""Corners of boxes are rounded: this share of half the smaller side is the radius."""
NEAREST = 8
"""Exact distances are taken to those whose surrounding circles are the nearest."""
SAME_WAY_RAD, SAME_WAY_BESIDE_RAD, BESIDE_M = np.deg2rad(75.0), np.deg2rad(10.0), 0.5
"""One follows a box ahead that overlaps its strip and looks its way; better aligned if it overlaps by less."""
TTC_CAP_S = 5.0


@dataclass(frozen=True)
class Scale:
    """Range and number of bins of one feature's histogram, and its weight in the challenge's total."""

    low: float
    high: float
    bins: int
    weight: float


SCALES = {
    "linear_speed": Scale(0.0, 25.0, 10, 0.05),
    "linear_acceleration": Scale(-12.0, 12.0, 11, 0.05),
    "angular_speed": Scale(-0.628, 0.628, 11, 0.05),
    "angular_acceleration": Scale(-3.14, 3.14, 11, 0.05),
    "distance_to_nearest_object": Scale(-5.0, 40.0, 10, 0.10),
    "time_to_collision": Scale(0.0, 5.0, 10, 0.10),
    "collision": Scale(0.0, 1.0, 2, 0.25),
}
KINEMATIC = ("linear_speed", "linear_acceleration", "angular_speed", "angular_acceleration")
INTERACTIVE = ("distance_to_nearest_object", "time_to_collision", "collision")


@dataclass(frozen=True)
class Traces:
    """R rollouts of A road users over T steps of `STEP_S`: box centre (m), heading (rad), whether they are there."""

    x: Float[ndarray, "R A T"]
    y: Float[ndarray, "R A T"]
    yaw: Float[ndarray, "R A T"]
    length: Float[ndarray, "A"]
    width: Float[ndarray, "A"]
    valid: Bool[ndarray, "R A T"]


@dataclass(frozen=True)
class Feature:
    """One feature of the judged road users, and where it means something. A collision is one value a road user."""

    value: Float[ndarray, "R E _T"]
    valid: Bool[ndarray, "R E _T"]


def features(traces: Traces, judged: Int[ndarray, "E"], first: int) -> dict[str, Feature]:
    """Every feature of the judged rows at steps `first` to the last; those before serve differences alone."""
    speed, rise, turn, swing = kinematics(traces.x, traces.y, traces.yaw)
    once = _both_sides(traces.valid)
    twice = _both_sides(once)
    now = (slice(None), judged, slice(first, None))
    near = distance_to_nearest(traces, judged, first)
    there = traces.valid[now]
    met = np.asarray(((near < 0.0) & there).any(axis=2, keepdims=True))
    return {
        "linear_speed": Feature(speed[now], once[now]),
        "linear_acceleration": Feature(rise[now], twice[now]),
        "angular_speed": Feature(turn[now], once[now]),
        "angular_acceleration": Feature(swing[now], twice[now]),
        "distance_to_nearest_object": Feature(near, there),
        "time_to_collision": Feature(time_to_collision(traces, speed, judged, first), once[now]),
        "collision": Feature(met.astype(np.float64), np.asarray(there.any(axis=2, keepdims=True))),
    }


def likelihoods(simulated: dict[str, Feature], logged: dict[str, Feature]) -> dict[str, Float[ndarray, "E"]]:
    """For each feature the mean log likelihood of each judged road user's logged values under the histogram of its
    simulated ones, all rollouts and steps pooled; NaN where the log or the simulator never shows the feature."""
    found = {}
    for name, scale in SCALES.items():
        pseudo = PSEUDO_COUNT_BERNOULLI if name == "collision" else PSEUDO_COUNT
        sim, log = simulated[name], logged[name]
        per_row = []
        for row in range(log.value.shape[1]):
            drawn = sim.value[:, row][sim.valid[:, row]]
            real = log.value[0, row][log.valid[0, row]]
            if not len(drawn) or not len(real):
                per_row.append(np.nan)
                continue
            count = np.bincount(_bin(drawn, scale), minlength=scale.bins) + pseudo
            per_row.append(float(np.log(count / count.sum())[_bin(real, scale)].mean()))
        found[name] = np.array(per_row)
    return found


def kinematics(
    x: Float[ndarray, "*A T"], y: Float[ndarray, "*A T"], yaw: Float[ndarray, "*A T"]
) -> tuple[Float[ndarray, "*A T"], ...]:
    """Linear speed and acceleration, angular speed and acceleration, by central differences; NaN at the ends.

    Differences of headings are doubled before they are wrapped and halved again: a box that flips by half a turn does
    not turn.
    """
    speed = np.hypot(_central(x), _central(y)) / STEP_S
    turn = 0.5 * wrap_angle(2.0 * _central(yaw))
    swing = 0.5 * wrap_angle(2.0 * _central(turn))
    return speed, _central(speed) / STEP_S, turn / STEP_S, swing / STEP_S**2


def distance_to_nearest(traces: Traces, judged: Int[ndarray, "E"], first: int) -> Float[ndarray, "R E S"]:
    """Metres from each judged box to the nearest other one, corners rounded; negative where they overlap."""
    x, y, yaw = (field[:, :, first:] for field in (traces.x, traces.y, traces.yaw))
    there = traces.valid[:, :, first:]
    radius = 0.5 * np.hypot(traces.length, traces.width)
    most = min(NEAREST, x.shape[1] - 1)
    answer = np.full((len(x), len(judged), x.shape[2]), np.inf)
    for i, own in enumerate(judged):
        gap = np.hypot(x - x[:, own, None], y - y[:, own, None]) - radius[None, :, None]
        gap[~there] = np.inf
        gap[:, own] = np.inf
        if not most:
            continue
        others = np.argpartition(gap, most - 1, axis=1)[:, :most]
        seen = np.take_along_axis(gap, others, axis=1) < np.inf
        ox, oy, oyaw = (np.take_along_axis(field, others, axis=1) for field in (x, y, yaw))
        away = rounded_distance(
            (x[:, own, None] - ox, y[:, own, None] - oy, yaw[:, own, None] + 0.0 * ox),
            oyaw,
            (np.full(others.shape, traces.length[own]), np.full(others.shape, traces.width[own])),
            (traces.length[others], traces.width[others]),
        )
        answer[:, i] = np.where(seen, away, np.inf).min(axis=1)
    return answer


def rounded_distance(
    own: tuple[ndarray, ndarray, ndarray],
    yaw: Float[ndarray, "*N"],
    size: tuple[ndarray, ndarray],
    other: tuple[ndarray, ndarray],
) -> Float[ndarray, "*N"]:
    """Signed distance (m) between boxes with rounded corners: the first at x, y, yaw as seen from the other's centre,
    axes not turned; the other with heading `yaw`; lengths and widths of both. Overlap is the depth along the axis of
    either box in which it is least, negative."""
    dx, dy, facing = own
    radius_a, radius_b = (0.5 * ROUNDED * np.minimum(*box) for box in (size, other))
    a = [0.5 * side - radius_a for side in size]
    b = [0.5 * side - radius_b for side in other]
    cos, sin = np.cos(facing - yaw), np.sin(facing - yaw)
    c, s = np.cos(yaw), np.sin(yaw)
    x, y = c * dx + s * dy, c * dy - s * dx  # the first box in the frame of the other
    u, v = -(cos * x + sin * y), sin * x - cos * y  # and the other way round
    gaps = [
        np.abs(x) - b[0] - np.abs(cos) * a[0] - np.abs(sin) * a[1],
        np.abs(y) - b[1] - np.abs(sin) * a[0] - np.abs(cos) * a[1],
        np.abs(u) - a[0] - np.abs(cos) * b[0] - np.abs(sin) * b[1],
        np.abs(v) - a[1] - np.abs(sin) * b[0] - np.abs(cos) * b[1],
    ]
    depth = np.maximum.reduce(gaps)
    apart = np.full(depth.shape, np.inf)
    for along, across in ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)):
        px, py = x + along * cos * a[0] - across * sin * a[1], y + along * sin * a[0] + across * cos * a[1]
        qx, qy = u + along * cos * b[0] + across * sin * b[1], v - along * sin * b[0] + across * cos * b[1]
        for near_x, near_y, half in ((px, py, b), (qx, qy, a)):
            outside = np.hypot(np.maximum(np.abs(near_x) - half[0], 0.0), np.maximum(np.abs(near_y) - half[1], 0.0))
            apart = np.minimum(apart, outside)
    return np.where(depth > 0.0, apart, depth) - radius_a - radius_b


def time_to_collision(
    traces: Traces, speed: Float[ndarray, "R A T"], judged: Int[ndarray, "E"], first: int
) -> Float[ndarray, "R E S"]:
    """Seconds until each judged box touches the one that it follows, if both keep their speeds; at most `TTC_CAP_S`."""
    x, y, yaw = (field[:, :, first:] for field in (traces.x, traces.y, traces.yaw))
    there, pace = traces.valid[:, :, first:], np.nan_to_num(speed[:, :, first:])
    half_length, half_width = 0.5 * traces.length[None, :, None], 0.5 * traces.width[None, :, None]
    answer = np.full((len(x), len(judged), x.shape[2]), TTC_CAP_S)
    for i, own in enumerate(judged):
        turned = np.abs(wrap_angle(yaw - yaw[:, own, None]))
        c, s = np.cos(yaw[:, own, None]), np.sin(yaw[:, own, None])
        dx, dy = x - x[:, own, None], y - y[:, own, None]
        cos, sin = np.abs(np.cos(turned)), np.abs(np.sin(turned))
        ahead = c * dx + s * dy - 0.5 * traces.length[own] - cos * half_length - sin * half_width
        beside = np.abs(c * dy - s * dx) - 0.5 * traces.width[own] - sin * half_length - cos * half_width
        follows = (ahead > 0.0) & (beside < 0.0) & (turned <= SAME_WAY_RAD) & there
        follows &= (beside < -BESIDE_M) | (turned <= SAME_WAY_BESIDE_RAD)
        follows[:, own] = False
        gap = np.where(follows, ahead, np.inf)
        leader = gap.argmin(axis=1)[:, None]
        gap = np.take_along_axis(gap, leader, axis=1)[:, 0]
        closing = pace[:, own] - np.take_along_axis(pace, leader, axis=1)[:, 0]
        safe = np.where(closing > 0.0, closing, 1.0)
        answer[:, i] = np.where(closing > 0.0, np.minimum(gap / safe, TTC_CAP_S), TTC_CAP_S)
    return answer


def _bin(values: Float[ndarray, "N"], scale: Scale) -> Int[ndarray, "N"]:
    share = (np.clip(values, scale.low, scale.high) - scale.low) / (scale.high - scale.low)
    return np.minimum((share * scale.bins).astype(np.int64), scale.bins - 1)


def _central(values: Float[ndarray, "*A T"]) -> Float[ndarray, "*A T"]:
    """Half the difference between the next value and the one before, a step; NaN at both ends."""
    inner = 0.5 * (values[..., 2:] - values[..., :-2])
    return np.pad(inner, [(0, 0)] * (values.ndim - 1) + [(1, 1)], constant_values=np.nan)


def _both_sides(valid: Bool[ndarray, "*A T"]) -> Bool[ndarray, "*A T"]:
    """Where the values before and after are valid."""
    inner = valid[..., 2:] & valid[..., :-2]
    return np.pad(inner, [(0, 0)] * (valid.ndim - 1) + [(1, 1)], constant_values=False)
