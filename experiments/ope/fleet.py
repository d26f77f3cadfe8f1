"""Many policies at the wheel of as many worlds, as one function that is compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from experiments.ope.held import going_on, rhythm_of
from wmplan.randomness import fold_in
from wmplan.simulator.policies.protocol import Policy, Situation
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Observed


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Fleet:
    """P policies, those of one class and shape stacked (an axis of policies on each leaf); each drives `draws` worlds,
    which follow each other in a batch of P x `draws`, policies in the order of `names`."""

    stacks: tuple[Policy, ...]
    names: tuple[str, ...] = field(metadata={"static": True})
    sizes: tuple[int, ...] = field(metadata={"static": True})
    draws: int = field(metadata={"static": True})
    rhythms: tuple[int, ...] = field(metadata={"static": True})
    """steps from one decision to the next, of each policy"""

    @staticmethod
    def of(policies: Mapping[str, Policy], draws: int) -> Fleet:
        """The fleet of these policies, in an order of its own."""
        alike: dict[object, list[str]] = {}
        for name, policy in policies.items():
            shapes = tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(policy))
            alike.setdefault((jax.tree.structure(policy), shapes), []).append(name)
        stacks = []
        for names in alike.values():
            several = [policies[name] for name in names]
            stacks.append(jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *several))
        groups = list(alike.values())
        order = tuple(name for names in groups for name in names)
        rhythms = tuple(rhythm_of(policies[name]) for name in order)
        return Fleet(tuple(stacks), order, tuple(map(len, groups)), draws, rhythms)

    def __len__(self) -> int:
        return len(self.names)

    def keys(self, scene_id: str, seed: int) -> Array:
        """A key for each policy: what it draws does not depend on who else is in the fleet."""
        return jnp.stack([jax.random.key(fold_in(seed, "drive", scene_id, name) % 2**32) for name in self.names])

    def act(self, situation: Situation, keys: Array) -> Float[Array, "B 2"]:
        """What each policy does in each of its worlds."""
        first, found = 0, []
        for stack, size in zip(self.stacks, self.sizes):
            rows = slice(first * self.draws, (first + size) * self.draws)
            mine = jax.tree.map(
                lambda leaf, rows=rows, size=size: leaf[rows].reshape(size, self.draws, *leaf.shape[1:]),
                (situation.worlds, situation.observed, situation.seen),
            )

            def one(policy: Policy, part: tuple[State, Observed, Array], key: Array) -> Array:
                return policy.act(Situation(situation.network, *part), key)

            acted = jax.vmap(one, axis_size=size)(stack, mine, keys[first : first + size])
            found.append(acted.reshape(size * self.draws, 2))
            first += size
        return jnp.concatenate(found)

    def drive(
        self, situation: Situation, keys: Array, step: Array, held: Float[Array, "B 2"]
    ) -> tuple[Float[Array, "B 2"], Float[Array, "B 2"]]:
        """What each does at a step of its drive, and what is held then: whoever decides less often holds its last
        decision. At step 0 everyone decides."""
        fresh = self.act(situation, keys)
        if max(self.rhythms) == 1:
            return fresh, held
        rhythms = jnp.repeat(jnp.asarray(self.rhythms), self.draws)
        return going_on(situation, fresh, held, (step % rhythms == 0)[:, None])
