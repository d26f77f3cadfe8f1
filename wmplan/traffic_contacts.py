"""Contacts of planned ego boxes with the boxes that the log recorded, and whose fault they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from wmplan.boxes import corners, overlaps, segment_touches
from wmplan.frames import wrap_angle
from wmplan.real_road import RealRoad
from wmplan.rules import STOPPED_MPS, TTC_STOPPED_MPS
from wmplan.scene import STEP_S, Tracks

REAR_AXLE = 0.28
"""The rear axle lies this share of the length behind the box's centre (nuPlan's vehicle: 1.461 of 5.176 m)."""
BEHIND_RAD = np.deg2rad(150.0)
AHEAD_RAD = np.deg2rad(30.0)


@dataclass(frozen=True)
class Traffic:
    """Recorded boxes at t0 (step 0) to step T: x, y, yaw, length, width; speed; whether they are there."""

    boxes: Float[ndarray, "A S 5"]
    speed: Float[ndarray, "A S"]
    velocity: Float[ndarray, "A S 2"]
    valid: Bool[ndarray, "A S"]

    @staticmethod
    def of(tracks: Tracks) -> Traffic:
        """Traffic of tracks whose first step is t0."""
        states = np.where(tracks.valid[..., None], tracks.states, 0.0).astype(np.float64)
        sizes = np.broadcast_to(tracks.sizes[:, None].astype(np.float64), (*states.shape[:2], 2))
        return Traffic(
            np.concatenate([states[..., :3], sizes], axis=-1),
            np.hypot(states[..., 3], states[..., 4]),
            states[..., 3:5],
            tracks.valid & np.isfinite(tracks.states).all(axis=-1) & np.all(tracks.sizes > 0.0, axis=1, keepdims=True),
        )

    def moved_on(self, step: int, seconds: float) -> Float[ndarray, "A 5"]:
        """The boxes of a step after this time at constant velocity and heading."""
        boxes = self.boxes[:, step].copy()
        boxes[:, :2] += self.velocity[:, step] * seconds
        return boxes


@dataclass(frozen=True)
class FirstContacts:
    """For each plan and track the first step in contact (-1 for none), and whether the ego is at fault for it."""

    step: Int[ndarray, "K A"]
    at_fault: Bool[ndarray, "K A"]


def ego_boxes(states: Float[ndarray, "*N 4"], length: float, width: float) -> Float[ndarray, "*N 5"]:
    """Boxes of states x, y, yaw, v."""
    size = np.broadcast_to(np.array([length, width]), (*states.shape[:-1], 2))
    return np.concatenate([states[..., :3].astype(np.float64), size], axis=-1)


def touching(
    ego: Float[ndarray, "K 5"], others: Float[ndarray, "A 5"], there: Bool[ndarray, "A"]
) -> Bool[ndarray, "K A"]:
    """Which ego boxes touch which of the others."""
    found = np.zeros((len(ego), len(others)), dtype=bool)
    if not len(ego) or not len(others):
        return found
    reach = (np.hypot(ego[:, 3], ego[:, 4])[:, None] + np.hypot(others[:, 3], others[:, 4])[None]) / 2.0
    gap = np.hypot(ego[:, None, 0] - others[None, :, 0], ego[:, None, 1] - others[None, :, 1])
    k, a = np.nonzero((gap <= reach) & there[None])
    found[k, a] = overlaps(ego[k], others[a])
    return found


def first_contacts(
    states: Float[ndarray, "K S 4"], length: float, width: float, traffic: Traffic, road: RealRoad
) -> FirstContacts:
    """First contact of each plan with each track after t0, and its fault by nuPlan's rules.

    The ego is at fault for a contact with something that stands, with its front bumper, or sideways while it is not
    within one lane; never while it stands, nor for what comes from behind (beyond 150 degrees, seen from the rear
    axle). A track counts once, by its first contact; tracks in contact at t0 are left out: no plan can undo that.
    """
    boxes = ego_boxes(states, length, width)
    k, a = len(boxes), len(traffic.boxes)
    before = touching(boxes[:, 0], traffic.boxes[:, 0], traffic.valid[:, 0])
    step = np.full((k, a), -1)
    for t in range(1, boxes.shape[1]):
        hit = touching(boxes[:, t], traffic.boxes[:, t], traffic.valid[:, t]) & (step < 0) & ~before
        step[hit] = t
    at_fault = np.zeros((k, a), dtype=bool)
    rows, tracks = np.nonzero(step >= 0)
    if len(rows):
        at = step[rows, tracks]
        at_fault[rows, tracks] = _fault(
            boxes[rows, at], states[rows, at, 3], traffic.boxes[tracks, at], traffic.speed[tracks, at], road
        )
    return FirstContacts(step, at_fault)


def _fault(ego: ndarray, speed: ndarray, other: ndarray, other_speed: ndarray, road: RealRoad) -> Bool[ndarray, "N"]:
    front = corners(ego)[:, :2]
    stands = speed <= STOPPED_MPS
    other_stands = other_speed <= STOPPED_MPS
    behind = bearing(ego, other) > BEHIND_RAD
    bumper = segment_touches(front[:, 0], front[:, 1], other)
    sideways = ~road.within_lane(ego)
    return ~stands & (other_stands | (~behind & (bumper | sideways)))


def bearing(ego: Float[ndarray, "N 5"], other: Float[ndarray, "N 5"]) -> Float[ndarray, "N"]:
    """Angle in [0, pi] between the ego's heading and the other's centre, seen from the ego's rear axle."""
    x = ego[:, 0] - REAR_AXLE * ego[:, 3] * np.cos(ego[:, 2])
    y = ego[:, 1] - REAR_AXLE * ego[:, 3] * np.sin(ego[:, 2])
    return np.abs(wrap_angle(np.arctan2(other[:, 1] - y, other[:, 0] - x) - ego[:, 2]))


def ttc_fails(
    states: Float[ndarray, "K S 4"],
    length: float,
    width: float,
    traffic: Traffic,
    road: RealRoad,
    ahead_steps: list[int],
    *,
    recorded: bool,
    last_step: int,
) -> Bool[ndarray, "K"]:
    """Which plans come, at some step from 1 to `last_step`, within these 0.1 s steps of touching something.

    The ego box moves on at constant velocity and heading. With `recorded` the others are where the log has them at that
    time (NAVSIM), else they move on too (nuPlan). Counted are tracks ahead (within 30 degrees), and, while the ego is
    not within one lane, those at the side too; never those behind. A standing ego is skipped.
    """
    fails = np.zeros(len(states), dtype=bool)
    boxes = ego_boxes(states, length, width)
    for t in range(1, last_step + 1):
        moving = np.flatnonzero((states[:, t, 3] > TTC_STOPPED_MPS) & ~fails)
        for ahead in ahead_steps:
            if not len(moving):
                break
            reach = states[moving, t, 3].astype(np.float64) * ahead * STEP_S
            moved = boxes[moving, t].copy()
            moved[:, 0] += reach * np.cos(moved[:, 2])
            moved[:, 1] += reach * np.sin(moved[:, 2])
            if recorded and ahead > 0:
                others, there = traffic.boxes[:, t + ahead], traffic.valid[:, t + ahead] & traffic.valid[:, t]
            else:
                others, there = traffic.moved_on(t, ahead * STEP_S), traffic.valid[:, t]
            k, a = np.nonzero(touching(moved, others, there))
            if len(k):
                angle = bearing(boxes[moving[k], t], traffic.boxes[a, t])
                sideways = ~road.within_lane(boxes[moving[k], t])
                counted = (angle < AHEAD_RAD) | (sideways & (angle <= BEHIND_RAD))
                fails[moving[k[counted]]] = True
                moving = moving[~fails[moving]]
    return fails
