"""What everybody does in highway-env at one moment, in the mirrored frame, and tables of several moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray


@dataclass(frozen=True)
class Seen:
    """Everybody at one moment, in the mirrored frame: x, y (m), yaw (rad), speed (m/s), length, width (m), and whether
    it is a vehicle, has crashed, has its centre on a lane."""

    labels: tuple[str, ...]
    states: Float[ndarray, "N 6"]
    vehicle: Bool[ndarray, "N"]
    crashed: Bool[ndarray, "N"]
    on_road: Bool[ndarray, "N"]


def look(env: Any) -> Seen:
    """Everybody now, the ego first."""
    others = [v for v in env.road.vehicles if v is not env.vehicle]
    everybody = [env.vehicle, *others, *env.road.objects]
    rows = [[v.position[0], -v.position[1], -v.heading, v.speed, v.LENGTH, v.WIDTH] for v in everybody]
    cars = 1 + len(others)
    return Seen(
        labels=tuple(v.label for v in everybody),
        states=np.array(rows, dtype=np.float64),
        vehicle=np.arange(len(everybody)) < cars,
        crashed=np.array([bool(v.crashed) for v in everybody]),
        on_road=np.array([bool(v.on_road) for v in everybody]),
    )


def labels(moments: Sequence[Seen]) -> tuple[str, ...]:
    """Everybody who is in one of the moments, the ego first, in the order of coming."""
    return tuple(dict.fromkeys(label for moment in moments for label in moment.labels))


def tabled(
    moments: Sequence[Seen], labels: tuple[str, ...]
) -> tuple[Float[ndarray, "S A 4"], Bool[ndarray, "S A"], Float[ndarray, "A 2"], Bool[ndarray, "A"]]:
    """States, presence, sizes and kind of these road users over the moments."""
    rows = {label: i for i, label in enumerate(labels)}
    states, there = np.zeros((len(moments), len(labels), 4)), np.zeros((len(moments), len(labels)), dtype=bool)
    sizes, vehicle = np.zeros((len(labels), 2)), np.zeros(len(labels), dtype=bool)
    for step, moment in enumerate(moments):
        at = [rows[label] for label in moment.labels]
        states[step, at], there[step, at] = moment.states[:, :4], True
        sizes[at], vehicle[at] = moment.states[:, 4:], moment.vehicle
    return states, there, sizes, vehicle
