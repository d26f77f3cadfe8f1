"""PPO on the simulator, by brax: the one module that imports `brax.training`, and only when somebody trains."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmplan.errors import InputError
from wmplan.scene import STEP_S
from wmplan.simulator.brax_env import together
from wmplan.simulator.policies.learned import Learned
from wmplan.simulator.task import EPISODE_STEPS


@dataclass(frozen=True)
class Ppo:
    """How PPO is trained: in phases, each going on from the weights of the one before; the shipped policies in one."""

    steps: int = 12_000_000
    """steps of a world, all worlds and phases together"""
    worlds: int = 512
    """worlds that are driven at once"""
    shares: tuple[float, ...] = (1.0,)
    """of the steps, a phase each"""
    hold: tuple[int, ...] = (4,)
    """steps that a choice is held in each phase, so that exploring moves the car instead of shaking it"""
    rate: tuple[float, ...] = (6e-4,)
    """Adam's"""
    entropy: tuple[float, ...] = (5e-3,)
    """weight of the entropy"""
    piece_s: float = 4.0
    """seconds of a piece of drive"""
    pieces: int = 64
    """pieces in a minibatch"""
    minibatches: int = 8
    """minibatches of an update"""
    passes: int = 4
    """times that an update goes through its data"""
    discount: float = 0.8567
    """from one second to the next; 0.94 from one choice to the next"""
    trace: float = 0.95
    """lambda of the generalised advantages, from one choice to the next"""
    promise: float = 0.0
    """seconds at the allowed speed that the potential `wmplan.simulator.promise` is worth"""
    clip: float = 0.2
    """of the ratio of densities"""
    hidden: int = 64
    """width of the two hidden layers, the policy's and the value's"""
    seed: int = 0
    """of the network and the draws"""


Look = Callable[[int, Learned], None]


def train(environment: Any, how: Ppo, looks: int, look: Look, wrap: Callable[..., Any] = together) -> Learned:
    """The policy after all steps. `look` is called with the steps so far and the policy, before the first step and
    about `looks` times at equal distances in each phase, at least once in each. `wrap` is what brax steps.

    Raises:
        InputError: not one hold, rate and entropy for each phase.
    """
    phases = len(how.shares)
    for name in ("hold", "rate", "entropy"):
        if len(getattr(how, name)) != phases:
            raise InputError(f"ppo.{name}: {len(getattr(how, name))} values, expected {phases}, one for each of shares")
    weights: Any = None
    done = 0
    for phase in range(phases):
        share = how.shares[phase] / sum(how.shares)
        often = max(round(looks * share), 1)
        weights, steps = _phase(environment, wrap, how, phase, share, weights, often, done, look)
        done += steps
    return learned(weights)


def _phase(
    environment: Any,
    wrap: Callable[..., Any],
    how: Ppo,
    phase: int,
    share: float,
    weights: Any,
    looks: int,
    done: int,
    look: Look,
) -> tuple[Any, int]:
    """Brax's parameters after a phase, and the steps that it took."""
    from brax.training.agents.ppo import networks
    from brax.training.agents.ppo import train as ppo

    latest: list[tuple[Any, int]] = []

    def after(steps: int, _: Any, parameters: Any) -> None:
        latest[:] = [(parameters, int(steps))]
        if steps > 0 or done == 0:
            look(done + int(steps), learned(parameters))

    choice_s = how.hold[phase] * STEP_S
    discount = how.discount**choice_s
    ppo.train(
        environment=environment,
        wrap_env_fn=functools.partial(wrap, promise=how.promise, discount=discount),
        num_timesteps=round(how.steps * share),
        episode_length=EPISODE_STEPS,
        num_envs=how.worlds,
        action_repeat=how.hold[phase],
        unroll_length=max(round(how.piece_s / choice_s), 1),
        batch_size=how.pieces,
        num_minibatches=how.minibatches,
        num_updates_per_batch=how.passes,
        learning_rate=how.rate[phase],
        discounting=discount,
        gae_lambda=how.trace,
        entropy_cost=how.entropy[phase],
        clipping_epsilon=how.clip,
        max_grad_norm=1.0,
        normalize_observations=True,
        network_factory=functools.partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=(how.hidden,) * 2,
            value_hidden_layer_sizes=(how.hidden,) * 2,
        ),
        seed=how.seed + phase,
        num_evals=looks + 1,
        run_evals=False,
        policy_params_fn=after,
        restore_params=weights,
    )
    return latest[0]


def learned(parameters: Any) -> Learned:
    """The policy with brax's parameters: normaliser, policy network, value network."""
    normaliser, policy, _ = parameters
    layers = [layer for _, layer in sorted(policy["params"].items())]
    return Learned(
        np.asarray(normaliser.mean),
        np.asarray(normaliser.std),
        tuple(np.asarray(layer["kernel"]) for layer in layers),
        tuple(np.asarray(layer["bias"]) for layer in layers),
        np.zeros((), np.float32),
    )
