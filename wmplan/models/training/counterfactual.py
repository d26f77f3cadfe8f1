"""What would have followed other actions of the ego: scenes of the simulator gone on with under many ego plans.

A log shows one action and what followed it. Here K plans are executed from one scene, everybody else reacting, drivers'
noise and all else equal; each becomes a pair of scene and future like any other, so that a model sees in training what
it will be asked: the same present, another action, another future.

References:
    `reference/world_models.md` 4.3 (data mix).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan import bicycle
from wmplan.errors import InputError
from wmplan.models.training.data import MARK
from wmplan.plans import Plans
from wmplan.randomness import fold_in
from wmplan.scene import FUTURE_STEPS, STEP_S, Future, Scene, Tracks
from wmplan.simulator.executed import Executed
from wmplan.simulator.live import live

ACCELS_MPS2 = (-6.0, 2.0)
"""Range of the accelerations that are tried, beyond what the egos of logs do at its lower end."""
HARD_MPS2 = (-6.0, -4.0)
SHIFT_M, SHIFT_S = 3.5, (2.0, 4.0)
"""A lane's width, and how long it takes to move aside by as much."""
LATERAL_MPS2 = 3.0
"""Bound on the lateral acceleration of moving aside."""
MIN_SPEED_MPS = 3.0
"""Below this speed a car does not move aside."""


def counterfactuals(
    scenes: Iterable[tuple[Scene, Future]], plans: int, steps: int, seed: int = 0
) -> Iterator[tuple[Scene, Future]]:
    """`plans` pairs for every scene of the simulator's own ego, in order; the first follows the log's own actions.

    The ids are `<scene>/do0`, `<scene>/do1`, ...; the group is the scene's, so that splits by group keep them together.
    Futures end after `steps` of `STEP_S`. A scene whose log ends before is left out.

    Raises:
        InputError: a scene that is not of the simulator, or of another version of it.
    """
    for scene, future in scenes:
        if not future.ego.valid[0, :steps].all():
            continue
        if scene.dataset != "simulator" or not scene.recorded_ego:
            raise InputError(
                f"scene {scene.scene_id}: its ego is {scene.ego_id!r} of {scene.dataset}, expected the simulator's own "
                "ego: only its drives can be gone on with otherwise"
            )
        tried = proposals(scene, future, plans, steps, seed)
        done = live(scene, future).execute(tried)
        for k in range(plans):
            name = f"{scene.scene_id}{MARK}{k}"
            yield replace(scene, scene_id=name), as_future(future, done, k, name)


def proposals(scene: Scene, future: Future, plans: int, steps: int, seed: int) -> Plans:
    """Plans of `steps` for the scene's ego along the path that it took: first the log's own actions; then constant hard
    braking, a constant acceleration, one that changes, braking that ends, and moving aside, in turn."""
    logged = logged_controls(scene, future)
    speed = max(float(scene.ego.states[0, -1, 3]), 0.0)
    controls = [logged[:steps]]
    for k in range(1, plans):
        draw = np.random.default_rng(fold_in(seed, scene.scene_id, MARK, k))
        accel = _accels(draw, (k - 1) % 5, steps)
        aside = _aside(draw, speed, steps) if (k - 1) % 5 == 4 else np.zeros(steps)
        controls.append(along_path(logged, speed, accel) + np.stack([np.zeros(steps), aside], axis=-1))
    return Plans.from_controls(np.stack(controls), speed)


def logged_controls(scene: Scene, future: Future) -> Float[ndarray, "T 2"]:
    """The controls behind the recorded ego's future, as long as it was seen."""
    seen = int(np.argmin(np.append(future.ego.valid[0], False)))
    states = np.concatenate([scene.ego.states[0, -1:], future.ego.states[0, :seen]]).astype(np.float64)
    speed = states[:, 3] * np.cos(states[:, 2]) + states[:, 4] * np.sin(states[:, 2])
    controls = bicycle.inverse(np.concatenate([states[:, :3], np.maximum(speed, 0.0)[:, None]], axis=1), STEP_S)
    bound = np.array([bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM])
    return np.clip(controls, -bound, bound)


def along_path(logged: Float[ndarray, "T 2"], speed: float, accel: Float[ndarray, "S"]) -> Float[ndarray, "S 2"]:
    """Controls with these accelerations that bend where the logged ones did (by distance), straight on beyond."""
    start = np.array([0.0, 0.0, 0.0, speed])
    way = _distance(bicycle.forward(start, logged, STEP_S)[:, 3])
    straight = np.stack([accel, np.zeros_like(accel)], axis=-1)
    driven = _distance(bicycle.forward(start, straight, STEP_S)[:, 3])
    middle = 0.5 * (driven[1:] + driven[:-1])
    at = np.searchsorted(way[1:], middle, side="left")
    bends = np.append(logged[:, 1], 0.0)[np.minimum(at, len(logged))]
    return np.stack([accel, bends], axis=-1)


def as_future(logged: Future, done: Executed, k: int, name: str) -> Future:
    """What followed plan `k`, as the scene's future: the same road users in order, valid as far as executed."""
    rows = [0, *(int(row) for row in logged.agents.ids)]
    steps = min(len(done.x) - 1, FUTURE_STEPS)
    x, y, cos, sin, speed = (field[1 : steps + 1, k, rows].T for field in done[:5])
    states = np.zeros((len(rows), FUTURE_STEPS, 5), dtype=np.float32)
    states[:, :steps] = np.stack([x, y, np.arctan2(sin, cos), speed * cos, speed * sin], axis=-1)
    valid = np.zeros((len(rows), FUTURE_STEPS), dtype=bool)
    valid[:, :steps] = done.active[1 : steps + 1, k, rows].T
    states[~valid] = 0.0

    def tracks(like: Tracks, part: slice) -> Tracks:
        return Tracks(like.ids, like.kinds, like.sizes, states[part], valid[part])

    return Future(name, tracks(logged.ego, slice(0, 1)), tracks(logged.agents, slice(1, None)), logged.lights)


def _accels(draw: np.random.Generator, kind: int, steps: int) -> Float[ndarray, "S"]:
    """Hard braking; a constant acceleration; one that changes; braking that ends; a constant one."""
    low, high = ACCELS_MPS2
    first = draw.uniform(*HARD_MPS2) if kind == 0 else draw.uniform(low, high)
    if kind == 3:
        first = draw.uniform(low, 0.5 * low)
    change = draw.uniform(0.5, STEP_S * steps - 0.5) / STEP_S if kind in (2, 3) else steps
    then = draw.uniform(0.0, high) if kind == 3 else draw.uniform(low, high)
    return np.where(np.arange(steps) < change, first, then)


def _aside(draw: np.random.Generator, speed: float, steps: int) -> Float[ndarray, "S"]:
    """The curvature, over time, of moving aside by a lane's width at most at this speed."""
    side, seconds, shift = draw.choice([-1.0, 1.0]), draw.uniform(*SHIFT_S), draw.uniform(0.2, 1.0) * SHIFT_M
    if speed < MIN_SPEED_MPS:
        return np.zeros(steps)
    # A period of a sine as the lateral acceleration moves aside by amplitude x period^2 / (2 pi).
    lateral = min(2.0 * np.pi * shift / seconds**2, LATERAL_MPS2)
    time = STEP_S * (np.arange(steps) + 0.5)
    return side * lateral / speed**2 * np.where(time < seconds, np.sin(2.0 * np.pi * time / seconds), 0.0)


def _distance(speed: Float[ndarray, "S"]) -> Float[ndarray, "S"]:
    return np.concatenate([[0.0], np.cumsum(0.5 * STEP_S * (speed[1:] + speed[:-1]))])
