"""How well a plan drives, on imagined occupancy: the terms of both published scores, and smooth costs beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy import ndarray

from critics.contact import STEPS_PER_FRAME, Contacts, Queries, contacts
from critics.road import road_use
from wmplan.along import along_route
from wmplan.comfort import comfortable, discomfort, plan_signals
from wmplan.contracts import Context, Imagined, Terms
from wmplan.errors import InputError
from wmplan.plans import Plans, Start
from wmplan.risk import AVERAGED, Risk, RiskConfig
from wmplan.rules import (
    EP_FLOOR_M,
    OVERSPEED_MPS,
    STOPPED_MPS,
    TTC_STOPPED_MPS,
    direction_score,
    ego_progress,
    nuplan_score,
    pdms,
    progress_ratio,
    speed_score,
)
from wmplan.scene import STEP_S

PROJECTIONS_TICKS = (3, 6, 9)
"""Times ahead, in 0.1 s, at which the box moved on at constant velocity is checked (NAVSIM's TTC)."""


@dataclass(frozen=True)
class TaskConfig:
    """Constants of the task terms."""

    horizon: int = 6
    """Imagined steps of 0.5 s that are judged; the world model's horizon."""
    vehicle_level: float = 0.12
    """Overlap with vehicles that counts as contact; with exact boxes on 1 m cells 2 % of close calls come out wrong."""
    vru_level: float = 0.1
    """Overlap with pedestrians and cyclists that counts as contact: they are narrower than a cell of 1 m."""
    discount: float = 0.9
    """Factor per imagined step of the collision cost: later is less certain."""
    rear_weight: float = 0.2
    """Share of a contact in the rear quarter of the ego that the collision cost counts."""
    risk: RiskConfig = field(default_factory=RiskConfig)
    """How imagined samples are weighed in `no_collision`, `ttc` and the costs of both; other columns are means."""


class TaskCritic:
    """Task terms on imagined occupancy with a swept ego box.

    Fault, simplified from nuPlan's rules to what an occupancy shows: a contact in the rear quarter of the ego's box,
    or while the ego stands, is not the ego's. Progress is along the route and normalised by target speed x horizon,
    never by the best of the set. "Making progress" has no imagined counterpart (there is no expert) and leaves the
    product, as an undefined nuPlan metric does. Cells are coarse: `wmplan.scores` judges real boxes.
    """

    name = "task"

    def __init__(self, config: TaskConfig | None = None) -> None:
        self.config = config or TaskConfig()
        steps = tuple(f"collision_{i + 1}" for i in range(self.config.horizon))
        self.columns = (*steps, *_SINGLE)
        text = json.dumps(["task", 2, asdict(self.config)], sort_keys=True)
        self._over_samples = _samples_mean if self.config.risk == AVERAGED else _by(self.config.risk.build())
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        """The columns of each plan; a plan or a future that is not finite gets NaN.

        Raises:
            InputError: the imagination is shorter than the configured horizon, or the plan.
        """
        horizon = self.config.horizon
        if imagined.occupancy.shape[2] < horizon or plans.controls.shape[1] < horizon * STEPS_PER_FRAME:
            raise InputError(
                f"scene {context.raster.scene_id}: {imagined.occupancy.shape[2]} imagined steps and "
                f"{plans.controls.shape[1]} plan steps, TaskConfig.horizon {horizon} expects at least {horizon} "
                f"and {horizon * STEPS_PER_FRAME}"
            )
        finite = np.isfinite(plans.states).all(axis=(1, 2)) & np.isfinite(plans.controls).all(axis=(1, 2))
        safe = Plans(
            np.where(finite[:, None, None], plans.controls, np.float32(0.0)),
            np.where(finite[:, None, None], plans.states, np.float32(0.0)),
        )
        columns, broken = self._columns(context, safe, imagined)
        values = np.stack([columns[name] for name in self.columns], axis=1)
        values[~finite | broken] = np.nan
        return Terms(self.columns, values.astype(np.float32))

    def _columns(self, context: Context, plans: Plans, imagined: Imagined) -> tuple[dict[str, ndarray], ndarray]:
        start = context.raster.start
        sweep_ticks = np.arange(1, self.config.horizon * STEPS_PER_FRAME + 1)
        poses, ticks, base = _projected(plans, self.config.horizon)
        states = plans.states.astype(np.float64)
        queries = Queries(
            np.concatenate([states[:, sweep_ticks, :3], poses], axis=1),
            np.concatenate([sweep_ticks, ticks]),
            float(start.length),
            float(start.width),
        )
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite marks its row as broken
            found = contacts(imagined, queries)
        sweep = _Overlap(*_swept(found, states[:, sweep_ticks, 3], self.config))
        columns = {
            **self._collision(sweep),
            **self._time_to_collision(found.front[:, :, len(sweep_ticks) :], states[:, base, 3], sweep),
            **_road_terms(context, plans),
            **_route_terms(plans, start),
        }
        names = ("no_collision", "drivable_pdms", "ttc", "progress_pdms", "comfort")
        columns["pdms"] = pdms(*(columns[name] for name in names))
        columns["nuplan_score"] = nuplan_score(
            [columns[name] for name in ("no_collision", "drivable", "direction")],
            *(columns[name] for name in ("progress", "ttc", "speed_limit", "comfort")),
        )
        return columns, found.broken

    def _collision(self, sweep: _Overlap) -> dict[str, ndarray]:
        columns: dict[str, ndarray] = {}
        cost = np.zeros(sweep.fault.shape[:2])
        for i in range(self.config.horizon):
            fault, rear = sweep.fault[:, :, i].max(axis=2), sweep.rear[:, :, i].max(axis=2)
            columns[f"collision_{i + 1}"] = _samples_mean(fault)
            cost = cost + self.config.discount**i * (fault + self.config.rear_weight * rear)
        columns["collision_vehicle"] = _samples_mean(sweep.fault[..., 0].max(axis=2))
        columns["collision_vru"] = _samples_mean(sweep.fault[..., 1].max(axis=2))
        columns["contact_rear"] = _samples_mean(sweep.rear.max(axis=(2, 3)))
        columns["no_collision"] = 1.0 - self._over_samples(sweep.hit(self.config).astype(np.float64))
        columns["collision_cost"] = self._over_samples(cost)
        return columns

    def _time_to_collision(
        self, front: Float32[ndarray, "K M Q 2"], speed: Float[ndarray, "K Q"], sweep: _Overlap
    ) -> dict[str, ndarray]:
        # A standing ego has no time to collision; a sample with an at-fault contact has none left.
        moving = (speed > TTC_STOPPED_MPS)[:, None, :, None]
        overlap = np.where(moving, front, np.float32(0.0))
        level = np.array([self.config.vehicle_level, self.config.vru_level], dtype=np.float32)
        fails = (overlap >= level).any(axis=(2, 3)) | sweep.hit(self.config)
        cost = np.zeros(front.shape[:2])
        worst = overlap.max(axis=3)
        for q in range(worst.shape[2]):
            cost = cost + worst[:, :, q].astype(np.float64) / worst.shape[2]
        return {"ttc": 1.0 - self._over_samples(fails.astype(np.float64)), "ttc_cost": self._over_samples(cost)}


_SINGLE = (
    "collision_vehicle", "collision_vru", "contact_rear", "no_collision", "drivable", "drivable_pdms", "offroad_share",
    "direction", "against_m", "red_light", "ttc", "progress_m", "progress", "progress_pdms", "comfort", "speed_limit",
    "lane_keeping", "lateral_m", "outside_window", "pdms", "nuplan_score", "collision_cost", "ttc_cost",
    "offroad_cost", "direction_cost", "red_light_cost", "progress_cost", "speed_cost", "discomfort_cost",
    "lateral_cost",
)  # fmt: skip


@dataclass(frozen=True)
class _Overlap:
    """Largest overlap within each imagined step: at fault, and in the rear or while standing."""

    fault: Float32[ndarray, "K M T 2"]
    rear: Float32[ndarray, "K M T 2"]

    def hit(self, config: TaskConfig) -> ndarray:
        """Which samples hold an at-fault contact."""
        level = np.array([config.vehicle_level, config.vru_level], dtype=np.float32)
        return np.asarray((self.fault >= level).any(axis=(2, 3)))


def _swept(found: Contacts, speed: Float[ndarray, "K N"], config: TaskConfig) -> tuple[ndarray, ndarray]:
    k, m = found.front.shape[:2]
    count = config.horizon * STEPS_PER_FRAME
    front, rear = found.front[:, :, :count], found.rear[:, :, :count]
    stands = (speed <= STOPPED_MPS)[:, None, :, None]
    fault = np.where(stands, np.float32(0.0), front)
    other = np.where(stands, np.maximum(front, rear), rear)
    shape = (k, m, config.horizon, STEPS_PER_FRAME, 2)
    return fault.reshape(shape).max(axis=3), other.reshape(shape).max(axis=3)


def _projected(plans: Plans, horizon: int) -> tuple[Float64[ndarray, "K Q 3"], ndarray, ndarray]:
    """Boxes moved on at constant velocity from the imagined steps' starts: poses, their ticks, the starts' ticks."""
    last = horizon * STEPS_PER_FRAME - PROJECTIONS_TICKS[-1]
    base = np.array([b for b in range(0, last + 1, STEPS_PER_FRAME) for _ in PROJECTIONS_TICKS])
    ahead = np.array(PROJECTIONS_TICKS * (len(base) // len(PROJECTIONS_TICKS)))
    states = plans.states[:, base].astype(np.float64)
    yaw = np.ascontiguousarray(states[:, :, 2])
    reach = states[:, :, 3] * (ahead * STEP_S)
    poses = np.stack([states[:, :, 0] + reach * np.cos(yaw), states[:, :, 1] + reach * np.sin(yaw), yaw], axis=-1)
    return poses, base + ahead, base


def _road_terms(context: Context, plans: Plans) -> dict[str, ndarray]:
    use = road_use(context.raster, plans)
    offroad = _mean_time(use.offroad)
    signals = plan_signals(plans, context.raster.start)
    return {
        "drivable": 1.0 - use.leaves_far,
        "drivable_pdms": 1.0 - use.leaves,
        "offroad_share": use.offroad.max(axis=1),
        "offroad_cost": offroad,
        "direction": direction_score(use.against_m),
        "against_m": use.against_m,
        "direction_cost": np.minimum(use.against_m / 6.0, 1.0),
        "red_light": use.red_light,
        "red_light_cost": use.red_light,
        "outside_window": use.outside,
        "comfort": comfortable(signals).astype(np.float64),
        "discomfort_cost": discomfort(signals),
    }


def _route_terms(plans: Plans, start: Start) -> dict[str, ndarray]:
    use = along_route(plans.states[:, :, 0], plans.states[:, :, 1], start.route)
    moved = use.along[:, -1] - use.along[:, 0]
    wanted = float(start.target_speed) * plans.horizon_s
    speed = plans.states[:, 1:, 3].astype(np.float64)
    over = _mean_time(np.maximum(speed - float(start.target_speed), 0.0)) / OVERSPEED_MPS
    return {
        "progress_m": moved,
        "progress": progress_ratio(moved, wanted),
        "progress_pdms": ego_progress(moved, wanted),
        "progress_cost": 1.0 - np.clip(moved / max(wanted, EP_FLOOR_M), 0.0, 1.0),
        "speed_limit": speed_score(speed, float(start.target_speed)),
        "speed_cost": np.minimum(over, 1.0),
        "lane_keeping": 1.0 - _in_a_row(use.lateral[:, 1:] > 0.5, round(2.0 / STEP_S)),
        "lateral_m": use.lateral.max(axis=1),
        "lateral_cost": _mean_time(np.minimum((use.lateral[:, 1:] / 1.75) ** 2, 4.0)),
    }


def _in_a_row(flags: ndarray, length: int) -> Float64[ndarray, "K"]:
    """1 where `length` or more flags in a row are set."""
    run, longest = np.zeros(len(flags)), np.zeros(len(flags))
    for t in range(flags.shape[1]):
        run = np.where(flags[:, t], run + 1.0, 0.0)
        longest = np.maximum(longest, run)
    return (longest >= length).astype(np.float64)


def _ordered_mean(count: int, part: Callable[[int], ndarray]) -> ndarray:
    total = part(0).astype(np.float64)
    for i in range(1, count):
        total = total + part(i)
    return total / count


def _samples_mean(values: Float[ndarray, "K M"]) -> Float64[ndarray, "K"]:
    """Mean over samples in float64, added in order: a row's last bit must not depend on how many rows there are."""
    return _ordered_mean(values.shape[1], lambda m: values[:, m])


def _by(risk: Risk) -> Callable[[Float[ndarray, "K M"]], Float64[ndarray, "K"]]:
    """A risk strategy over the samples of each row."""
    return lambda values: risk(values.astype(np.float64).T)


def _mean_time(values: Float[ndarray, "K T"]) -> Float64[ndarray, "K"]:
    return _ordered_mean(values.shape[1], lambda t: values[:, t])
