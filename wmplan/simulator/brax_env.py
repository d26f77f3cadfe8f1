"""The simulator as a Brax environment: the one module that imports brax, and only when an environment is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan import bicycle
from wmplan.simulator.maps import MAPS
from wmplan.simulator.network import allowed_speed, at, pack, stack
from wmplan.simulator.populate import reset
from wmplan.simulator.traffic import State, look, step
from wmplan.simulator.truth import ego_contact

if TYPE_CHECKING:
    from brax.envs.base import Env

NEAREST = 6
"""Other road users in an observation."""
OBSERVATION = 8 + 5 * NEAREST


def make_env(kind: str = "crossing", worlds: int = 64, seed: int = 0) -> Env:
    """A `brax.envs.base.Env` over `worlds` maps of one kind; each `reset` takes one of them by its key.

    Actions are in [-1, 1]: acceleration (times 6 m/s2) and curvature (times 0.3 1/m). The reward of a step is the
    progress along the route relative to the allowed speed, minus 10 at a contact, which also ends the episode, as does
    leaving the route by 4 m.
    """
    from brax.envs.base import Env
    from brax.envs.base import State as BraxState

    class Traffic(Env):
        """One ego in reactive traffic."""

        def __init__(self) -> None:
            self.networks = stack([pack(MAPS[kind](seed + i)) for i in range(worlds)])

        def reset(self, rng: Array) -> BraxState:
            which, who = jax.random.split(rng)
            row = jax.random.randint(which, (), 0, worlds)
            state = reset(who, jax.tree.map(lambda x: x[row], self.networks))
            zero = jnp.zeros(())
            return BraxState(state, observe(state), zero, zero, {"contact": zero, "progress": zero})

        def step(self, state: BraxState, action: Array) -> BraxState:
            before: Any = state.pipeline_state
            bound = jnp.array([bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM])
            after = step(before, jnp.clip(action, -1.0, 1.0) * bound)
            contact = ego_contact(after).astype(jnp.float32)
            lost = (jnp.abs(after.lateral[0]) > 4.0).astype(jnp.float32)
            route = after.route[0]
            allowed = allowed_speed(after.network.arc[route], after.network.speeds[route], after.s[0])
            progress = jnp.minimum(after.box[0, 3] / allowed, 1.0) * jnp.cos(_heading_error(after))
            arrived = (after.s[0] > after.network.length[route] - 10.0).astype(jnp.float32)
            return state.replace(
                pipeline_state=after,
                obs=observe(after),
                reward=progress - 10.0 * contact - 5.0 * lost,
                done=jnp.maximum(jnp.maximum(contact, lost), arrived),
                metrics={"contact": contact, "progress": progress},
            )

        @property
        def observation_size(self) -> int:
            return OBSERVATION

        @property
        def action_size(self) -> int:
            return 2

        @property
        def backend(self) -> str:
            return "wmplan"

    return Traffic()


def observe(state: State) -> Float[Array, "O"]:
    """What the ego sees, in its own frame and scaled to order one: itself, its route, its light, its neighbours."""
    view = look(state)
    yaw, speed = state.box[0, 2], state.box[0, 3]
    own = jnp.stack(
        [
            speed / 15.0,
            view.desired[0] / 15.0,
            state.lateral[0] / 2.0,
            _heading_error(state),
            _heading_error(state, 10.0),
            _heading_error(state, 20.0),
            jnp.where(view.halt[0], 1.0 - jnp.minimum(view.to_line[0], 50.0) / 50.0, 0.0),
            1.0 - jnp.minimum(view.gap[0], 50.0) / 50.0,
        ]
    )
    between = state.box[1:, :2] - state.box[:1, :2]
    distance = jnp.where(state.active[1:], jnp.linalg.norm(between, axis=-1), 1e3)
    nearest = jnp.argsort(distance)[:NEAREST]
    c, s = jnp.cos(yaw), jnp.sin(yaw)
    near = between[nearest]
    turn = state.box[1:, 2][nearest] - yaw
    rows = jnp.stack(
        [
            (c * near[:, 0] + s * near[:, 1]) / 30.0,
            (-s * near[:, 0] + c * near[:, 1]) / 30.0,
            state.box[1:, 3][nearest] * jnp.cos(turn) / 15.0,
            state.box[1:, 3][nearest] * jnp.sin(turn) / 15.0,
            jnp.ones(NEAREST),
        ],
        axis=-1,
    )
    seen = (distance[nearest] < 60.0)[:, None]
    return jnp.concatenate([own, jnp.where(seen, rows, 0.0).reshape(-1)])


def _heading_error(state: State, ahead: float = 0.0) -> Float[Array, ""]:
    """Direction of the route `ahead` metres on, relative to the ego's heading, rad."""
    polyline, arc = state.network.points[state.route[0]], state.network.arc[state.route[0]]
    way = at(polyline, arc, state.s[0] + ahead + 1.0) - at(polyline, arc, state.s[0] + ahead - 1.0)
    error = jnp.arctan2(way[1], way[0]) - state.box[0, 2]
    return jnp.arctan2(jnp.sin(error), jnp.cos(error))
