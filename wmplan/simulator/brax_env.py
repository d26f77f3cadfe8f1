"""The simulator as a Brax environment: the one module that imports brax's environments, and only when one is asked for.

`make_env` gives a `brax.envs.base.Env`, on which `brax.training` trains as on any other. `together` wraps it for
training at speed, passed as `wrap_env_fn`: all worlds make a step at once, which costs half as much as each making its
own (`wmplan.simulator.traffic.go_on`), and who is over goes on in another world, where brax's own wrapper would repeat
the first one for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from wmplan.simulator import noise
from wmplan.simulator.choices import to_actions
from wmplan.simulator.ego_view import OBSERVATION, see
from wmplan.simulator.lane_change import EVERY_STEPS
from wmplan.simulator.network import Network
from wmplan.simulator.packing import Sizes
from wmplan.simulator.promise import promised
from wmplan.simulator.starts import CHUNK, EVERY_MAP, atlas, draw, settled, taken, with_ending
from wmplan.simulator.task import Seat, drive

if TYPE_CHECKING:
    from brax.envs.base import Env
    from brax.envs.base import State as BraxState

PHASE = 2 * EVERY_STEPS
"""Lane changes are considered at the same steps in all worlds, which is what makes the other steps cheap."""
STRIDE = 7919
"""From one start to the next; odd, so that it goes through all of a power of two."""


def make_env(
    kind: str = "merge",
    worlds: int = 64,
    seed: int = 0,
    sizes: Sizes = EVERY_MAP,
    starts: int = CHUNK,
    ending: float = 0.0,
) -> Env:
    """A `brax.envs.base.Env` over `worlds` maps of one kind, seeds `seed` on.

    `starts` settled worlds (a multiple of `CHUNK`) are prepared, at least a share of `ending` of them with the ego in a
    lane that ends, if there is one; a `reset` takes one by its key, which also draws the drivers' noise. Actions are
    choices in [-1, 1] (`wmplan.simulator.choices`), observations are those of `wmplan.simulator.ego_view`, rewards and
    ends those of `wmplan.simulator.task`. An episode is over when its state says `done`; brax's wrappers limit time.
    """
    from brax.envs.base import Env

    class Traffic(Env):
        """One ego in reactive traffic."""

        def __init__(self) -> None:
            self.network = atlas(kind, worlds, seed, sizes)
            self.starts = with_ending(self.network, settled(self.network, starts, seed), ending)

        def reset(self, rng: Array) -> BraxState:
            which, shake = draw(rng, starts)
            return _alone(_first(self.network, taken(self.starts, which[None], shake[None])))

        def step(self, state: BraxState, action: Array) -> BraxState:
            return _alone(_step(self.network, jax.tree.map(lambda leaf: leaf[None], state), action[None]))

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


def together(
    env: Env,
    episode_length: int,
    action_repeat: int = 1,
    randomization_fn: Any = None,
    promise: float = 0.0,
    discount: float = 1.0,
) -> Env:
    """The environment as brax trains on it (`wrap_env_fn`), all worlds in one step. The discounted change of `promise`
    times what the lanes promise (`wmplan.simulator.promise`) is added to the reward of each choice.

    References:
        Ng, Harada, Russell (1999), Policy invariance under reward transformations, theorem 1.
    """
    from brax.envs.base import Wrapper
    from brax.envs.wrappers.training import EpisodeWrapper

    network, starts = env.network, env.starts
    size = starts.worlds.steps.shape[0]

    class Together(Wrapper):
        """Steps all worlds at once."""

        def reset(self, rng: Array) -> BraxState:
            which, shake = jax.vmap(lambda key: draw(key, size))(rng)
            first = _first(network, taken(starts, which, shake))
            return first.replace(info={**first.info, "start": which, "shake": shake})

        def step(self, state: BraxState, action: Array) -> BraxState:
            return _step(network, state, action)

    class Again(Wrapper):
        """Puts another world in the place of one that is over."""

        def step(self, state: BraxState, action: Array) -> BraxState:
            steps = jnp.where(state.done > 0.0, 0.0, state.info["steps"])
            begun = state.replace(done=jnp.zeros_like(state.done), info={**state.info, "steps": steps})
            after = self.env.step(begun, action)
            return jax.lax.cond(jnp.any(after.done > 0.0), restarted, lambda state: state, after)

    class Shaped(Wrapper):
        """Adds the change of the potential, which is zero when a drive is over."""

        def step(self, state: BraxState, action: Array) -> BraxState:
            after = self.env.step(state, action)
            change = discount * (1.0 - after.done) * promised(after.obs) - promised(state.obs)
            return after.replace(reward=after.reward + promise * change)

    def restarted(state: BraxState) -> BraxState:
        over = state.done > 0.0
        start = jnp.where(over, jnp.mod(state.info["start"] + STRIDE, size), state.info["start"])
        shake = jnp.where(over, noise.mix(state.info["shake"]), state.info["shake"])
        fresh = taken(starts, start, shake)
        # As many steps as the others modulo PHASE; the lights stay as they were.
        behind = jnp.mod(state.pipeline_state.worlds.steps[0] - fresh.worlds.steps, PHASE)
        worlds = fresh.worlds._replace(steps=fresh.worlds.steps + behind, clock=fresh.worlds.clock - behind)

        def chosen(new: Array, old: Array) -> Array:
            return jnp.where(over.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

        seat = jax.tree.map(chosen, fresh._replace(worlds=worlds), state.pipeline_state)
        info = {**state.info, "start": start, "shake": shake}
        return state.replace(pipeline_state=seat, obs=see(network, *seat), info=info)

    return Again(Shaped(EpisodeWrapper(Together(env), episode_length, action_repeat)))


def _first(network: Network, seat: Seat) -> BraxState:
    """The first states of B drives."""
    from brax.envs.base import State as BraxState

    none = jnp.zeros(seat.worlds.steps.shape)
    metrics = {name: none for name in ("contact", "lost", "red", "progress")}
    return BraxState(seat, see(network, *seat), none, none, metrics)


def _step(network: Network, state: BraxState, choices: Array) -> BraxState:
    """The states of B drives one step later."""
    before: Seat = state.pipeline_state
    actions = to_actions(network, before.worlds, jnp.clip(choices, -1.0, 1.0))
    seat, brought = drive(network, before, actions)
    # Brax may repeat an action beyond the end of a drive, where nothing counts any more.
    over = state.done > 0.0
    metrics = {name: getattr(brought, name).astype(jnp.float32) for name in ("contact", "lost", "red", "progress")}
    return state.replace(
        pipeline_state=seat,
        obs=see(network, *seat),
        reward=jnp.where(over, 0.0, brought.reward),
        done=(over | brought.over).astype(jnp.float32),
        metrics={**state.metrics, **metrics},
    )


def _alone(state: BraxState) -> BraxState:
    return jax.tree.map(lambda leaf: leaf[0], state)
