"""A whole plan as one program, where vehicle and critic are JAX functions: the samplers' own draw and learn, no copy.

Candidates are innermost; rounds and time are scanned, not unrolled; random numbers are threefry's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt32
from numpy import ndarray

from optimizers.refine import Refine, refined
from optimizers.rollout import Rollout, StageCost, WholeCost, roll
from optimizers.sampler import FINAL_LABELS, Sampler, last_three
from wmplan.plans import Start
from wmplan.randomness import fold_in
from wmplan.risk import MEAN, Risk


class PlanResult(NamedTuple):
    """A plan with what led to it; a pytree, so scenes can be mapped. F is mean, best sample, nominal (`FINAL_LABELS`).

    `states` has one array `(T + 1,)` a quantity of the vehicle. `cost` is the plan's own: that of `controls` rolled and
    priced again. `refined_costs` are the finalists' after gradient steps, equal to `finalist_costs` where there are
    none. Of each round R: standard deviation after it, cheapest cost so far, effective sample size, and how many costs
    were not finite. `found` is False, and the cost +inf, where nothing had a finite cost: there is no plan. `search` is
    where the next replan goes on from.
    """

    controls: Float[Array, "*B T U"]
    states: tuple[Array, ...]
    cost: Float[Array, "*B"]
    chosen: Int32[Array, "*B"]
    found: Bool[Array, "*B"]
    finalist_costs: Float[Array, "*B F"]
    refined_costs: Float[Array, "*B F"]
    std: Float[Array, "*B R T U"]
    best_costs: Float[Array, "*B R"]
    effective_samples: Float[Array, "*B R"]
    nonfinite: Int32[Array, "*B R"]
    evaluations: Int32[Array, "*B"]
    search: Any

    def label(self) -> str:
        """What the plan is: mean, best or nominal; "no plan" where none was found. One scene only."""
        return FINAL_LABELS[int(self.chosen)] if bool(self.found) else "no plan"


Program = Callable[[UInt32[Array | ndarray, "R 2"], Any, tuple[Array, ...], Any], PlanResult]


def plan(
    sampler: Sampler, rollout: Rollout, cost: StageCost | WholeCost, key: int, start: Start, *,
    scene: Any = None, search: Any = None, risk: Risk = MEAN, refine: Refine | None = None,
) -> PlanResult:  # fmt: skip
    """The cheapest of mean, best sample and nominal after all rounds, each rolled and priced once more.

    One program, compiled once for sampler, vehicle, cost, risk and refinement; other scenes, starts and keys compile
    nothing. `key` is a seed from `fold_in`, and draws what `optimizers.loop.plan` draws with it. `search` is the warm
    state of a replan (`sampler.warm`); without it the plan starts from new. No plan is a result, not an error:
    `found` is False.

    Example:
        >>> from optimizers import Cem
        >>> from optimizers.rollout import Bicycle
        >>> price = lambda scene, t, state, control: (state[3] - scene) ** 2
        >>> route = np.stack([np.arange(64.0), np.zeros(64)], axis=1).astype(np.float32)
        >>> start = Start(8.0, 0.0, 0.0, 4.8, 2.0, 10.0, route)
        >>> found = plan(Cem(), Bicycle(), StageCost(price), 7, start, scene=10.0)
        >>> found.label(), abs(float(found.states[3][-1]) - 10.0) < 0.5
        ('best', True)

    Raises:
        InputError: if the start is unusable.
    """
    state = sampler.init(key, start) if search is None else search
    first = tuple(jnp.asarray(value, jnp.float32) for value in rollout.first(start))
    return program(sampler, rollout, cost, risk, refine)(round_keys(sampler, key), state, first, scene)


def plan_scenes(
    sampler: Sampler, rollout: Rollout, cost: StageCost | WholeCost, keys: UInt32[ndarray, "B R 2"], searches: Any,
    firsts: tuple[Array, ...], scenes: Any, *, risk: Risk = MEAN, refine: Refine | None = None,
) -> PlanResult:  # fmt: skip
    """The plans of B scenes, each the same as alone; scenes one after the other in one program, memory that of one.

    Every argument has a leading axis of scenes (`jax.tree.map(jnp.stack, ...)`); see `program` for what they are.
    """
    return many(sampler, rollout, cost, risk, refine)(jnp.asarray(keys), searches, firsts, scenes)


def round_keys(sampler: Sampler, key: int) -> UInt32[ndarray, "R 2"]:
    """The keys of a plan's rounds as two words each, those that the ask/tell loop folds from the same seed."""
    seeds = [fold_in(key, "ask", round_) for round_ in range(sampler.rounds)]
    return np.array([(seed >> 32, seed & 0xFFFFFFFF) for seed in seeds], dtype=np.uint32)


@functools.lru_cache(maxsize=64)
def program(
    sampler: Sampler, rollout: Rollout, cost: StageCost | WholeCost, risk: Risk = MEAN, refine: Refine | None = None
) -> Program:
    """The jitted function from the rounds' keys, the sampler's state, the vehicle's first state and scene to a plan."""
    return jax.jit(functools.partial(_plan, sampler, rollout, cost, risk, refine))


@functools.lru_cache(maxsize=64)
def many(
    sampler: Sampler, rollout: Rollout, cost: StageCost | WholeCost, risk: Risk = MEAN, refine: Refine | None = None
) -> Program:
    """`program` with a leading axis of scenes in all arguments and results."""
    one = functools.partial(_plan, sampler, rollout, cost, risk, refine)
    return jax.jit(lambda *scenes: jax.lax.map(lambda scene: one(*scene), scenes))


def _plan(
    sampler: Sampler, rollout: Rollout, cost: StageCost | WholeCost, risk: Risk, refine: Refine | None,
    keys: UInt32[Array, "R 2"], search: Any, first: tuple[Array, ...], scene: Any,
) -> PlanResult:  # fmt: skip
    def round_(k: int, state: Any, words: UInt32[Array, "2"]) -> tuple[Any, tuple]:
        key = jax.random.wrap_key_data(words, impl="threefry2x32")
        rolled = roll(rollout, cost, risk, first, scene, sampler.draw(k, key, state))
        state = sampler.learn(state, rolled.controls, rolled.costs)
        broken = (~jnp.isfinite(rolled.costs)).sum()
        return state, (state.std, state.best_cost, state.effective_samples, broken.astype(jnp.int32))

    sizes = sampler.round_sizes()
    if len(set(sizes)) == 1 < len(sizes):
        search, logs = jax.lax.scan(functools.partial(round_, sizes[0]), search, keys)
    else:
        # Rounds of different sizes have different shapes, so they stand one after the other.
        each = []
        for i, k in enumerate(sizes):
            search, log = round_(k, search, keys[i])
            each.append(log)
        logs = jax.tree.map(lambda *parts: jnp.stack(parts), *each)
    rolled = roll(rollout, cost, risk, first, scene, last_three(search), keep_states=True)
    finalist_costs = rolled.costs
    steps, extra = sampler.horizon_steps, len(FINAL_LABELS)
    if refine is not None:
        rolled = refined(refine, rollout, cost, risk, first, scene, rolled, search.first_std)
        extra *= refine.steps + 2
    row = jnp.argmin(rolled.costs)
    return PlanResult(
        controls=rolled.controls[:, :, row],
        states=tuple(values[:, row] for values in rolled.states),
        cost=rolled.costs[row],
        chosen=row.astype(jnp.int32),
        found=jnp.isfinite(rolled.costs[row]),
        finalist_costs=finalist_costs,
        refined_costs=rolled.costs,
        std=logs[0],
        best_costs=logs[1],
        effective_samples=logs[2],
        nonfinite=logs[3],
        evaluations=jnp.int32((sum(sizes) + extra) * steps),
        search=search,
    )
