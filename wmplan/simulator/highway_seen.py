"""What everybody does in highway-env at one moment, in the mirrored frame, and tables of several moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from wmplan.scene import Kind


class EgoOnLane(NamedTuple):
    """Where the ego's centre is: the nearest lane's number, metres along it and to its left; whether it is on a lane,
    and whether it has crashed (both in highway-env's own words)."""

    lane: int
    s: float
    lateral: float
    on_road: bool
    crashed: bool


@dataclass(frozen=True)
class Seen:
    """Everybody at one moment, the ego first, in the mirrored frame: x, y (m), yaw (rad), speed (m/s)."""

    labels: tuple[str, ...]
    states: Float[ndarray, "N 4"]
    sizes: Float[ndarray, "N 2"]
    kinds: Int[ndarray, "N"]
    ego: EgoOnLane


class Table(NamedTuple):
    """Several moments: states x, y, yaw, speed, and who is there."""

    states: Float[ndarray, "S A 4"]
    there: Bool[ndarray, "S A"]
    sizes: Float[ndarray, "A 2"]
    kinds: Int[ndarray, "A"]


def look(env: Any) -> Seen:
    """Everybody now."""
    me = env.vehicle
    others = [v for v in env.road.vehicles if v is not me]
    everybody = [me, *others, *env.road.objects]
    rows = [[v.position[0], -v.position[1], -v.heading, v.speed] for v in everybody]
    s, right = me.lane.local_coordinates(me.position)
    number = list(env.road.network.lanes_dict()).index(me.lane_index)
    return Seen(
        labels=tuple(v.label for v in everybody),
        states=np.array(rows, dtype=np.float64),
        sizes=np.array([[v.LENGTH, v.WIDTH] for v in everybody], dtype=np.float64),
        kinds=np.where(np.arange(len(everybody)) <= len(others), Kind.VEHICLE, Kind.OTHER),
        ego=EgoOnLane(number, float(s), -float(right), bool(me.on_road), bool(me.crashed)),
    )


def labels(moments: Sequence[Seen]) -> tuple[str, ...]:
    """Everybody who is in one of the moments, the ego first, in the order of coming."""
    return tuple(dict.fromkeys(label for moment in moments for label in moment.labels))


def tabled(moments: Sequence[Seen], labels: tuple[str, ...]) -> Table:
    """These road users over the moments; zeros where one isn't there."""
    rows = {label: i for i, label in enumerate(labels)}
    states, there = np.zeros((len(moments), len(labels), 4)), np.zeros((len(moments), len(labels)), dtype=bool)
    sizes, kinds = np.ones((len(labels), 2)), np.full(len(labels), int(Kind.OTHER))
    for step, moment in enumerate(moments):
        at = [rows[label] for label in moment.labels]
        states[step, at], there[step, at] = moment.states, True
        sizes[at], kinds[at] = moment.sizes, moment.kinds
    return Table(states, there, sizes, kinds)
