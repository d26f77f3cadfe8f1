"""PPO on the simulator, by brax: the one module that imports `brax.training`, and only when somebody trains."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmplan.simulator.brax_env import together
from wmplan.simulator.policies.learned import Learned
from wmplan.simulator.task import EPISODE_STEPS


@dataclass(frozen=True)
class Ppo:
    """How PPO is trained."""

    steps: int = 12_000_000
    """steps of a world, all worlds together"""
    worlds: int = 512
    """worlds that are driven at once"""
    hold: int = 4
    """steps that a choice is held in training, so that exploring moves the car instead of shaking it"""
    unroll: int = 10
    """choices of a piece of drive"""
    pieces: int = 64
    """pieces in a minibatch"""
    minibatches: int = 8
    """minibatches of an update"""
    passes: int = 4
    """times that an update goes through its data"""
    rate: float = 6e-4
    """Adam's"""
    discount: float = 0.94
    """from one choice to the next"""
    trace: float = 0.95
    """lambda of the generalised advantages"""
    entropy: float = 5e-3
    """weight of the entropy"""
    clip: float = 0.2
    """of the ratio of densities"""
    hidden: int = 64
    """width of the two hidden layers, the policy's and the value's"""
    seed: int = 0
    """of the network and the draws"""


Look = Callable[[int, Learned], None]


def train(environment: Any, how: Ppo, looks: int, look: Look) -> Learned:
    """The policy after all steps. `look` is called with the steps so far and the policy, before the first step and
    `looks` times at equal distances."""
    from brax.training.agents.ppo import networks
    from brax.training.agents.ppo import train as ppo

    latest: list[Learned] = []

    def after(steps: int, _: Any, parameters: Any) -> None:
        latest[:] = [learned(parameters)]
        look(int(steps), latest[0])

    ppo.train(
        environment=environment,
        wrap_env_fn=together,
        num_timesteps=how.steps,
        episode_length=EPISODE_STEPS,
        num_envs=how.worlds,
        action_repeat=how.hold,
        unroll_length=how.unroll,
        batch_size=how.pieces,
        num_minibatches=how.minibatches,
        num_updates_per_batch=how.passes,
        learning_rate=how.rate,
        discounting=how.discount,
        gae_lambda=how.trace,
        entropy_cost=how.entropy,
        clipping_epsilon=how.clip,
        max_grad_norm=1.0,
        normalize_observations=True,
        network_factory=functools.partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=(how.hidden,) * 2,
            value_hidden_layer_sizes=(how.hidden,) * 2,
        ),
        seed=how.seed,
        num_evals=looks + 1,
        run_evals=False,
        policy_params_fn=after,
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
