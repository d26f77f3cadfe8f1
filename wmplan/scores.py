"""Real driving scores: plans executed open loop among the road users that the log recorded, boxes not cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64
from numpy import ndarray

from wmplan.along import along_route
from wmplan.comfort import comfortable, plan_signals
from wmplan.labels import hard_braking_within, min_ttc_within, outcome_labels
from wmplan.plans import Plans, Start
from wmplan.real_road import RealRoad
from wmplan.rules import (
    DRIVABLE_TOLERANCE_M,
    MAKING_PROGRESS,
    direction_score,
    ego_progress,
    nuplan_score,
    pdms,
    progress_ratio,
    speed_score,
    worst_against,
)
from wmplan.scene import STEP_S, Future, Kind, Scene, Tracks
from wmplan.start import start_of
from wmplan.traffic_contacts import FirstContacts, Traffic, ego_boxes, first_contacts, ttc_fails

__all__ = ["Outcomes", "hard_braking_within", "min_ttc_within", "outcome_labels", "real_outcome"]

COLUMNS = (
    "pdms", "nuplan_score", "no_collision_pdms", "no_collision_nuplan", "drivable_pdms", "drivable_nuplan",
    "making_progress", "direction", "ttc_pdms", "ttc_nuplan", "progress_ratio", "ego_progress", "speed_limit",
    "comfort", "contacts", "contacts_at_fault", "first_contact_s", "against_m", "progress_m", "expert_progress_m",
    "final_error_m", "mean_error_m",
)  # fmt: skip


@dataclass(frozen=True)
class Outcomes:
    """What each plan would have led to among the recorded road users; higher scores are better.

    Counts and metres stand beside the scores. `first_contact_s` is the plan's length where there is no contact;
    `final_error_m` and `mean_error_m` are distances to the logged ego, NaN where the log does not show it.
    """

    scene_id: str
    columns: tuple[str, ...]
    values: Float64[ndarray, "K N"]

    def column(self, name: str) -> Float64[ndarray, "K"]:
        """One column by name."""
        return self.values[:, self.columns.index(name)]

    def frame(self) -> pd.DataFrame:
        """One row a plan."""
        return pd.DataFrame(self.values, columns=list(self.columns)).assign(scene_id=self.scene_id)


def real_outcome(scene: Scene, future: Future, plans: Plans, start: Start | None = None) -> Outcomes:
    """Both published scores of each plan, and what they are made of; a plan that is not finite gets NaN.

    Nobody reacts to the ego here: that is log replay, kind to plans that force others aside and hard on those that slow
    down for someone who then would have braked. Differences from the published code: the expert is the logged ego and
    not PDM-Closed; progress is along the scene's route; a metric that the ego already breaks at t0 (off the drivable
    area) or that the map cannot answer counts 1; the speed limit is `Start.target_speed`, for logs name none.

    Raises:
        ValueError: the future is of another scene, or shorter than the plans.
    References:
        `reference/evaluation.md` 1.1, 1.2: nuPlan's closed-loop score and NAVSIM's PDMS.
    """
    steps = plans.controls.shape[1]
    if future.scene_id != scene.scene_id:
        raise ValueError(f"real_outcome: the future is of scene {future.scene_id}, expected {scene.scene_id}")
    if steps > future.agents.states.shape[1]:
        raise ValueError(f"real_outcome: plans of {steps} steps, the future keeps {future.agents.states.shape[1]}")
    start = start or start_of(scene)
    finite = np.isfinite(plans.states).all(axis=(1, 2)) & np.isfinite(plans.controls).all(axis=(1, 2))
    safe = Plans(
        np.where(finite[:, None, None], plans.controls, np.float32(0.0)),
        np.where(finite[:, None, None], plans.states, np.float32(0.0)),
    )
    columns = _columns(scene, future, safe, start)
    values = np.stack([np.broadcast_to(columns[name], len(plans)) for name in COLUMNS], axis=1).astype(np.float64)
    values[~finite] = np.nan
    return Outcomes(scene.scene_id, COLUMNS, values)


def _columns(scene: Scene, future: Future, plans: Plans, start: Start) -> dict[str, ndarray]:
    states = plans.states.astype(np.float64)
    steps = plans.controls.shape[1]
    size = (start.length, start.width)
    road = RealRoad(scene.road_map)
    tracks = with_present(scene, future, steps)
    traffic = Traffic.of(tracks)
    found = first_contacts(states, *size, traffic, road)
    fault = (found.step >= 0) & found.at_fault
    hit = fault.any(axis=1)

    navsim = ttc_fails(states, *size, traffic, road, [0, 3, 6, 9], recorded=True, last_step=max(steps - 9, 0))
    nuplan = ttc_fails(states, *size, traffic, road, list(range(1, 10)), recorded=False, last_step=steps)

    boxes = ego_boxes(states, *size)
    off = {tolerance: _leaves(boxes, road, tolerance) for tolerance in (0.0, DRIVABLE_TOLERANCE_M)}
    moves = np.diff(states[:, :, :2], axis=1)
    against = worst_against(road.along_lane(moves.reshape(-1, 2), states[:, :-1, :2].reshape(-1, 2)).reshape(-1, steps))

    use = along_route(states[:, :, 0], states[:, :, 1], start.route)
    moved = use.along[:, -1] - use.along[:, 0]
    expert = expert_progress(future, start, steps)
    wanted = expert if np.isfinite(expert) else 0.0
    ratio = progress_ratio(moved, wanted) if np.isfinite(expert) else np.ones(len(moved))
    c = {
        "contacts": (found.step >= 0).sum(axis=1),
        "contacts_at_fault": fault.sum(axis=1),
        "first_contact_s": np.where(found.step >= 0, found.step, steps).min(axis=1, initial=steps) * STEP_S,
        "no_collision_nuplan": _nuplan_collisions(found, tracks),
        "no_collision_pdms": _navsim_collisions(found, tracks),
        "drivable_pdms": 1.0 - off[0.0],
        "drivable_nuplan": 1.0 - off[DRIVABLE_TOLERANCE_M],
        "direction": direction_score(against),
        "against_m": against,
        "ttc_pdms": 1.0 - (navsim | hit),
        "ttc_nuplan": 1.0 - (nuplan | hit),
        "progress_m": moved,
        "expert_progress_m": np.array(expert),
        "progress_ratio": ratio,
        "making_progress": (ratio >= MAKING_PROGRESS).astype(np.float64),
        "ego_progress": ego_progress(moved, wanted),
        "speed_limit": speed_score(states[:, 1:, 3], start.target_speed),
        "comfort": comfortable(plan_signals(plans, start)).astype(np.float64),
        **_errors(states, future),
    }
    c["pdms"] = pdms(c["no_collision_pdms"], c["drivable_pdms"], c["ttc_pdms"], c["ego_progress"], c["comfort"])
    c["nuplan_score"] = nuplan_score(
        [c["no_collision_nuplan"], c["drivable_nuplan"], c["making_progress"], c["direction"]],
        c["progress_ratio"], c["ttc_nuplan"], c["speed_limit"], c["comfort"],
    )  # fmt: skip
    return c


def with_present(scene: Scene, future: Future, steps: int) -> Tracks:
    """The future's agents from t0 on (`steps` + 1 states); those not in the scene at t0 are not there at step 0."""
    agents = future.agents
    states = np.zeros((len(agents), steps + 1, 5), dtype=np.float64)
    valid = np.zeros((len(agents), steps + 1), dtype=bool)
    known = len(scene.agents)
    states[:known, 0], valid[:known, 0] = scene.agents.states[:, -1], scene.agents.valid[:, -1]
    states[:, 1:], valid[:, 1:] = agents.states[:, :steps], agents.valid[:, :steps]
    return Tracks(agents.ids, agents.kinds, agents.sizes, states, valid)


def expert_progress(future: Future, start: Start, steps: int) -> float:
    """Metres that the logged ego made along the route in the plan's time; NaN where the log does not show its end."""
    if not future.ego.valid[0, steps - 1]:
        return float("nan")
    x, y = future.ego.states[0, steps - 1, :2].astype(np.float64)
    use = along_route(np.array([0.0, x]), np.array([0.0, y]), start.route)
    return float(use.along[1] - use.along[0])


def _leaves(boxes: ndarray, road: RealRoad, tolerance: float) -> ndarray:
    off = road.off(boxes.reshape(-1, 5), tolerance).reshape(boxes.shape[:2])
    return (off[:, 1:].any(axis=1) & ~off[:, 0]).astype(np.float64)


def _nuplan_collisions(found: FirstContacts, tracks: Tracks) -> ndarray:
    """Product over VRUs, vehicles, objects of max(0, 1 - n / (v + 1)), v = 0, 0, 1."""
    fault = (found.step >= 0) & found.at_fault
    score = np.ones(len(fault))
    for kinds, allowed in (((Kind.PEDESTRIAN, Kind.CYCLIST), 0), ((Kind.VEHICLE,), 0), ((Kind.OTHER,), 1)):
        count = fault[:, np.isin(tracks.kinds, kinds)].sum(axis=1)
        score = score * np.maximum(0.0, 1.0 - count / (allowed + 1))
    return score


def _navsim_collisions(found: FirstContacts, tracks: Tracks) -> ndarray:
    """0 after an at-fault contact with a road user, 0.5 after one or more with objects only, else 1."""
    fault = (found.step >= 0) & found.at_fault
    objects = tracks.kinds == Kind.OTHER
    return np.where(fault[:, ~objects].any(axis=1), 0.0, np.where(fault[:, objects].any(axis=1), 0.5, 1.0))


def _errors(states: ndarray, future: Future) -> dict[str, ndarray]:
    steps = states.shape[1] - 1
    path, valid = future.ego.states[0, :steps, :2].astype(np.float64), future.ego.valid[0, :steps]
    gap = np.hypot(states[:, 1:, 0] - path[:, 0], states[:, 1:, 1] - path[:, 1])
    missing = np.full(len(states), np.nan)
    return {
        "final_error_m": gap[:, -1] if valid[-1] else missing,
        "mean_error_m": gap.mean(axis=1) if valid.all() else missing,
    }
