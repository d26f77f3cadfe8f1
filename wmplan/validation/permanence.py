"""L3, permanence: do road users of t0 stay in the imagined world for as long as they truly stay in the window?

Eligible at step k is whoever was read as an instance at t0 and is, in truth, inside the window up to step k. `lost`:
the instance, followed from frame to frame, is not there at step k. `misplaced`: no imagined instance of its kind lies
within 2.5 m of its true place at step k (Hungarian matching), which counts a wrong prediction beside a loss. Who was
hidden from the ego behind another road user at any step up to k is counted apart.

Two cars that are drawn as one lose one of them in the truth too: read figures beside the oracle's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray

from wmplan.boxes import segment_touches
from wmplan.contracts import Grid
from wmplan.raster import STRIDE
from wmplan.scene import Kind
from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence, Observed
from wmplan.validation.instances import VEHICLE, VRU, match
from wmplan.validation.layers import Gate, Layer, share_of

LOST = Gate(at_most=0.05)
REACH_M = 2.5
INSIDE_M = 1.0
"""A centre nearer to the window's edge has left it."""
SECONDS = (1.0, 2.0, 3.0)


@dataclass(frozen=True)
class ScenePermanence:
    """One scene: eligible, lost and misplaced road users at each imagined step, of those in sight and those hidden;
    losses are means over samples."""

    scene_id: str
    group: str
    seconds: tuple[float, ...]
    eligible: Float64[ndarray, "2 T"]
    lost: Float64[ndarray, "2 T"]
    misplaced: Float64[ndarray, "2 T"]


def measure_permanence(evidence: Evidence) -> ScenePermanence:
    """Count over all steps and samples."""
    observed = evidence.observed
    users, first = observed.road_users, observed.traces.frames[0]
    kind = np.where(users.kinds == Kind.VEHICLE, VEHICLE, VRU)
    place = users.states[..., :2].astype(np.float64)
    stays = np.logical_and.accumulate(users.valid & _inside(place, evidence.grid), axis=1)
    stays[users.kinds == Kind.OTHER] = False
    here = np.flatnonzero(stays[:, 0])
    instance = np.full(len(users), -1)
    instance[here] = match(place[here, 0], first.position, REACH_M, kind[here, None] == first.kind[None])
    stays &= (instance >= 0)[:, None]
    covered = np.logical_or.accumulate(hidden(observed), axis=1)

    steps = len(evidence.truth)
    eligible, lost, misplaced = np.zeros((3, 2, steps))
    for k in range(1, steps + 1):
        for side, rows in enumerate((stays[:, k] & ~covered[:, k], stays[:, k] & covered[:, k])):
            eligible[side, k - 1] = rows.sum()
    for traces in evidence.traces:
        share = 1.0 / len(evidence.traces)
        for k in range(1, steps + 1):
            frame, who = traces.frames[k], np.flatnonzero(stays[:, k])
            gone = ~traces.followed.seen[instance[who], k]
            away = match(place[who, k], frame.position, REACH_M, kind[who, None] == frame.kind[None]) < 0
            for side, rows in enumerate((~covered[who, k], covered[who, k])):
                lost[side, k - 1] += share * gone[rows].sum()
                misplaced[side, k - 1] += share * away[rows].sum()
    return ScenePermanence(evidence.scene_id, evidence.group, evidence.seconds, eligible, lost, misplaced)


def summarise(rows: Sequence[ScenePermanence], seed: int, seconds: Sequence[float] = SECONDS) -> list[Measure]:
    """Failures over eligible at each time; the gate holds at 3 s, for who is in sight."""
    measures = []
    for at in seconds:
        t = rows[0].seconds.index(at) if rows else 0
        for side, who in enumerate(("in sight", "hidden")):
            eligible = [row.eligible[side, t] for row in rows]
            gate = LOST if at == 3.0 and who == "in sight" else None
            for name in ("lost", "misplaced"):
                failures = [getattr(row, name)[side, t] for row in rows]
                measures.append(share_of(f"{name}, {who}, {at:g} s", failures, eligible, rows, seed, gate))
    return measures


def curve(rows: Sequence[ScenePermanence]) -> Float64[ndarray, "T"]:
    """The share of eligible road users, hidden or not, that is still there at each step; NaN where nobody is."""
    eligible = sum((row.eligible.sum(0) for row in rows), np.zeros(1))
    lost = sum((row.lost.sum(0) for row in rows), np.zeros(1))
    return 1.0 - np.divide(lost, eligible, out=np.full(np.shape(eligible), np.nan), where=eligible > 0.0)


LAYER = Layer("L3 permanence", measure_permanence, summarise)


def hidden(observed: Observed) -> Bool[ndarray, "A T"]:
    """Whose centre the ego cannot see at each step, t0 included, because another's true box lies between."""
    users, ego = observed.road_users, observed.plan.states[0, ::STRIDE, :2].astype(np.float64)
    found = np.zeros(users.valid.shape, dtype=bool)
    for k in range(users.valid.shape[1]):
        there = np.flatnonzero(users.valid[:, k])
        boxes = np.concatenate([users.states[there, k, :3], users.sizes[there]], axis=1).astype(np.float64)
        a, b = _pairs(len(there))
        eye = np.broadcast_to(ego[k], (len(a), 2))
        blocked = segment_touches(eye, boxes[a, :2], boxes[b])
        found[there[a[blocked]], k] = True
    return found


def _pairs(count: int) -> tuple[Int[ndarray, "N"], Int[ndarray, "N"]]:
    a, b = np.divmod(np.arange(count * count), max(count, 1))
    return a[a != b], b[a != b]


def _inside(place: Float64[ndarray, "A T 2"], grid: Grid) -> Bool[ndarray, "A T"]:
    x, y = place[..., 0] - grid.x_min, place[..., 1] - grid.y_min
    ahead = (x >= INSIDE_M) & (x <= grid.cols * grid.cell - INSIDE_M)
    return ahead & (y >= INSIDE_M) & (y <= grid.rows * grid.cell - INSIDE_M)
