"""L3, feasibility: nobody jumps, nobody brakes or turns as no car can.

A teleport is an instance that ends and another of its kind that begins in the next frame, away from the window's edge,
farther off than (v + a_max dt) dt + 1 m. Accelerations and curvatures are those of instances found again in the next
frame; curvature of vehicles above walking pace only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from wmplan.contracts import IMAGINED_STEP_S
from wmplan.frames import wrap_angle
from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence
from wmplan.validation.instances import VEHICLE, Instances, match
from wmplan.validation.layers import Gate, Layer, share_of
from wmplan.validation.traces import Traces

RARE = Gate(at_most=0.01)
MAX_ACCEL_MPS2 = 8.0
WAYMAX_ACCEL_MPS2 = 10.4
MAX_CURVATURE_PM = 0.3
SLACK_M = 1.0
JUMP_REACH_M = 20.0
"""A farther instance is another one."""
TURNING_MPS = 2.0


@dataclass(frozen=True)
class SceneFeasibility:
    """One scene, means over samples: instances followed by one step, and how many of them do what."""

    scene_id: str
    group: str
    steps: float
    teleports: float
    accelerate: float
    accelerate_waymax: float
    driven: float
    """vehicles above walking pace, whose curvature is known"""
    turn: float


def measure_feasibility(evidence: Evidence) -> SceneFeasibility:
    """Count over all steps and samples."""
    counts = np.mean([_counts(traces) for traces in evidence.traces], axis=0)
    return SceneFeasibility(evidence.scene_id, evidence.group, *(float(n) for n in counts))


def summarise(rows: Sequence[SceneFeasibility], seed: int) -> list[Measure]:
    """Shares of the steps of all scenes."""
    steps, driven = [row.steps for row in rows], [row.driven for row in rows]
    return [
        share_of("teleports", [row.teleports for row in rows], steps, rows, seed, RARE),
        share_of("acceleration beyond 8 m/s2", [row.accelerate for row in rows], steps, rows, seed, RARE),
        share_of("acceleration beyond 10.4 m/s2", [row.accelerate_waymax for row in rows], steps, rows, seed, RARE),
        share_of("curvature beyond 0.3 1/m", [row.turn for row in rows], driven, rows, seed, RARE),
    ]


LAYER = Layer("L3 feasibility", measure_feasibility, summarise)


def _counts(traces: Traces) -> Float64[ndarray, "6"]:
    total = np.zeros(6)
    for t, link in enumerate(traces.links):
        before, after = traces.frames[t], traces.frames[t + 1]
        found = link.seen[:, 1]
        moved = link.position[found, 1] - link.position[found, 0]
        v0, v1 = link.velocity[found, 0], link.velocity[found, 1]
        s0, s1 = np.linalg.norm(v0, axis=1), np.linalg.norm(v1, axis=1)
        accel = np.abs(s1 - s0) / IMAGINED_STEP_S
        turned = np.abs(wrap_angle(np.arctan2(v1[:, 1], v1[:, 0]) - np.arctan2(v0[:, 1], v0[:, 0])))
        drives = (np.minimum(s0, s1) > TURNING_MPS) & (before.kind[found] == VEHICLE)
        curvature = turned / np.maximum(np.linalg.norm(moved, axis=1), TURNING_MPS * IMAGINED_STEP_S)
        jumps = _jumps(before, after, found, link.position[found, 1])
        total += [
            found.sum() + jumps,
            jumps,
            (accel > MAX_ACCEL_MPS2).sum(),
            (accel > WAYMAX_ACCEL_MPS2).sum(),
            drives.sum(),
            (curvature[drives] > MAX_CURVATURE_PM).sum(),
        ]
    return total


def _jumps(before: Instances, after: Instances, found: ndarray, taken: Float64[ndarray, "N 2"]) -> int:
    """Teleports: instances without a successor, matched with those without a predecessor."""
    ended = before.select(~found & ~before.at_edge)
    alone = ~(after.position[:, None] == taken[None]).all(-1).any(1)
    began = after.select(alone & ~after.at_edge)
    pairs = match(ended.position, began.position, JUMP_REACH_M, ended.kind[:, None] == began.kind[None])
    kept = pairs >= 0
    moved = np.linalg.norm(began.position[pairs[kept]] - ended.position[kept], axis=1)
    speed = np.linalg.norm(ended.velocity[kept], axis=1)
    limit = (speed + MAX_ACCEL_MPS2 * IMAGINED_STEP_S) * IMAGINED_STEP_S + SLACK_M
    return int((moved > limit).sum())
