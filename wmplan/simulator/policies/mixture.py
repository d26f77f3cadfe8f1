"""Behaviour with known propensities: one of several noisy drivers at the wheel, each decision held, its density known.

A component is drawn for the log's first seconds and anew at the moment t0 of its scene (`mixture`), or one for the
whole log (`mixture_per_log`). A decision, an acceleration and a curvature, is drawn every `hold` steps and then held:
the acceleration as it is, the curvature as the difference from the arc back to the lane's middle
(`wmplan.simulator.choices`), so that the car keeps to its lane while it holds. What is held follows from the decision
and from what is seen, so the density of a whole drive is the product of the densities of its decisions: there are
densities at decisions only, and a target policy is one that decides as often and holds as well. Sixteen decisions in
8 s leave importance weights a chance that eighty would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy import ndarray

from wmplan import bicycle
from wmplan.errors import InputError
from wmplan.scene import HISTORY_STEPS
from wmplan.simulator.policies.graded import IDM, graded
from wmplan.simulator.policies.protocol import Policy, Situation, WithDensity
from wmplan.simulator.policies.shaky import Shaky

HOLD_STEPS = 5
"""Steps between decisions of the mixture: half a second."""
ACCEL_MPS2, ASIDE_MPS2 = 0.8, 0.3
"""Standard deviations of its drivers' decisions, along and across."""
COMPONENTS = {"idm_timid": 0.2, "idm_normal": 0.3, "idm_brisk": 0.3, "idm_hurried": 0.2}
"""Its drivers, and how often each is at the wheel."""
PER_LOG = "mixture_per_log"
"""The same drivers, of whom one drives a whole log."""


@dataclass(frozen=True)
class Mixture:
    """Policies of one class, of which one drives, drawn by `weights` (which sum to one) at a log's beginning and anew,
    whoever drove before, at each of the steps `redrawn`; decisions are held for `hold` steps.

    What follows a draw is independent of all decisions before it but for the situation that they led to. So a scene
    whose t0 is such a step has the prior weights there: its importance weights for one of the components are at most
    one over that component's weight.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    policies: tuple[Policy, ...]
    hold: int
    redrawn: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.weights) == len(self.policies) or not self.names:
            raise ValueError("Mixture: expected as many names and weights as policies, one at least")
        if len({type(policy) for policy in self.policies}) > 1:
            raise ValueError("Mixture.policies: expected policies of one class")
        if abs(sum(self.weights) - 1.0) > 1e-9 or min(self.weights) <= 0.0 or self.hold < 1:
            raise ValueError(
                f"Mixture: weights {self.weights}, hold {self.hold}, expected a sum of one, one step or more"
            )

        if any(step % self.hold or step <= 0 for step in self.redrawn) or list(self.redrawn) != sorted(self.redrawn):
            raise ValueError("Mixture.redrawn: expected rising multiples of hold")

    @property
    def has_density(self) -> bool:
        """Whether every component's decisions have a density."""
        return all(isinstance(policy, WithDensity) and not policy.deterministic for policy in self.policies)

    @cached_property
    def stacked(self) -> Policy:
        """The components as one policy with an axis of components."""
        several: Policy = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *self.policies)
        return several


def named(name: str) -> Mixture:
    """The behaviour of this name: `mixture`, `mixture_per_log`, or a policy of `wmplan.simulator.policies.graded` that
    is not learned, which decides at each step.

    Raises:
        InputError: there is none.
    """
    if name in ("mixture", PER_LOG):
        redrawn = (HISTORY_STEPS,) if name == "mixture" else ()
        drivers = tuple(Shaky(IDM[driver], ACCEL_MPS2, ASIDE_MPS2) for driver in COMPONENTS)
        return Mixture(tuple(COMPONENTS), tuple(COMPONENTS.values()), drivers, HOLD_STEPS, redrawn)
    policies = graded()
    if name not in policies:
        raise InputError(f"behaviour is {name!r}, expected explore, mixture, {PER_LOG}, {', '.join(policies)}")
    return Mixture((name,), (1.0,), (policies[name],), 1)


def draw(weights: tuple[float, ...], keys: Array) -> Int[Array, "B"]:
    """Which component drives, for each key."""
    edges = jnp.asarray(np.cumsum(weights)[:-1], dtype=jnp.float32)
    return jax.vmap(lambda key: jnp.sum(jax.random.uniform(key) >= edges, dtype=jnp.int32))(keys)


def decide(policies: Policy, situation: Situation, keys: Array) -> Float[Array, "B 2"]:
    """What the own policy of each world (an axis of worlds on each leaf) decides, drawn with the own key of each."""

    def one(policy: Policy, rows: Situation, key: Array) -> Float[Array, "2"]:
        alone = jax.tree.map(lambda leaf: leaf[None], (rows.worlds, rows.observed, rows.seen))
        return policy.act(Situation(situation.network, *alone), key)[0]

    axes = Situation(None, 0, 0, 0)  # type: ignore[arg-type]
    actions = jax.vmap(one, in_axes=(0, axes, 0))(policies, situation, keys)
    # Rounding must not carry a cut law's draw over its edge, where there is no density.
    bound = jnp.array([[bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM]])
    return jnp.clip(actions, -bound, bound)


@partial(jax.jit, static_argnames="components")
def each_density(
    policies: Policy, components: int, situation: Situation, actions: Float[Array, "N 2"]
) -> Float[Array, "M N"]:
    """The logarithm of each component's density at decisions, per m/s2 and per 1/m; policies as `Mixture.stacked`."""

    def one(policy: Policy) -> Float[Array, "N"]:
        return cast(WithDensity, policy).log_density(situation, actions)

    each: Float[Array, "M N"] = jax.vmap(one, axis_size=components)(policies)
    return each


def sequential(
    weights: tuple[float, ...], each: Float[ndarray, "M N"]
) -> tuple[Float[ndarray, "N"], Float[ndarray, "N+1 M"]]:
    """The logarithm of the density of each decision given all before it, whoever drives, and the probability of each
    component before the first decision and after each.

    By Bayes' rule the first is `logsumexp_m(log posterior_m + each_m)`; its sum is the density of the whole drive.
    """
    prior = np.log(np.asarray(weights))[:, None]
    joint = prior + np.concatenate([np.zeros((len(weights), 1)), np.cumsum(each.astype(np.float64), axis=1)], axis=1)
    with np.errstate(invalid="ignore"):
        most = joint.max(axis=0)
        share = np.exp(joint - most)
        total = share.sum(axis=0)
        drive = most + np.log(total)
        return np.diff(drive), (share / total).T


def log_densities(behaviour: Mixture, steps: Int[ndarray, "N"], each: Float[ndarray, "M N"]) -> Float[ndarray, "N"]:
    """The logarithm of the density of each decision of a log (made at `steps` of it) given all before it, whoever
    drives: `sequential` from each draw of a component to the next."""
    edges = np.searchsorted(steps, behaviour.redrawn)
    return np.concatenate([sequential(behaviour.weights, part)[0] for part in np.split(each, edges, axis=1)])
