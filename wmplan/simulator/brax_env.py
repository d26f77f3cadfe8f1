"""The simulator as a Brax environment: the one module that imports brax, and only when an environment is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from wmplan import bicycle
from wmplan.simulator.contacts import Boxes, touching
from wmplan.simulator.maps import MAPS
from wmplan.simulator.network import Network, stack
from wmplan.simulator.packing import pack
from wmplan.simulator.perception import look, place
from wmplan.simulator.populate import reset
from wmplan.simulator.state import State
from wmplan.simulator.traffic import alone, pose

if TYPE_CHECKING:
    from brax.envs.base import Env

NEAREST = 6
"""Other road users in an observation."""
OBSERVATION = 11 + 5 * NEAREST


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
            self.network = stack([pack(MAPS[kind](seed + i)) for i in range(worlds)])

        def reset(self, rng: Array) -> BraxState:
            which, who = jax.random.split(rng)
            road = jax.random.randint(which, (1,), 0, worlds)
            state = jax.tree.map(lambda leaf: leaf[0], reset(self.network, road, who[None]))
            zero = jnp.zeros(())
            return BraxState(state, observe(self.network, state), zero, zero, {"contact": zero, "progress": zero})

        def step(self, state: BraxState, action: Array) -> BraxState:
            before: Any = state.pipeline_state
            bound = jnp.array([bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM])
            after = alone(self.network, before, jnp.clip(action, -1.0, 1.0) * bound)
            contact = ego_contact(after).astype(jnp.float32)
            lost = (jnp.abs(after.lateral[0]) > 4.0).astype(jnp.float32)
            progress = jnp.clip((after.s[0] - before.s[0]) / (0.1 * _allowed(self.network, after)), -1.0, 1.0)
            end = self.network.length[after.road, after.route[0]]
            arrived = (after.s[0] > end - 10.0).astype(jnp.float32)
            return state.replace(
                pipeline_state=after,
                obs=observe(self.network, after),
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


def ego_contact(state: State) -> Bool[Array, ""]:
    """Whether the ego's box touches that of any other row on the road."""
    boxes = Boxes(state.x, state.y, state.cos, state.sin, 0.5 * state.length, 0.5 * state.width)
    ego = Boxes(*(jnp.broadcast_to(field[0], field.shape) for field in boxes))
    others = state.active & (jnp.arange(state.x.shape[0]) > 0)
    return jnp.any(touching(ego, boxes) & others)


def observe(network: Network, state: State) -> Float[Array, "O"]:
    """What the ego sees, in its own frame and scaled to order one: itself, its route and the lanes beside it, its
    light, its neighbours."""
    view = look(network, state)
    route = state.route[0]
    end = network.length[state.road, route] - state.s[0]
    line = jnp.where(network.dead_end[state.road, route], view.to_line[0], end)
    own = jnp.stack(
        [
            state.speed[0] / 15.0,
            view.desired[0] / 15.0,
            state.lateral[0] / 2.0,
            _heading_error(network, state),
            _heading_error(network, state, 10.0),
            _heading_error(network, state, 20.0),
            jnp.where(view.halt[0], 1.0 - jnp.clip(view.to_line[0], 0.0, 50.0) / 50.0, 0.0),
            1.0 - jnp.clip(view.gap[0], 0.0, 50.0) / 50.0,
            (network.left[state.road, route] >= 0).astype(jnp.float32),
            (network.right[state.road, route] >= 0).astype(jnp.float32),
            1.0 - jnp.clip(line, 0.0, 100.0) / 100.0,
        ]
    )
    x, y = state.x[1:] - state.x[0], state.y[1:] - state.y[0]
    distance = jnp.where(state.active[1:], jnp.hypot(x, y), 1e3)
    _, nearest = jax.lax.top_k(-distance, NEAREST)
    c, s = state.cos[0], state.sin[0]
    near_x, near_y, speed = x[nearest], y[nearest], state.speed[1:][nearest]
    their_c, their_s = state.cos[1:][nearest], state.sin[1:][nearest]
    rows = jnp.stack(
        [
            (c * near_x + s * near_y) / 30.0,
            (c * near_y - s * near_x) / 30.0,
            speed * (their_c * c + their_s * s) / 15.0,
            speed * (their_s * c - their_c * s) / 15.0,
            jnp.ones(NEAREST),
        ],
        axis=-1,
    )
    seen = (distance[nearest] < 60.0)[:, None]
    return jnp.concatenate([own, jnp.where(seen, rows, 0.0).reshape(-1)])


def _heading_error(network: Network, state: State, ahead: float = 0.0) -> Float[Array, ""]:
    """Direction of the route `ahead` metres on, relative to the ego's heading, rad."""
    zero = jnp.zeros(())
    _, _, cos, sin = pose(network, state.road, state.route[0], state.s[0] + ahead, zero, zero)
    c, s = state.cos[0], state.sin[0]
    return jnp.arctan2(sin * c - cos * s, cos * c + sin * s)


def _allowed(network: Network, state: State) -> Float[Array, ""]:
    """The speed that the ego's route allows where it is, m/s."""
    return network.limit[state.road, state.route[0], place(network, state)[0]]
