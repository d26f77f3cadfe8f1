"""Scenes as roads: any scene can be gone on with, and any plan executed in it among traffic that reacts.

A scene of a simulated log goes on in the very world that it was taken from; a recorded one becomes a road of its own.
The seam of the evaluation: no critic and no planner may import it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock

import jax
import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.frames import Pose
from wmplan.plans import Plans, Start
from wmplan.scene import STEP_S, Future, Scene
from wmplan.scores import Outcomes
from wmplan.simulator import reader
from wmplan.simulator.drivers import ORIGINAL, Shift, shifted
from wmplan.simulator.executed import Executed
from wmplan.simulator.layout import SimMap
from wmplan.simulator.network import Network
from wmplan.simulator.outcome import Before, Course, outcomes_of
from wmplan.simulator.populate_scene import of_scene
from wmplan.simulator.scene_road import scene_road
from wmplan.simulator.state import State
from wmplan.simulator.truth import execute

SAME_PLACE_M = 0.05
"""Farther apart, a simulated scene is not of the world that its log's name leads to."""
PLANS_TOGETHER = 32
"""Plans are executed in multiples of so many (the last one is repeated), so that nothing is compiled for a number."""
_COMPILING = Lock()
"""Held while an execution begins (it goes on by itself), so that two threads do not compile the same program."""


@dataclass(frozen=True)
class LiveScene:
    """A scene that goes on. `anchor` is the scene frame's pose in the frame of the road, `course` what judging needs of
    the road, in the scene frame."""

    name: str
    road: SimMap
    network: Network
    state: State
    anchor: Pose
    course: Course

    def execute(self, plans: Plans) -> Executed:
        """What each plan leads to, in the scene frame, everybody else driving with the same noise.

        Raises:
            InputError: plans that are not finite or beyond the bicycle's bounds.
        """
        return self._seen(self._begin(plans.controls), len(plans))

    def outcomes(self, plans: Plans, start: Start, expert_progress_m: float) -> Outcomes:
        """Both driving scores of what each plan leads to, and what they are made of (`wmplan.simulator.outcome`).

        Each half of the plans is executed by a thread of its own; outcomes are row-wise, so nothing else depends on it.

        Raises:
            InputError: plans that are not finite or beyond the bicycle's bounds.
        """
        half = -(-len(plans) // (2 * PLANS_TOGETHER)) * PLANS_TOGETHER
        parts = [part for part in (plans.controls[:half], plans.controls[half:]) if len(part)]

        def executed(part: Float32[ndarray, "K T 2"]) -> Executed:
            with _COMPILING:
                running = self._begin(part)
            return self._seen(running, len(part))

        # One program runs on one core whatever there are; programs that two threads started run side by side. Only this
        # thread judges: GEOS builds the indices of prepared geometries when they are first asked, without a lock.
        with ThreadPoolExecutor(len(parts)) as pool:
            judged = [self.judge(done, start, expert_progress_m) for done in pool.map(executed, parts)]
        return Outcomes(self.name, judged[0].columns, np.concatenate([part.values for part in judged]))

    def judge(self, executed: Executed, start: Start, expert_progress_m: float) -> Outcomes:
        """The scores of what was executed."""
        before = Before(start.accel, start.curvature, expert_progress_m)
        return outcomes_of(executed, self.course, before, self.name)

    def _begin(self, controls: Float32[ndarray, "K T 2"]) -> Executed:
        """The execution of controls, padded; JAX goes on with it while the caller does something else."""
        count = -len(controls) % PLANS_TOGETHER
        return execute(self.network, self.state, np.concatenate([controls, np.repeat(controls[-1:], count, axis=0)]))

    def _seen(self, running: Executed, count: int) -> Executed:
        """The first `count` candidates, once they are done, in the scene frame."""
        done = running.numpy().select(slice(0, count))
        # Plain numbers, so that single precision stays single: these are the largest arrays of an evaluation.
        c, s = float(np.cos(self.anchor.yaw)), float(np.sin(self.anchor.yaw))
        dx, dy = done.x - float(self.anchor.x), done.y - float(self.anchor.y)
        return done._replace(
            x=c * dx + s * dy,
            y=c * dy - s * dx,
            cos=c * done.cos + s * done.sin,
            sin=c * done.sin - s * done.cos,
        )


def live(scene: Scene, future: Future, seed: int = 0, drivers: Shift = ORIGINAL) -> LiveScene:
    """The scene as a road on which others react; `seed` draws the drivers of recorded scenes.

    Only the simulator's own ego can be told what to do in a resumed world; a scene around another of its road users
    becomes a road of its own, as a recorded one does.

    Raises:
        InputError: a scene that cannot become a road, with the reason; a simulated scene that is not of the world that
            its log's name leads to, as when another version of the simulator made it.
    """
    if scene.dataset == reader.SimulatorReader.name and scene.recorded_ego:
        road, network, state = reader.resume(scene.log_id, round(scene.t0_s / STEP_S))
        anchor = scene.anchor
        _check_same_world(scene, state)
    else:
        found = scene_road(scene, future)
        network, state = of_scene(found, seed)
        road, anchor = found.road, Pose(0.0, 0.0, 0.0)
    state = state._replace(drivers=shifted(state.drivers, drivers))
    course = Course.of(_seen_from(road, anchor))
    return LiveScene(scene.scene_id, road, network, jax.block_until_ready(state), anchor, course)


def _check_same_world(scene: Scene, state: State) -> None:
    """Raises where somebody in the scene is not where the resumed world has them."""
    rows = [0, *(int(name) for name in scene.agents.ids)]
    now = np.concatenate([scene.ego.states[:, -1], scene.agents.states[:, -1]])
    there = np.concatenate([scene.ego.valid[:, -1], scene.agents.valid[:, -1]])
    places = scene.anchor.to_local(np.stack([np.asarray(state.x), np.asarray(state.y)], axis=-1)[rows])
    away = np.hypot(*(now[:, :2] - places).T)[there].max()
    if away > SAME_PLACE_M:
        raise InputError(
            f"scene {scene.scene_id}: its road users are up to {away:.2f} m from where the simulator has them, "
            f"expected at most {SAME_PLACE_M} m: logs of another version of the simulator have to be made again"
        )


def _seen_from(road: SimMap, anchor: Pose) -> SimMap:
    """The road in the frame of `anchor`."""
    if anchor == Pose(0.0, 0.0, 0.0):
        return road
    routes = tuple(replace(route, points=anchor.to_local(route.points)) for route in road.routes)
    return replace(road, road_map=road.road_map.seen_from(anchor), routes=routes)
