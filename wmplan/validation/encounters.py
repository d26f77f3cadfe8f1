"""L2's samples: speeds of road users, and how those in the ego's lane stand to the ego, read from frames.

True and imagined frames are read alike (connected components with the velocity channel), so what the read-out itself
adds is on both sides. Road users count as in the ego's lane within 2 m to the side of where the ego really was; a gap
runs from the ego's bumper to the other's centre, along the ego's heading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from wmplan.contracts import IMAGINED_STEP_S
from wmplan.raster import STRIDE
from wmplan.validation.evidence import Evidence, Observed
from wmplan.validation.instances import VEHICLE
from wmplan.validation.traces import Traces

ASIDE_M = 2.0
LONGEST_GAP_M = 40.0
LONGEST_S = 10.0
"""Longer times to collision and time headways are not counted."""
CLOSING_MPS = 0.1
MOVING_MPS = 1.0


@dataclass(frozen=True)
class Encounters:
    """What is found in one future. `relations` has a row for each vehicle in the ego's lane at each step: gap (m),
    speed of the other minus the ego's (m/s), acceleration of the other and of the ego (m/s2); at most one row a step
    and vehicle. Times are in seconds, of those that have one."""

    speed: Float64[ndarray, "N"]
    gap: Float64[ndarray, "R"]
    ttc: Float64[ndarray, "P"]
    thw: Float64[ndarray, "Q"]
    relations: Float64[ndarray, "J 4"]


@dataclass(frozen=True)
class SceneEncounters:
    """True and imagined encounters of one scene; the imagined are of the first sample."""

    scene_id: str
    group: str
    true: Encounters
    imagined: Encounters


def measure_encounters(evidence: Evidence) -> SceneEncounters:
    """Everything that L2 compares."""
    observed = evidence.observed
    return SceneEncounters(
        evidence.scene_id,
        evidence.group,
        encounters(observed.traces, observed),
        encounters(evidence.traces[0], observed),
    )


def encounters(traces: Traces, observed: Observed) -> Encounters:
    """The encounters of one future with the ego as it really drove."""
    ego = observed.plan.states[0, ::STRIDE].astype(np.float64)
    ego_accel = np.gradient(ego[:, 3], IMAGINED_STEP_S)
    half = observed.raster.start.length / 2.0
    speeds = [np.linalg.norm(frame.velocity, axis=1) for frame in traces.frames[1:]]
    gaps, ttcs, thws = [], [], []
    for step, frame in enumerate(traces.frames[1:], start=1):
        vehicles = frame.kind == VEHICLE
        gap, own, along = _in_lane(frame.position[vehicles], frame.velocity[vehicles], ego[step], half)
        ahead = own > 0.0
        closing = np.where(ahead, ego[step, 3] - along, along - ego[step, 3])
        follower = np.where(ahead, ego[step, 3], along)
        gaps.append(gap)
        ttcs.append((gap / np.maximum(closing, CLOSING_MPS))[closing > CLOSING_MPS])
        thws.append((gap / np.maximum(follower, MOVING_MPS))[follower > MOVING_MPS])
    relations = [
        _relations(traces, step, ego[step], ego_accel[step], half) for step in range(1, len(traces.frames) - 1)
    ]
    return Encounters(
        _joined(speeds),
        _joined(gaps),
        _at_most(_joined(ttcs), LONGEST_S),
        _at_most(_joined(thws), LONGEST_S),
        np.concatenate([np.zeros((0, 4)), *relations]),
    )


def _relations(
    traces: Traces, step: int, ego: Float64[ndarray, "4"], ego_accel: float, half: float
) -> Float64[ndarray, "R 4"]:
    """Vehicles of this frame found again in the next one; their acceleration is the change of speed between."""
    link = traces.links[step]
    kept = link.seen[:, 1] & (traces.frames[step].kind == VEHICLE)
    before, after = link.velocity[kept, 0], link.velocity[kept, 1]
    position = link.position[kept, 0]
    accel = (np.linalg.norm(after, axis=1) - np.linalg.norm(before, axis=1)) / IMAGINED_STEP_S
    near = _near(position, ego)
    gap, _, along = _in_lane(position, before, ego, half)
    count = len(gap)
    return np.stack([gap, along - ego[3], accel[near], np.full(count, ego_accel)], axis=1)


def _in_lane(
    position: Float64[ndarray, "N 2"], velocity: Float64[ndarray, "N 2"], ego: Float64[ndarray, "4"], half: float
) -> tuple[Float64[ndarray, "R"], Float64[ndarray, "R"], Float64[ndarray, "R"]]:
    """Gap, signed place along the ego's heading, and speed along it, of those in its lane."""
    near = _near(position, ego)
    heading = np.array([np.cos(ego[2]), np.sin(ego[2])])
    along = (position[near] - ego[:2]) @ heading
    return np.maximum(np.abs(along) - half, 0.0), along, velocity[near] @ heading


def _near(position: Float64[ndarray, "N 2"], ego: Float64[ndarray, "4"]) -> ndarray:
    heading = np.array([np.cos(ego[2]), np.sin(ego[2])])
    away = position - ego[:2]
    aside = away[:, 1] * heading[0] - away[:, 0] * heading[1]
    return (np.abs(aside) <= ASIDE_M) & (np.abs(away @ heading) <= LONGEST_GAP_M)


def _joined(parts: Sequence[ndarray]) -> Float64[ndarray, "N"]:
    return np.concatenate([np.zeros(0), *parts])


def _at_most(values: Float64[ndarray, "N"], most: float) -> Float64[ndarray, "M"]:
    return values[values <= most]
