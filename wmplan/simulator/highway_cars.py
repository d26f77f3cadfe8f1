"""highway-env's own environments, made repeatable. The one module that imports highway-env; `highway` loads it lazily.

Nothing of how its vehicles drive is changed. Two habits of it break repeatability and are confined here: the
intersection writes its drivers' parameters into the *class* that all environments share, so each environment gets a
subclass of its own; and spawning draws from a stream that goes out of step between candidates, so every spawn gets a
generator of its own, by its time.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from highway_env.envs.highway_env import HighwayEnv
from highway_env.envs.intersection_env import IntersectionEnv
from highway_env.envs.merge_env import MergeEnv
from highway_env.envs.roundabout_env import RoundaboutEnv
from highway_env.vehicle.behavior import IDMVehicle
from highway_env.vehicle.kinematics import Vehicle

from wmplan.randomness import fold_in

MAX_SLIP_RAD = math.atan(0.5 * math.tan(IDMVehicle.MAX_STEERING_ANGLE))
"""Slip angle of the box centre at the largest steering of highway-env's own drivers (60 degrees): 40.9 degrees."""


class Alone:
    """A vehicle whose copy, made on its own, shares the road it is on: to predict one car, as its intersection does for
    every pair twice a second, highway-env would copy the whole world."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if not memo:
            road = self.road  # type: ignore[attr-defined]
            memo.update({id(road): road, **_lanes(road)})
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        for name, value in self.__dict__.items():
            setattr(twin, name, copy.deepcopy(value, memo))
        return twin


class Ego(Alone, Vehicle):
    """highway-env's plain vehicle: it does as it is told."""


class HighwayDriver(Alone, IDMVehicle):
    """highway-env's driver, its parameters apart from those of the other environments; so for the next three."""


class MergeDriver(Alone, IDMVehicle):
    """See `HighwayDriver`."""


class IntersectionDriver(Alone, IDMVehicle):
    """See `HighwayDriver`."""


class RoundaboutDriver(Alone, IDMVehicle):
    """See `HighwayDriver`."""


ENVIRONMENTS: dict[str, tuple[Any, Any]] = {
    "highway": (HighwayEnv, HighwayDriver),
    "merge": (MergeEnv, MergeDriver),
    "intersection": (IntersectionEnv, IntersectionDriver),
    "roundabout": (RoundaboutEnv, RoundaboutDriver),
}


def make(kind: str, key: int, vehicles: int, frequency: int) -> Any:
    """The environment after its reset with this key; `frequency` in Hz. The ego is driven by highway-env's driver."""
    environment, driver = ENVIRONMENTS[kind]
    config: dict[str, Any] = {
        "other_vehicles_type": f"{__name__}.{driver.__name__}",
        "neighbour_vehicles_connected_lanes": True,  # its newer versions: who is ahead is seen across lane ends
        "simulation_frequency": frequency,
        "observation": {"type": "Kinematics", "vehicles_count": 1},
    }
    if kind == "highway":
        config["vehicles_count"] = vehicles
    env = environment(config)
    env.reset(seed=key)
    for number, obstacle in enumerate(env.road.objects):
        obstacle.label = f"obstacle{number}"
    for number, vehicle in enumerate(v for v in env.road.vehicles if v is not env.vehicle):
        vehicle.label = f"car{number}"
    env.vehicle.label = "ego"
    _exchange(env, driver.create_from(env.vehicle))
    return env


def take_the_wheel(env: Any) -> None:
    """The ego becomes a plain vehicle that does as it is told, from where its driver brought it."""
    driver = env.vehicle
    ego = Ego(env.road, driver.position, driver.heading, driver.speed)
    ego.action = dict(driver.action)
    ego.goal = (driver.target_speed, driver.route[-1][1] if driver.route else None)
    _exchange(env, ego)


def give_the_wheel(env: Any, kind: str) -> None:
    """The opposite: highway-env's driver goes on from where the ego is, to where it wanted to go, at its own pace."""
    ego = env.vehicle
    speed, destination = ego.goal
    driver = ENVIRONMENTS[kind][1](env.road, ego.position, ego.heading, ego.speed, target_speed=speed)
    if destination is not None:
        driver.plan_route_to(destination)
    driver.action = dict(ego.action)
    driver.crashed = ego.crashed
    _exchange(env, driver)


def copied(env: Any) -> Any:
    """A copy that drives on alone; the lane network never changes and is shared."""
    return copy.deepcopy(env, _lanes(env.road))


def tick(env: Any, dt: float) -> None:
    """One step of everybody."""
    env.road.act()
    env.road.step(dt)


def come_and_go(env: Any, key: int, second: int) -> None:
    """Once a second, as in its own `step`, the intersection takes away who has left and lets others in."""
    if not isinstance(env, IntersectionEnv):
        return
    stream = np.random.Generator(np.random.PCG64(fold_in(key, "spawn", second)))
    env.np_random = env.road.np_random = stream
    env._clear_vehicles()
    newcomer = env._spawn_vehicle(spawn_probability=env.config["spawn_probability"])
    if newcomer is not None:
        newcomer.label = f"spawn{second}"


def steer(ego: Any, course: float) -> float:
    """The steering angle under which the box centre moves along `course` (both in highway-env's frame, rad).

    Its bicycle moves the centre in the direction heading + slip, slip = atan(tan(steering) / 2), so this is the
    inverse; the slip is bounded by `MAX_SLIP_RAD`. Neither angle is ever wrapped, so one that the bound keeps from
    following goes on turning the same way.
    """
    slip = course - ego.heading
    return math.atan(2.0 * math.tan(min(max(slip, -MAX_SLIP_RAD), MAX_SLIP_RAD)))


def _exchange(env: Any, new: Any) -> None:
    old = env.vehicle
    new.label = old.label
    env.road.vehicles[env.road.vehicles.index(old)] = new
    env.controlled_vehicles = [new]


def _lanes(road: Any) -> dict[int, Any]:
    """What never changes, as a memo for `copy.deepcopy`."""
    return {id(part): part for part in (road.network, *road.network.lanes_list())}
