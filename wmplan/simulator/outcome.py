"""What executed candidates came to: both published driving scores and what they are made of, in the columns of
`wmplan.scores`, among traffic that reacted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray

from wmplan.comfort import comfort_signals, comfortable
from wmplan.rules import (
    MAKING_PROGRESS,
    direction_score,
    ego_progress,
    nuplan_score,
    pdms,
    progress_ratio,
    speed_score,
)
from wmplan.scene import STEP_S, Kind
from wmplan.scores import COLUMNS as LOG_COLUMNS
from wmplan.scores import Outcomes
from wmplan.simulator.encounters import Encounters, encounters
from wmplan.simulator.executed import Executed
from wmplan.simulator.layout import SimMap
from wmplan.simulator.road_geometry import RoadGeometry
from wmplan.traffic_contacts import ego_boxes

OFF_CENTRE_M = 0.5
"""NAVSIM's lane keeping: farther than this from the centreline for `OFF_CENTRE_STEPS` in a row is not keeping it."""
OFF_CENTRE_STEPS = 20
OWN_COLUMNS = ("contacts_at_start", "first_contact_row", "no_red_light", "min_ttc_s", "lane_keeping", "lateral_m")
COLUMNS = tuple(name for name in LOG_COLUMNS if not name.endswith("_error_m")) + OWN_COLUMNS
"""The log scorer's, without distances to a logged ego; and what only an execution tells."""


@dataclass(frozen=True)
class Before:
    """The ego's acceleration (m/s2) and curvature (1/m) at t0, so that a jump away from them counts as discomfort; and
    the metres that the expert makes in the candidates' time, NaN where there is none."""

    accel: float
    curvature: float
    expert_progress_m: float


@dataclass(frozen=True)
class Course:
    """What judging needs of a road; prepared once a map.

    Each route's `arc` (m) at the points where its speed `limit` (m/s) changes, padded with inf; the conflict area lies
    between `stop` and `clear`.
    """

    geometry: RoadGeometry
    arc: Float64[ndarray, "R P"]
    limit: Float64[ndarray, "R P"]
    stop: Float64[ndarray, "R"]
    clear: Float64[ndarray, "R"]

    @staticmethod
    def of(road: SimMap) -> Course:
        """The course of a road."""
        most = max(len(route.points) for route in road.routes)
        arc, limit = np.full((len(road.routes), most), np.inf), np.zeros((len(road.routes), most))
        for i, route in enumerate(road.routes):
            steps = np.hypot(*np.diff(route.points, axis=0).T)
            arc[i, : len(route.points)] = np.concatenate([[0.0], np.cumsum(steps)])
            limit[i, : len(route.points)] = route.speeds
        stop = np.array([route.stop for route in road.routes])
        return Course(RoadGeometry(road.road_map), arc, limit, stop, np.array([route.clear for route in road.routes]))

    def limits(self, route: Int[ndarray, "S K"], s: Float[ndarray, "S K"]) -> Float64[ndarray, "S K"]:
        """The speed limit at each place, m/s."""
        piece = np.zeros(s.shape, dtype=np.int64)
        for point in range(1, self.arc.shape[1]):
            piece += self.arc[route, point] <= s
        return self.limit[route, piece]


def outcomes_of(executed: Executed, course: Course, before: Before, name: str = "") -> Outcomes:
    """Both driving scores of each executed candidate and what they are made of; one that is not finite gets NaN.

    The columns of `wmplan.scores` mean what they mean there, except that contacts are looked for between steps too,
    that progress is made along the route that the ego is on, and that the speed limit is the road's. Others are
    `contacts_at_start` (already touching at t0, not counted as contacts), `first_contact_row` (NaN for none),
    `no_red_light` (0 where the ego's front passed a red line; in neither score), `min_ttc_s` (at most 3; 0 in contact),
    `lane_keeping` (NAVSIM v2) and `lateral_m`, the greatest distance from the route. Row-wise: no column depends on the
    other candidates; see `progress_of_set` for the published normalisation.

    References:
        `reference/evaluation.md` 1.1, 1.2: nuPlan's closed-loop score, NAVSIM's PDMS, EPDMS's lane keeping.
    """
    finite = executed.finite
    executed = executed.only(finite)
    ego = executed.ego
    sizes = np.asarray(executed.length), np.asarray(executed.width)
    met = encounters(executed, course.geometry)
    columns = _traffic(met, np.asarray(executed.kind)[1:], ego.shape[1] - 1)
    columns |= _road(ego, (float(sizes[0][0]), float(sizes[1][0])), course.geometry)
    columns |= _motion(ego, executed.numpy(), course, before)
    c = columns
    c["pdms"] = pdms(c["no_collision_pdms"], c["drivable_pdms"], c["ttc_pdms"], c["ego_progress"], c["comfort"])
    c["nuplan_score"] = nuplan_score(
        [c["no_collision_nuplan"], c["drivable_nuplan"], c["making_progress"], c["direction"]],
        c["progress_ratio"], c["ttc_nuplan"], c["speed_limit"], c["comfort"],
    )  # fmt: skip
    values = np.stack([np.broadcast_to(c[name], len(ego)) for name in COLUMNS], axis=1).astype(np.float64)
    values[~finite] = np.nan
    return Outcomes(name, COLUMNS, values)


def progress_of_set(outcomes: Outcomes) -> Float64[ndarray, "K"]:
    """NAVSIM's EP as published: progress against the best of *this set* of candidates, those that break a multiplier
    counting nothing. A derived column for reports: it depends on the companions, so no score here contains it."""
    kept = outcomes.column("no_collision_pdms") * outcomes.column("drivable_pdms")
    made = np.maximum(outcomes.column("progress_m"), 0.0)
    return ego_progress(made, float(np.nanmax(made * kept, initial=0.0)))


def _traffic(met: Encounters, kinds: Int[ndarray, "N"], steps: int) -> dict[str, ndarray]:
    hit = met.step >= 0
    fault = hit & met.at_fault
    vehicle, other = kinds == Kind.VEHICLE, kinds == Kind.OTHER
    count = {"vehicle": fault[:, vehicle], "vru": fault[:, ~vehicle & ~other], "object": fault[:, other]}
    n = {name: rows.sum(axis=1) for name, rows in count.items()}
    first = np.where(hit, met.step, steps)
    row = np.where(hit.any(axis=1), first.argmin(axis=1) + 1.0, np.nan) if len(kinds) else np.full(len(hit), np.nan)
    return {
        "contacts": hit.sum(axis=1),
        "contacts_at_fault": fault.sum(axis=1),
        "contacts_at_start": met.at_start.sum(axis=1),
        "first_contact_s": first.min(axis=1, initial=steps) * STEP_S,
        "first_contact_row": row,
        "no_collision_nuplan": (n["vehicle"] == 0) * (n["vru"] == 0) * np.maximum(0.0, 1.0 - n["object"] / 2.0),
        "no_collision_pdms": np.where(n["vehicle"] + n["vru"] > 0, 0.0, np.where(n["object"] > 0, 0.5, 1.0)),
        "ttc_nuplan": 1.0 - (met.ttc_nuplan | fault.any(axis=1)),
        "ttc_pdms": 1.0 - (met.ttc_navsim | fault.any(axis=1)),
        "min_ttc_s": met.min_ttc,
    }


def _road(ego: Float64[ndarray, "K S 4"], size: tuple[float, float], geometry: RoadGeometry) -> dict[str, ndarray]:
    boxes = ego_boxes(ego, *size)
    against = geometry.worst_against(np.ascontiguousarray(ego[:, :, :2]))
    columns = {"against_m": against, "direction": direction_score(against)}
    for name, rows in zip(("drivable_pdms", "drivable_nuplan"), geometry.off(boxes.reshape(-1, 5))):
        off = rows.reshape(boxes.shape[:2])
        # Whoever is off the road already at t0 is not blamed for it.
        columns[name] = 1.0 - (off[:, 1:].any(axis=1) & ~off[:, 0])
    return columns


def _motion(ego: Float64[ndarray, "K S 4"], executed: Executed, course: Course, before: Before) -> dict[str, ndarray]:
    moved = _progress(ego, executed)
    known = np.isfinite(before.expert_progress_m)
    wanted = before.expert_progress_m if known else 0.0
    ratio = progress_ratio(moved, wanted) if known else np.ones(len(moved))
    over = ego[:, 1:, 3] - course.limits(np.asarray(executed.route), np.asarray(executed.s)).T[:, 1:]
    return {
        "progress_m": moved,
        "expert_progress_m": np.array(before.expert_progress_m),
        "progress_ratio": ratio,
        "making_progress": (ratio >= MAKING_PROGRESS).astype(np.float64),
        "ego_progress": ego_progress(moved, wanted),
        "speed_limit": speed_score(over, 0.0),
        "comfort": _comfort(ego, before),
        "no_red_light": 1.0 - executed.red[1:].any(axis=0),
        "lane_keeping": 1.0 - _leaves_centre(executed, course),
        "lateral_m": np.abs(executed.lateral).max(axis=0),
    }


def _progress(ego: Float64[ndarray, "K S 4"], executed: Executed) -> Float64[ndarray, "K"]:
    """Metres along the route; in a step to another route, whose arc length is another, the metres driven."""
    along = np.diff(executed.s.astype(np.float64), axis=0)
    driven = np.hypot(*np.moveaxis(np.diff(ego[:, :, :2], axis=1), -1, 0)).T
    steps = np.where(np.diff(executed.route, axis=0) == 0, along, driven)
    total = np.zeros(steps.shape[1])
    for step in steps:
        total = total + step
    return total


def _comfort(ego: Float64[ndarray, "K S 4"], before: Before) -> Float64[ndarray, "K"]:
    speed = ego[:, :, 3]
    faster = np.diff(speed, axis=1) / STEP_S
    turned = np.diff(np.unwrap(ego[:, :, 2], axis=1), axis=1)
    metres = 0.5 * (speed[:, 1:] + speed[:, :-1]) * STEP_S
    # v2 is at most 2 v / STEP_S times the metres, so a slow car's division is harmless.
    sideways = speed[:, 1:] ** 2 * turned / np.maximum(metres, 1e-9)
    lon = np.concatenate([np.full((len(ego), 1), before.accel), faster], axis=1)
    lat = np.concatenate([speed[:, :1] ** 2 * before.curvature, sideways], axis=1)
    return comfortable(comfort_signals(ego[:, :, 2], lon, lat, STEP_S)).astype(np.float64)


def _leaves_centre(executed: Executed, course: Course) -> Bool[ndarray, "K"]:
    """Whether it is off the centreline for too long; steps in a conflict area neither count nor interrupt."""
    inside = (executed.s > course.stop[executed.route]) & (executed.s < course.clear[executed.route])
    off = np.abs(executed.lateral) > OFF_CENTRE_M
    run, longest = np.zeros(off.shape[1], dtype=int), np.zeros(off.shape[1], dtype=int)
    for step in range(1, len(off)):
        run = np.where(inside[step], run, np.where(off[step], run + 1, 0))
        longest = np.maximum(longest, run)
    return longest >= OFF_CENTRE_STEPS
