"""IDM drivers at the wheel of the ego, from timid to aggressive; with lane changes by MOBIL or without.

The models are those of the other drivers on the road (`wmplan.simulator.idm`, `lane_change`), which decide twice a
second after a delay; these decide at each step, at once, and have to steer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan import bicycle
from wmplan.simulator import behaviour, idm
from wmplan.simulator.drivers import Drivers
from wmplan.simulator.lane_change import SETTLED_M, worthwhile
from wmplan.simulator.network import Network, lookup
from wmplan.simulator.perception import View, must_halt
from wmplan.simulator.policies.protocol import Situation
from wmplan.simulator.state import State
from wmplan.simulator.traffic import pose

Number = float | Array
BEGUN_SHARE, BEGUN_MPS = 0.25, 0.1
"""Who is so many lane widths aside and moves on so fast has begun to change lanes, and goes through with it."""
LEFT, RIGHT = 1, -1


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Following:
    """An IDM driver. Sees the gap and the speed of who is ahead, lines to halt at, right of way, and, to change lanes,
    who is where in the lanes beside."""

    time_gap: Number = 1.5
    """seconds to whom it follows"""
    standstill: Number = 2.0
    """gap when standing, metres"""
    accel: Number = 1.5
    """m/s2"""
    decel: Number = 2.0
    """comfortable deceleration, m/s2"""
    speed_factor: Number = 1.0
    """wished share of the allowed speed"""
    critical_gap: Number = 4.0
    """seconds that whoever has right of way must be away"""
    politeness: Number = 0.25
    threshold: Number = 0.2
    """MOBIL's, the latter in m/s2"""
    lanes: bool = field(default=True)
    """whether it changes lanes"""

    @property
    def deterministic(self) -> bool:
        """It is."""
        return True

    def act(self, situation: Situation, key: Array) -> Float[Array, "B 2"]:
        """What IDM and MOBIL wish, steered by pure pursuit."""
        one = jax.vmap(self._one, in_axes=(None, 0, 0))
        return one(situation.network, situation.worlds, situation.observed.view)

    def tree_flatten(self) -> tuple[tuple[Number, ...], bool]:
        return tuple(getattr(self, f.name) for f in fields(self) if f.name != "lanes"), self.lanes

    @classmethod
    def tree_unflatten(cls, lanes: bool, numbers: tuple[Number, ...]) -> Following:
        made = object.__new__(cls)  # placeholders of jax are no numbers
        for f, value in zip([f for f in fields(cls) if f.name != "lanes"], numbers):
            object.__setattr__(made, f.name, value)
        object.__setattr__(made, "lanes", lanes)
        return made

    def _one(self, network: Network, state: State, view: View) -> Float[Array, "2"]:
        state, view = self._seated(network, state, view)
        me = Drivers(*(column[0] for column in state.drivers))
        speed, desired = state.speed[0], view.desired[0]
        accel = idm.acceleration(speed, speed - view.leader_speed[0], view.gap[0], desired, me)
        halt = idm.acceleration(speed, speed, view.to_line[0], desired, me)
        accel = jnp.where(view.halt[0], jnp.minimum(accel, halt), accel)
        offset = self._offset(network, state, view) if self.lanes else jnp.zeros(())
        bound = bicycle.MAX_ACCEL_MPS2
        return jnp.stack([jnp.clip(accel, -bound, bound), behaviour.steer(network, state, offset)])

    def _seated(self, network: Network, state: State, view: View) -> tuple[State, View]:
        """The world with this driver in row 0, and what it sees."""
        now = state.drivers
        mine = now._replace(
            **{name: getattr(now, name).at[0].set(getattr(self, name)) for name in now._fields if hasattr(self, name)}
        )
        state = state._replace(drivers=mine)
        desired = view.desired.at[0].multiply(mine.speed_factor[0] / now.speed_factor[0])
        halt = view.halt.at[0].set(must_halt(network, state, view.to_line)[0])
        return state, view._replace(desired=desired, halt=halt)

    def _offset(self, network: Network, state: State, view: View) -> Float[Array, ""]:
        """Where to drive (m to the left of the own lane): in a lane beside while changing to it, else in the own."""
        route, width = state.route[0], network.lane_width[state.road]
        window = network.change[state.road, route]
        aside = state.lateral[0]
        zero = jnp.zeros(())
        _, _, cos, sin = pose(network, state.road, route, state.s[0], zero, zero)
        drift = state.speed[0] * (state.sin[0] * cos - state.cos[0] * sin)
        may = (state.s[0] > window[0]) & (state.s[0] < window[1])

        def wishes(side: int) -> Array:
            beside = (network.left if side == LEFT else network.right)[state.road, route]
            lane = jnp.maximum(beside, 0)
            s = lookup(state.ego.arc, lane)
            target = jnp.where((beside >= 0) & (s > -1e3), lane, -1)
            good = worthwhile(network, state, view, jnp.zeros(1, jnp.int32), target[None], s[None])[0]
            begun = (side * aside > BEGUN_SHARE * width) & (side * drift > BEGUN_MPS) & (beside >= 0)
            return may & (begun | (good & (jnp.abs(aside) < SETTLED_M)))

        left, right = wishes(LEFT), wishes(RIGHT)
        return width * jnp.where(left, 1.0, jnp.where(right, -1.0, 0.0))
