"""A road that no one here wrote: highway-env, its vehicles and its maps, behind the `Road` protocol.

    road = HighwayRoad("merge")
    state = road.reset(key=7)
    scene = road.scene(state)                 # what planners and policies see: 2 s of history and the map
    truth = road.outcomes(state, plans)       # every candidate executed in a copy of the environment

**How a plan is executed.** The ego is highway-env's own bicycle, whose box centre moves in the direction heading + slip
with slip = atan(tan(steering) / 2), and turns at 2 v sin(slip) / length. A plan's course (the heading of `wmplan`'s
bicycle, which does not slip) is integrated from its curvature, and the steering is the one under which the centre moves
along it: steering = atan(2 tan(course - heading)). So the *path* is the plan's; the box is turned against it by the
slip, asin(curvature length / 2) in a steady curve. Two differences remain. highway-env's Euler step moves with the
speed at the step's beginning, so the ego is off along the path by half a tick times the change of speed so far (0.025 s
at 20 Hz: 0.25 m after 10 m/s). And steering ends at 60 degrees, as for its own drivers: curvature above 0.26 1/m is not
reached. A plan that brakes stops; it doesn't reverse. After a contact highway-env takes over and brakes the car.

Needs the extra `highway` (pip install 'wmplan[highway]').
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.frames import Pose, wrap_angle
from wmplan.plans import Plans
from wmplan.randomness import fold_in
from wmplan.scene import HISTORY_STEPS, STEP_S, Lights, Log, Scene, Tracks
from wmplan.scores import Outcomes
from wmplan.simulator.controls import checked
from wmplan.simulator.executed import Executed
from wmplan.simulator.highway_maps import course_of, road_map
from wmplan.simulator.highway_seen import Seen, labels, look, tabled
from wmplan.simulator.outcome import Before, outcomes_of
from wmplan.start import start_of
from wmplan.windows import WindowConfig, cut

KINDS = ("highway", "merge", "intersection", "roundabout")
ATTEMPTS = 32
"""Resets tried for one key until the ego is not in a contact when its plan begins: highway-env's traffic crashes."""
UNTIL_NOW = WindowConfig(min_history_s=HISTORY_STEPS * STEP_S, min_future_s=1e-6)
"""A scene at the last step of a log."""


@dataclass(frozen=True)
class HighwayState:
    """One moment of a world. Never changed: `step` copies. `course` is where the ego's centre is heading (highway-env's
    frame, rad), `steps` counts from t0, `past` holds the last `HISTORY_STEPS + 1` moments, this one included."""

    env: Any
    key: int
    course: float
    steps: int
    past: tuple[Seen, ...]


@dataclass(frozen=True)
class Driven:
    """K candidates as executed, in the scene frame of the state; `labels` name the rows.

    The ego's `route` is the number of the nearest lane; there are no lights. `crashed` and `on_road` are highway-env's
    own words of the ego: boxes overlapped, its centre is on a lane.
    """

    executed: Executed
    labels: tuple[str, ...]
    crashed: Bool[ndarray, "S K"]
    on_road: Bool[ndarray, "S K"]


class HighwayRoad:
    """A `Road` of one of highway-env's environments. An action is (acceleration m/s2, curvature 1/m) for `STEP_S`.

    Args:
        kind: highway (four lanes), merge (a ramp that ends), intersection (priority to one road, no lights) or
            roundabout.
        vehicles: other vehicles, on the highway only; elsewhere highway-env decides.
        ticks: ticks of highway-env in `STEP_S`: 2 are 20 Hz.

    Raises:
        InputError: no such kind, fewer than one tick, or highway-env isn't installed.
    """

    def __init__(self, kind: str = "highway", vehicles: int = 30, ticks: int = 2) -> None:
        if kind not in KINDS:
            raise InputError(f"HighwayRoad.kind is {kind!r}, expected one of {', '.join(KINDS)}")
        if ticks < 1:
            raise InputError(f"HighwayRoad.ticks is {ticks}, expected 1 or more")
        self.name = f"highway-env/{kind}"
        self.kind, self.vehicles, self.ticks = kind, vehicles, ticks
        self.cars = _load()

    def reset(self, key: int) -> HighwayState:
        """The state after 2 s in which highway-env's driver had the wheel; from here on the ego does as it is told.

        The same key gives the same state, and the same traffic ever after under the same actions.
        """
        for attempt in range(ATTEMPTS):
            draw = fold_in(key, self.name, attempt)
            env = self.cars.make(self.kind, draw, self.vehicles, round(self.ticks / STEP_S))
            past = [look(env)]
            for step in range(1, HISTORY_STEPS + 1):
                self.tick(env, draw, step - HISTORY_STEPS)
                past.append(look(env))
            if not past[-1].ego.crashed:
                self.cars.take_the_wheel(env)
                return HighwayState(env, draw, env.vehicle.heading, 0, tuple(past))
        raise InputError(f"{self.name}: key {key} gives no start without a contact in {ATTEMPTS} resets")

    def step(self, state: HighwayState, action: Float[ndarray, "2"]) -> HighwayState:
        """The state `STEP_S` later."""
        env = self.cars.copied(state.env)
        course = self.drive(env, state, state.steps + 1, state.course, float(action[0]), float(action[1]))
        return replace(state, env=env, course=course, steps=state.steps + 1, past=(*state.past[1:], look(env)))

    def scene(self, state: HighwayState) -> Scene:
        """What a planner may see: the last 2 s of everybody, the lanes near by, no lights."""
        return next(cut(self.log(state), UNTIL_NOW))[0]

    def log(self, state: HighwayState) -> Log:
        """The last 2 s as a recording, its last step the present."""
        names = labels(state.past)
        table = tabled(state.past, names)
        x, y, yaw, speed = np.moveaxis(table.states, -1, 0)
        motion = np.stack([x, y, wrap_angle(yaw), speed * np.cos(yaw), speed * np.sin(yaw)], axis=-1).swapaxes(0, 1)
        name = f"{self.name.replace('/', '-')}-{state.key}-{state.steps}"
        return Log(
            log_id=name,
            group=name,
            dataset="highway-env",
            file=self.name,
            dt_s=STEP_S,
            tracks=Tracks(names, table.kinds.astype(np.int8), table.sizes.astype(np.float32), motion, table.there.T),
            road_map=road_map(state.env.road.network, state.env.vehicle.position),
            lights=Lights.none(len(state.past)),
            recorded_ego="ego",
            recorded=False,
            present_step=len(state.past) - 1,
        )

    def execute(self, state: HighwayState, plans: Plans) -> Driven:
        """Every candidate executed from this state, each in a copy of its own; the same drivers and the same newcomers
        meet all of them.

        Raises:
            InputError: controls that are not finite or beyond the bicycle's bounds, or another start speed.
        """
        _check(plans, state)
        runs = [self._run(state, controls) for controls in plans.controls.astype(np.float64)]
        names = labels([moment for run in runs for moment in run])
        tables = [tabled(run, names) for run in runs]
        states = np.stack([table.states for table in tables], axis=1)
        anchor = _anchor(state)
        place = anchor.to_local(states[..., :2])
        yaw = states[..., 2] - anchor.yaw
        egos = [[moment.ego for moment in run] for run in runs]
        executed = Executed(
            x=place[..., 0],
            y=place[..., 1],
            cos=np.cos(yaw),
            sin=np.sin(yaw),
            speed=states[..., 3],
            active=np.stack([table.there for table in tables], axis=1),
            length=np.max([table.sizes for table in tables], axis=0)[:, 0],
            width=np.max([table.sizes for table in tables], axis=0)[:, 1],
            kind=np.min([table.kinds for table in tables], axis=0),
            route=np.array([[ego.lane for ego in run] for run in egos]).T,
            s=np.array([[ego.s for ego in run] for run in egos]).T,
            lateral=np.array([[ego.lateral for ego in run] for run in egos]).T,
            red=np.zeros(states.shape[:2], dtype=bool),
        )
        return Driven(
            executed,
            names,
            crashed=np.array([[ego.crashed for ego in run] for run in egos]).T,
            on_road=np.array([[ego.on_road for ego in run] for run in egos]).T,
        )

    def outcomes(self, state: HighwayState, plans: Plans) -> Outcomes:
        """Both driving scores of every candidate by the same judge as the simulator's own roads, and two columns more:
        `crashed` and `off_road` (0 or 1), what highway-env itself says of the execution.

        The expert whose progress counts as full is highway-env's own driver, put at the wheel in a further copy.
        """
        driven = self.execute(state, plans)
        scene = self.scene(state)
        start = start_of(scene)
        lanes = self.log(state).road_map.seen_from(scene.anchor)  # the scene keeps only what is near at t0
        before = Before(start.accel, start.curvature, self._expert_progress(state, plans.controls.shape[1]))
        judged = outcomes_of(driven.executed, course_of(state.env.road.network, lanes), before, scene.scene_id)
        own = np.stack([driven.crashed.any(axis=0), ~driven.on_road.all(axis=0)], axis=1).astype(np.float64)
        values = np.concatenate([judged.values, own], axis=1)
        return Outcomes(judged.scene_id, (*judged.columns, "crashed", "off_road"), values)

    def _run(self, state: HighwayState, controls: Float[ndarray, "T 2"]) -> list[Seen]:
        """Every moment of one candidate."""
        env, course = self.cars.copied(state.env), state.course
        seen = [state.past[-1]]
        for t, (accel, curvature) in enumerate(controls):
            course = self.drive(env, state, state.steps + t + 1, course, accel, curvature)
            seen.append(look(env))
        return seen

    def _expert_progress(self, state: HighwayState, steps: int) -> float:
        """Metres that highway-env's driver makes in so many steps from here."""
        env = self.cars.copied(state.env)
        self.cars.give_the_wheel(env, self.kind)
        at = [env.vehicle.position.copy()]
        for step in range(1, steps + 1):
            self.tick(env, state.key, state.steps + step)
            at.append(env.vehicle.position.copy())
        return float(np.hypot(*np.diff(at, axis=0).T).sum())

    def drive(self, env: Any, state: HighwayState, step: int, course: float, accel: float, curvature: float) -> float:
        """Moves `env` on to this step, with the ego doing this; the plan's course afterwards."""
        ego, dt = env.vehicle, STEP_S / self.ticks
        for _ in range(self.ticks):
            speed = max(float(ego.speed), 0.0)
            after = max(speed + accel * dt, 0.0)
            turn = -curvature * 0.5 * (speed + after) * dt  # highway-env turns the other way round
            ego.action = {
                "acceleration": (after - ego.speed) / dt,
                "steering": self.cars.steer(ego, course + 0.5 * turn),
            }
            course += turn
            self.cars.tick(env, dt)
        self._come_and_go(env, state.key, step)
        return course

    def tick(self, env: Any, key: int, step: int) -> None:
        """Moves `env` on to this step, with highway-env's driver at the ego's wheel."""
        for _ in range(self.ticks):
            self.cars.tick(env, STEP_S / self.ticks)
        self._come_and_go(env, key, step)

    def _come_and_go(self, env: Any, key: int, step: int) -> None:
        if step % round(1.0 / STEP_S) == 0:
            self.cars.come_and_go(env, key, step // round(1.0 / STEP_S))


def _load() -> ModuleType:
    try:
        from wmplan.simulator import highway_cars
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("highway_env", "gymnasium", "pygame"):
            raise
        raise InputError(
            f"the road highway-env needs the package {error.name}: pip install 'wmplan[highway]'"
        ) from error
    return highway_cars


def _anchor(state: HighwayState) -> Pose:
    """The scene frame's pose: the ego's present place, as `windows` has it."""
    x, y, yaw = state.past[-1].states[0, :3].tolist()
    return Pose(x, y, float(wrap_angle(yaw)))


def _check(plans: Plans, state: HighwayState) -> None:
    if not len(plans):
        raise InputError("HighwayRoad.outcomes: no candidates")
    checked(plans.controls)
    speed, planned = float(state.env.vehicle.speed), float(plans.states[0, 0, 3])
    if not math.isclose(speed, planned, abs_tol=0.05):
        raise InputError(f"HighwayRoad.outcomes: plans start at {planned:g} m/s, the ego drives {speed:g} m/s")
