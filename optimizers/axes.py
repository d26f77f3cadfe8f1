"""The lattice's axes, end times and speeds along the route and offsets from it, and in which order they are asked."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float32, Int, Int32
from numpy import ndarray

from wmplan.scene import STEP_S

RANGE, OF_TARGET, ABSOLUTE, KEEP, STANDSTILL, EMERGENCY = range(6)
"""What an end speed means: a fraction of the way from the slowest to the fastest; a fraction of the target speed; m/s;
the present one; comfortable braking to standstill; braking at the limit."""
ENDS = ((2 / 3, 1.0), (1 / 3, 2 / 3, 1.0), (1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0))
"""End times of the levels as fractions of the horizon; the last serves all denser levels."""
SPECIAL = (
    (OF_TARGET, False, "target"),
    (KEEP, True, "keep"),
    (STANDSTILL, False, "standstill"),
    (EMERGENCY, False, "emergency"),
    (EMERGENCY, True, "emergency"),
)
"""Candidates that are always asked: their end speed, whether they keep the ego's offset (else to the route), label."""


class Axes(NamedTuple):
    """P profiles along the route and J offsets from it; every pair is a candidate, number `d * P + p`.

    `end` is in s, `speed` what `kind` says, `offset` in m to the left of the route, the ego's own where `own`.
    """

    end: Float32[Array | ndarray, "P"]
    speed: Float32[Array | ndarray, "P"]
    kind: Int32[Array | ndarray, "P"]
    offset: Float32[Array | ndarray, "J"]
    own: Bool[Array | ndarray, "J"]


@dataclass(frozen=True, eq=False)
class Design:
    """A lattice: its axes, and the candidates of it that may be asked, coarse ones first.

    `rows` are numbers of candidates, `level` their density (0 is coarse), `labels` what they are.
    """

    axes: Axes
    rows: Int[ndarray, "N"]
    level: Int[ndarray, "N"]
    labels: tuple[str, ...]


@functools.cache
def design(horizon_steps: int, max_offset_m: float, least: int) -> Design:
    """The coarsest lattice with at least so many candidates; each level contains those before."""
    horizon = horizon_steps * STEP_S
    depth = 0
    while len(SPECIAL) + np.prod([len(axis) for axis in _level(depth)]) < least:
        depth += 1
    levels = [_level(i) for i in range(depth + 1)]
    ends, speeds, offsets = levels[-1]
    profiles = [(end * horizon, v, RANGE) for end in ends for v in speeds]
    kinds = dict.fromkeys(kind for kind, _, _ in SPECIAL)
    special = {kind: len(profiles) + i for i, kind in enumerate(kinds)}
    profiles += [(horizon, 1.0, kind) for kind in kinds]
    end, speed, kind = np.array(profiles).T
    own = np.append(np.zeros(len(offsets), bool), True)
    axes = Axes(
        end.astype(np.float32),
        speed.astype(np.float32),
        kind.astype(np.int32),
        np.append(max_offset_m * np.array(offsets), 0.0).astype(np.float32),
        own,
    )
    rows = [(len(offsets) if kept else offsets.index(0.0)) * len(profiles) + special[kind] for kind, kept, _ in SPECIAL]
    level = [0] * len(rows)
    seen: set[int] = set()
    for i, (some_ends, some_speeds, some_offsets) in enumerate(levels):
        new = [
            offsets.index(d) * len(profiles) + ends.index(e) * len(speeds) + speeds.index(v)
            for e in some_ends
            for v in some_speeds
            for d in some_offsets
        ]
        new = [row for row in new if row not in seen]
        seen.update(new)
        # Inside a level any prefix should be spread over the whole grid, since the budget may cut it.
        order = np.random.default_rng(i).permutation(len(new)) if i else np.arange(len(new))
        rows += [new[j] for j in order]
        level += [i] * len(new)
    labels = tuple(label for _, _, label in SPECIAL) + ("lattice",) * (len(rows) - len(SPECIAL))
    return Design(axes, np.array(rows), np.array(level), labels)


def _level(depth: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """End times, end speeds and end offsets of one density, as fractions; exact ones, so that levels nest."""
    speeds, offsets = np.linspace(0, 1, 2 ** (depth + 2) + 1), np.linspace(-1, 1, 2 ** (depth + 1) + 1)
    return ENDS[min(depth, len(ENDS) - 1)], tuple(speeds.tolist()), tuple(offsets.tolist())
