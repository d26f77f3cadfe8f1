"""Drives on a highway-env road that are told what to do step by step, and the recording of one that nobody tells.

`HighwayRoad.step` copies the world at every step; where many drives of many steps are wanted, each goes on in a copy of
its own.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from numpy import ndarray

from wmplan.scene import Log
from wmplan.simulator.highway import HighwayRoad, HighwayState
from wmplan.simulator.highway_seen import Seen, look


class Drive:
    """One drive from a state, which it leaves as it is."""

    def __init__(self, road: HighwayRoad, state: HighwayState) -> None:
        self._road, self._state = road, state
        self._env, self._course, self._steps = road.cars.copied(state.env), state.course, state.steps

    def step(self, action: Float[ndarray, "2"]) -> Seen:
        """Everybody `STEP_S` later, after the ego did this (m/s2, 1/m)."""
        self._steps += 1
        accel, curvature = float(action[0]), float(action[1])
        self._course = self._road.drive(self._env, self._state, self._steps, self._course, accel, curvature)
        return look(self._env)


def gone_on(road: HighwayRoad, state: HighwayState, steps: int) -> Log:
    """The last 2 s and `steps` more, in which highway-env's driver has the ego's wheel; t0 is the state's moment."""
    env = road.cars.copied(state.env)
    road.cars.give_the_wheel(env, road.kind)
    after = []
    for step in range(1, steps + 1):
        road.tick(env, state.key, state.steps + step)
        after.append(look(env))
    whole = road.log(replace(state, past=(*state.past, *after)))
    return replace(whole, present_step=len(state.past) - 1)
