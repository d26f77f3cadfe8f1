"""How like real traffic the simulator's is: scenes driven again from t0, their egos as logged, everyone else reactive.

Reported, not claimed: how far from their logged places agents are after 3, 5 and 8 s, and how likely the log is under
the simulator by features of the Sim Agents challenge (`wmplan.simulator.sim_agents`). Beside it stand the paths alone
(logged places against the route, which is the least any speed can reach), everyone at constant velocity, and the log
against itself, which does not reach 1 either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import shapely
from jaxtyping import Array, Bool, Float, Int
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.executed import executed
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, STEP_S, Future, Kind, Scene
from wmplan.simulator.populate_scene import of_scene, state_of
from wmplan.simulator.scene_road import SceneRoad, scene_road
from wmplan.simulator.sim_agents import INTERACTIVE, KINEMATIC, SCALES, YEARS, Traces, features, likelihoods
from wmplan.simulator.traffic import Moment, rollout
from wmplan.start import start_of

ROLLOUTS = 32
HORIZONS_S = (3.0, 5.0, 8.0)
SEEN_SHARE = 0.9
"""An agent counts for a horizon if the log shows it at this share of its steps, the last half second included."""
LAST_STEPS = 5


@dataclass(frozen=True)
class Row:
    """A figure: what it is, its value, over how many agents or scenes."""

    figure: str
    value: float
    n: int


@dataclass(frozen=True)
class Replay:
    """A scene driven again: S = `FUTURE_STEPS` moments after t0, rows as on its road.

    `traces` holds the logged history and then what was simulated, `logged` the log (one rollout). `steps` of the future
    have a logged ego. `moving` are rows of agents that do not stand for good: those are judged. `off_route` is how far
    the logged places are from the routes.
    """

    scene_id: str
    kind: Int[ndarray, "A"]
    traces: Traces
    logged: Traces
    steps: int
    moving: Int[ndarray, "E"]
    off_route: Float[ndarray, "A S"]


def table(scenes: Iterable[tuple[Scene, Future]], rollouts: int = ROLLOUTS, seed: int = 0) -> tuple[Row, ...]:
    """The figures of the report: scenes that became roads and why others did not, drift, likelihoods.

    Raises:
        InputError: no scene became a road.
    """
    replays: list[Replay] = []
    refused: dict[str, int] = {}
    for scene, future in scenes:
        try:
            replays.append(replay(scene, future, rollouts, seed))
        except InputError as error:
            reason = _kind_of(str(error))
            refused[reason] = refused.get(reason, 0) + 1
    if not replays:
        raise InputError(f"realism: none of {sum(refused.values())} scenes became a road, expected one or more")
    tried = len(replays) + sum(refused.values())
    rows = [Row("realism: share of scenes that become roads", len(replays) / tried, tried)]
    rows += [
        Row(f"realism: scenes refused, {reason}", float(count), tried) for reason, count in sorted(refused.items())
    ]
    return (*rows, *drift_rows(replays), *likelihood_rows(replays))


def replay(scene: Scene, future: Future, rollouts: int = ROLLOUTS, seed: int = 0) -> Replay:
    """One scene driven again `rollouts` times, other drivers and other noise each time, the ego as logged.

    Raises:
        InputError: the scene cannot become a road (`scene_road`).
    """
    road = scene_road(scene, future)
    gaps = np.flatnonzero(~future.ego.valid[0])
    steps = int(gaps[0]) if len(gaps) else FUTURE_STEPS
    plan = executed(scene, future, start_of(scene), steps).plan
    if plan is None:
        raise InputError(f"scene {scene.scene_id}: the logged ego has no plan, expected {steps} steps of one")
    controls = np.zeros((rollouts, FUTURE_STEPS, 2), np.float32)
    controls[:, :steps] = plan.controls[0]
    network, first = of_scene(road, seed)
    drawn = [first, *(state_of(road, network, seed + i) for i in range(1, rollouts))]
    worlds = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    seen = jax.device_get(_rollout(network, worlds, jnp.asarray(controls))[1])
    logged = log_traces(scene, future, road)
    moving = np.flatnonzero(~road.start.stands[1:]) + 1
    return Replay(
        scene.scene_id, road.start.kind, joined(logged, seen, steps), logged, steps, moving, off_routes(logged, road)
    )


_rollout = jax.jit(rollout)


def log_traces(scene: Scene, future: Future, road: SceneRoad) -> Traces:
    """What the log shows of everyone on the road, history and future, as one rollout."""
    parts = []
    for past, after, rows in ((scene.ego, future.ego, [0]), (scene.agents, future.agents, road.agents)):
        states = np.concatenate([past.states[rows], after.states[rows]], axis=1).astype(np.float64)
        parts.append((states, np.concatenate([past.valid[rows], after.valid[rows]], axis=1)))
    states, valid = (np.concatenate(part) for part in zip(*parts))
    # A box that drives backwards looks the other way on its road.
    yaw = states[..., 2] + np.pi * road.start.backwards[:, None]
    start = road.start
    return Traces(states[None, ..., 0], states[None, ..., 1], yaw[None], start.length, start.width, valid[None])


def joined(logged: Traces, seen: Moment, steps: int) -> Traces:
    """The logged history, then what was simulated for so many steps."""
    count, past = len(logged.length), HISTORY_STEPS + 1

    def rows(values: Array | ndarray) -> ndarray:
        return np.moveaxis(np.asarray(values)[1:, :, :count], 0, -1)

    def after(history: ndarray, values: ndarray) -> ndarray:
        before = np.broadcast_to(history[:, :, :past], (values.shape[0], count, past))
        return np.concatenate([before, values], axis=-1)

    there = rows(seen.active) & (np.arange(FUTURE_STEPS) < steps)
    return Traces(
        after(logged.x, rows(seen.x).astype(np.float64)),
        after(logged.y, rows(seen.y).astype(np.float64)),
        after(logged.yaw, np.arctan2(rows(seen.sin), rows(seen.cos)).astype(np.float64)),
        logged.length,
        logged.width,
        after(logged.valid, there),
    )


def constant_velocity(logged: Traces, steps: int) -> Traces:
    """Everyone goes on as at t0, from the displacement of the last half second that is seen; the ego as logged."""
    now = HISTORY_STEPS
    ahead = STEP_S * np.arange(1, FUTURE_STEPS + 1)
    valid = logged.valid[0, :, now - LAST_STEPS : now + 1]
    first = now - LAST_STEPS + valid.argmax(axis=1)
    rows = np.arange(len(first))
    seconds = np.maximum(STEP_S * (now - first), STEP_S)
    moved = []
    for field in (logged.x, logged.y):
        rate = (field[0, :, now] - field[0, rows, first]) / seconds
        line = field[0, :, now, None] + rate[:, None] * ahead
        line[0] = field[0, 0, now + 1 :]
        moved.append(np.concatenate([field[:, :, : now + 1], line[None]], axis=-1))
    still = np.broadcast_to(logged.yaw[:, :, now, None], (*logged.yaw.shape[:2], FUTURE_STEPS)).copy()
    still[:, 0] = logged.yaw[:, 0, now + 1 :]
    yaw = np.concatenate([logged.yaw[:, :, : now + 1], still], axis=-1)
    there = np.broadcast_to(np.arange(FUTURE_STEPS) < steps, (*yaw.shape[:2], FUTURE_STEPS))
    valid_now = np.concatenate([logged.valid[:, :, : now + 1], there], axis=-1)
    return Traces(moved[0], moved[1], yaw, logged.length, logged.width, valid_now)


def off_routes(logged: Traces, road: SceneRoad) -> Float[ndarray, "A S"]:
    """How far every logged place after t0 is from the own route, metres."""
    x, y = logged.x[0, :, HISTORY_STEPS + 1 :], logged.y[0, :, HISTORY_STEPS + 1 :]
    lines = [shapely.LineString(route.points) for route in road.road.routes]
    return np.stack([shapely.distance(line, shapely.points(x[i], y[i])) for i, line in enumerate(lines)])


def errors(replay: Replay, traces: Traces, horizon_s: float) -> tuple[Float[ndarray, "R N"], Int[ndarray, "N"]]:
    """Mean distance (m) from the logged places up to the horizon, for each rollout and each moving row that the log
    shows so long, and those rows."""
    end = round(horizon_s / STEP_S)
    first = HISTORY_STEPS + 1
    seen, rows = _counted(replay, end)
    span = slice(first, first + end)
    away = np.hypot(
        traces.x[:, rows, span] - replay.logged.x[:, rows, span],
        traces.y[:, rows, span] - replay.logged.y[:, rows, span],
    )
    counted = seen[rows][None]
    return np.where(counted, away, 0.0).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1), rows


def drift_rows(replays: list[Replay]) -> list[Row]:
    """Average displacement of vehicles and of everyone else that moves, by horizon."""
    rows = []
    for label, chosen in (("vehicles", {Kind.VEHICLE}), ("people and cyclists", {Kind.PEDESTRIAN, Kind.CYCLIST})):
        for horizon in HORIZONS_S:
            mean, least, steady, path = [], [], [], []
            for one in replays:
                found, which = errors(one, one.traces, horizon)
                mask = np.isin(one.kind[which], [int(kind) for kind in chosen])
                mean.append(found.mean(axis=0)[mask])
                least.append(found.min(axis=0)[mask])
                still = constant_velocity(one.logged, one.steps)
                steady.append(errors(one, still, horizon)[0][0][mask])
                end = round(horizon / STEP_S)
                seen, _ = _counted(one, end)
                off = np.where(seen, one.off_route[:, :end], 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
                path.append(off[which[mask]])
            count = sum(len(part) for part in mean)
            if not count:
                continue
            name = f"realism: {label}, {horizon:g} s: mean distance from the log, m"
            for way, parts in (
                ("reactive", mean),
                (f"reactive, best of {len(replays[0].traces.x)}", least),
                ("constant velocity", steady),
                ("replayed (path alone)", path),
            ):
                rows.append(Row(f"{name}, {way}", float(np.concatenate(parts).mean()), count))
            rows.append(Row(f"{name}, reactive, median agent", float(np.median(np.concatenate(mean))), count))
    return rows


def likelihood_rows(replays: list[Replay]) -> list[Row]:
    """Likelihoods of the log by feature and by group of features: simulator, constant velocity, log against itself."""
    rows: list[Row] = []
    first = HISTORY_STEPS + 1
    for label, of in (
        ("simulator", lambda one: one.traces),
        ("constant velocity", lambda one: constant_velocity(one.logged, one.steps)),
        ("log against itself", lambda one: one.logged),
    ):
        found: dict[str, list[ndarray]] = {name: [] for name in SCALES}
        met: list[ndarray] = []
        for one in replays:
            if not len(one.moving):
                continue
            logs = features(one.logged, one.moving, first)
            played = features(of(one), one.moving, first)
            met.append(played["collision"].value[..., 0].mean(axis=0))
            for name, values in likelihoods(played, logs).items():
                found[name].append(values)
        share = np.concatenate(met) if met else np.zeros(0)
        if len(share):
            rows.append(
                Row(f"realism: share of moving agents that touch anything, {label}", float(share.mean()), len(share))
            )
        mean = {}
        for name, parts in found.items():
            every = np.concatenate(parts) if parts else np.zeros(0)
            every = every[np.isfinite(every)]
            if len(every):
                mean[name] = float(np.exp(every.mean()))
                rows.append(Row(f"realism: Sim Agents ({YEARS}) {name}, {label}", mean[name], len(every)))
        for group, names in (("kinematic", KINEMATIC), ("interactive", INTERACTIVE)):
            if all(name in mean for name in names):
                weights = np.array([SCALES[name].weight for name in names])
                value = float((weights * [mean[name] for name in names]).sum() / weights.sum())
                rows.append(Row(f"realism: Sim Agents ({YEARS}) {group} features, {label}", value, len(replays)))
    return rows


def _counted(replay: Replay, end: int) -> tuple[Bool[ndarray, "A S"], Int[ndarray, "N"]]:
    """Which steps up to the horizon the log shows, and the moving rows that count for it."""
    first = HISTORY_STEPS + 1
    seen = replay.logged.valid[0, :, first : first + end]
    enough = (seen.mean(axis=1) >= SEEN_SHARE) & seen[:, -LAST_STEPS:].any(axis=1) & (end <= replay.steps)
    return seen, replay.moving[enough[replay.moving]]


def _kind_of(message: str) -> str:
    """The reason of a refusal without its names and numbers."""
    for part in (
        "overlap at t0",
        "road users with the ego",
        "off its route",
        "future shows",
        "has no lanes",
        "moves by",
    ):
        if part in message:
            return part
    return message.partition(": ")[2]
