"""Every policy closed-loop from a scene's t0: on its road, and inside a world model; judged in the same way.

In the model, each half second a policy's ego moves on among road users who were read from the imagined frame; what it
did becomes the plan that the next frame is imagined for. Nothing of the scene's future is used: not the others' routes,
drivers or wishes, not when lights change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from experiments.ope import driving
from experiments.ope.fleet import Fleet
from experiments.ope.imagining import imagining
from experiments.ope.seen import Places, placed
from wmplan.contracts import Grid, SceneRaster, WorldModel
from wmplan.errors import InputError
from wmplan.frames import Pose
from wmplan.plans import Plans, Start
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE
from wmplan.scene import Scene
from wmplan.simulator.executed import Executed
from wmplan.simulator.live import LiveScene
from wmplan.simulator.policies.protocol import Policy
from wmplan.simulator.reader import SimulatorReader
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Moment
from wmplan.validation.instances import Instances, read

EXPERT = "idm_normal"
"""Progress counts against this policy's, on the road against the road's, in a model against the model's."""
COLUMNS = ("pdms", "nuplan_score", "progress_m", "no_collision_pdms", "drivable_pdms", "ttc_pdms", "comfort")
"""What is kept of a drive."""


@dataclass(frozen=True)
class Drives:
    """All drives from one scene: rows of `executed` are policies times draws, in the scene frame; `crowded` counts
    imagined road users that found no row in the world."""

    scene_id: str
    policies: tuple[str, ...]
    draws: int
    executed: Executed
    crowded: int = 0

    def until(self, steps: int) -> Drives:
        """The same drives, as far as so many steps."""
        sizes = {"length", "width", "kind"}
        moving = {n: getattr(self.executed, n)[: steps + 1] for n in Executed._fields if n not in sizes}
        return replace(self, executed=self.executed._replace(**moving))


def on_road(alive: LiveScene, policies: Mapping[str, Policy] | Fleet, steps: int, draws: int, seed: int) -> Drives:
    """What really happens: `steps` of 0.1 s, `draws` times with other choices of the policy and the same traffic."""
    fleet = _fleet(policies, draws)
    worlds = driving.several(alive.state, len(fleet) * draws)
    moments = driving.on_road(alive.network, worlds, fleet, fleet.keys(alive.name, seed), steps)
    return Drives(alive.name, fleet.names, draws, executed_of(jax.device_get(moments), alive.state, alive.anchor))


def in_model(
    alive: LiveScene,
    scene: Scene,
    raster: SceneRaster,
    model: WorldModel,
    policies: Mapping[str, Policy] | Fleet,
    draws: int,
    seed: int,
) -> Drives:
    """What the model imagines to happen, for its horizon; draw b has the policy's choices of draw b on the road, and
    the model's noise sample b.

    Of `alive` only the map and what can be seen at t0 is used.

    Raises:
        InputError: the model's frames depend on actions that come after them.
    """
    fleet, context, horizon = _fleet(policies, draws), model.encode(raster), model.horizon
    keys, rows = fleet.keys(alive.name, seed), len(fleet) * draws
    first = driving.known(alive.network, alive.state, jnp.asarray(_visible(alive, scene)))
    worlds = driving.several(first, rows)
    moments = [jax.tree.map(lambda leaf: leaf[None], jax.device_get(driving.present(worlds)))]
    missing = np.zeros((rows, len(first.kind)), dtype=int)
    controls = np.zeros((rows, horizon * STRIDE, 2))
    futures = [imagining(model, context, NoiseBank(seed, 1, b), scene.scene_id) for b in range(draws)]
    held = driving.nothing_held(worlds)
    crowded = 0
    for k in range(horizon):
        begin, end = k * STRIDE, (k + 1) * STRIDE
        worlds, held, seen, actions = driving.glide(alive.network, worlds, fleet, keys, jnp.int32(begin), held, STRIDE)
        controls[:, begin:end] = np.moveaxis(np.asarray(actions), 0, 1)
        # What comes after is not known yet: on with the last curvature at constant speed.
        controls[:, end:, 1] = controls[:, end - 1, None, 1]
        # A drive that is no number any more stays none; what the model imagines for it is of no use to anybody.
        known = np.where(np.isfinite(controls).all(axis=(1, 2), keepdims=True), controls, 0.0)
        plans = [Plans.from_controls(known[b::draws], raster.start.speed) for b in range(draws)]
        frames = [future.next(mine) for future, mine in zip(futures, plans)]
        worlds, missing, lost = _shown(alive, worlds, missing, frames, model.grid)
        crowded += lost
        moments.append(_last_as(jax.device_get(seen), jax.device_get(driving.present(worlds))))
    whole = Moment(*(np.concatenate(parts) for parts in zip(*moments)))
    return Drives(alive.name, fleet.names, draws, executed_of(whole, first, alive.anchor), crowded)


def judged(drives: Drives, judge: Callable[[Executed, Start, float], ndarray], start: Start) -> pd.DataFrame:
    """A row for each drive: scene, policy, draw, both driving scores and what they are made of. `judge` gives `COLUMNS`
    of executed drives for a number of metres that the expert makes.

    Raises:
        InputError: the expert is not among the policies.
    """
    expert = expert_progress(drives, judge, start)
    rows = pd.DataFrame(judge(drives.executed, start, expert), columns=list(COLUMNS))
    rows.insert(0, "scene_id", drives.scene_id)
    rows.insert(1, "policy", np.repeat(drives.policies, drives.draws))
    rows.insert(2, "draw", np.tile(np.arange(drives.draws), len(drives.policies)))
    return rows


def expert_progress(drives: Drives, judge: Callable[[Executed, Start, float], ndarray], start: Start) -> float:
    """Metres that the expert makes in these drives, the mean of its draws.

    Raises:
        InputError: the expert is not among the policies.
    """
    if EXPERT not in drives.policies:
        raise InputError(f"policies: {', '.join(drives.policies)}, expected {EXPERT} among them")
    at = drives.policies.index(EXPERT) * drives.draws
    own = judge(drives.executed.select(slice(at, at + drives.draws)), start, float("nan"))
    return float(own[:, COLUMNS.index("progress_m")].mean())


def by_road(alive: LiveScene) -> Callable[[Executed, Start, float], ndarray]:
    """The road's own judge."""

    def judge(executed: Executed, start: Start, expert_m: float) -> Float[ndarray, "K N"]:
        outcomes = alive.judge(executed, start, expert_m)
        return np.stack([outcomes.column(name) for name in COLUMNS], axis=1)

    return judge


def executed_of(seen: Moment, state: State, anchor: Pose) -> Executed:
    """Moments [S, B, ...] as executed candidates, in the scene frame."""
    c, s = float(np.cos(anchor.yaw)), float(np.sin(anchor.yaw))
    dx, dy = seen.x - float(anchor.x), seen.y - float(anchor.y)
    return Executed(
        c * dx + s * dy,
        c * dy - s * dx,
        c * seen.cos + s * seen.sin,
        c * seen.sin - s * seen.cos,
        seen.speed,
        seen.active,
        np.asarray(state.length),
        np.asarray(state.width),
        np.asarray(state.kind),
        seen.route,
        seen.s,
        seen.lateral,
        seen.red,
    )


# ------------------------------------------------------------------------------------------------------ details


def _fleet(policies: Mapping[str, Policy] | Fleet, draws: int) -> Fleet:
    if not isinstance(policies, Fleet):
        return Fleet.of(policies, draws)
    if policies.draws != draws:
        raise ValueError(f"fleet: of {policies.draws} draws, expected {draws}")
    return policies


def _visible(alive: LiveScene, scene: Scene) -> ndarray:
    """Rows that the scene shows at t0."""
    active = np.asarray(alive.state.active)
    if scene.dataset != SimulatorReader.name or not scene.recorded_ego:
        return active
    rows = [0, *(int(name) for name, there in zip(scene.agents.ids, scene.agents.valid[:, -1]) if there)]
    return active & np.isin(np.arange(len(active)), rows)


def _shown(
    alive: LiveScene, worlds: State, missing: ndarray, frames: Sequence[tuple[Tensor, Tensor]], grid: Grid
) -> tuple[State, ndarray, int]:
    """The worlds as a frame of the imagined futures shows them; row r of the worlds is candidate r // draws of the
    futures of draw r % draws."""
    x, y, cos, sin, speed = (
        np.asarray(part, np.float64) for part in (worlds.x, worlds.y, worlds.cos, worlds.sin, worlds.speed)
    )
    active, kind = np.asarray(worlds.active), np.asarray(worlds.kind).astype(int)
    places, crowded = [], 0
    # Frames of a model that does not look at actions are one frame: read once.
    known: dict[tuple[int, int], Instances] = {}
    for r in range(len(x)):
        expected = Places(x[r], y[r], cos[r], sin[r], speed[r], active[r], kind[r], missing[r])
        occupancy, velocity = (part[r // len(frames)] for part in frames[r % len(frames)])
        which = occupancy.data_ptr(), velocity.data_ptr()
        if which not in known:
            known[which] = read(occupancy.numpy(), velocity.numpy(), grid)
        place, lost = placed(expected, known[which], grid, alive.anchor)
        places.append(place)
        crowded += lost

    def all_of(name: str) -> jax.Array:
        return jnp.asarray(np.stack([getattr(place, name) for place in places]), jnp.float32)

    worlds = worlds._replace(
        x=all_of("x"),
        y=all_of("y"),
        cos=all_of("cos"),
        sin=all_of("sin"),
        speed=all_of("speed"),
        active=jnp.asarray(np.stack([place.active for place in places])),
    )
    return driving.settle(alive.network, worlds), np.stack([place.missing for place in places]), crowded


def _last_as(moments: Moment, shown: Moment) -> Moment:
    """The moments, the last of them with everybody where the frame showed them."""
    parts = ("x", "y", "cos", "sin", "speed", "active")
    return moments._replace(
        **{name: np.concatenate([getattr(moments, name)[:-1], getattr(shown, name)[None]]) for name in parts}
    )
