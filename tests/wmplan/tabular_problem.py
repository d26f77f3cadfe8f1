"""A small Markov decision process with short drives, whose values dynamic programming knows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from wmplan.ope.fqe import Features
from wmplan.ope.trajectories import Trajectories

STATES, ACTIONS, STEPS = 3, 2, 5
GAMMA = 0.9
MOVES = np.array(
    [
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]],
        [[0.3, 0.6, 0.1], [0.1, 0.2, 0.7]],
        [[0.5, 0.4, 0.1], [0.2, 0.2, 0.6]],
    ]
)
"""[state, action, next state]"""
PAYS = np.array([[1.0, 0.0], [-0.5, 2.0], [0.3, -1.0]])
OVER = np.array([0.0, 0.0, 0.3])
"""The chance that a drive is over after a decision in this state."""
BEGIN = np.array([0.5, 0.3, 0.2])
BEHAVIOUR = np.array([[0.6, 0.4], [0.5, 0.5], [0.4, 0.6]])
TARGET = np.array([[0.4, 0.6], [0.3, 0.7], [0.6, 0.4]])


@dataclass(frozen=True)
class Truth:
    """Q [T, S, A] and V [T, S] of a policy, and the value of a drive."""

    q: np.ndarray
    v: np.ndarray

    @property
    def value(self) -> float:
        return float(BEGIN @ self.v[0])


def solved(policy: np.ndarray) -> Truth:
    """Backward induction."""
    q, v = np.zeros((STEPS, STATES, ACTIONS)), np.zeros((STEPS + 1, STATES))
    for t in reversed(range(STEPS)):
        q[t] = PAYS + GAMMA * (1.0 - OVER)[:, None] * (MOVES @ v[t + 1])
        v[t] = (policy * q[t]).sum(1)
    return Truth(q, v[:STEPS])


@dataclass(frozen=True)
class Sample:
    """Drives with the states and actions behind them."""

    logged: Trajectories
    states: np.ndarray
    actions: np.ndarray

    def features(self, target: np.ndarray) -> Features:
        """One-hot of time, state and action, for the log's actions and for both of the target's."""
        n, steps = self.states.shape
        time = np.broadcast_to(np.arange(steps), (n, steps))
        eye = np.eye(STEPS * STATES * ACTIONS)

        def hot(actions: np.ndarray) -> np.ndarray:
            return eye[(time * STATES + self.states) * ACTIONS + actions]

        both = np.stack([hot(np.full_like(self.states, a)) for a in range(ACTIONS)], axis=2)
        return Features(hot(self.actions), both, target[self.states])


def drives(count: int, seed: int, target: np.ndarray = TARGET, behaviour: np.ndarray = BEHAVIOUR) -> Sample:
    """`count` drives of the behaviour, with the densities of both."""
    rng = np.random.default_rng(seed)
    states, actions = np.zeros((count, STEPS), int), np.zeros((count, STEPS), int)
    mask = np.ones((count, STEPS), bool)
    state, alive = rng.choice(STATES, count, p=BEGIN), np.ones(count, bool)
    for t in range(STEPS):
        states[:, t], mask[:, t] = state, alive
        actions[:, t] = (rng.random(count) < behaviour[state, 1]).astype(int)
        alive = alive & (rng.random(count) >= OVER[state])
        edges = MOVES[state, actions[:, t]].cumsum(1)
        state = np.minimum((rng.random(count)[:, None] >= edges).sum(1), STATES - 1)
    rewards = np.where(mask, PAYS[states, actions], 77.0)  # what lies behind the end must not count
    logged = Trajectories(
        "target",
        tuple(f"s{i}" for i in range(count)),
        rewards,
        mask,
        np.log(behaviour[states, actions]),
        np.log(target[states, actions]),
        discount=GAMMA,
    )
    return Sample(logged, states, actions)


def every_drive_value(policy: np.ndarray) -> float:
    """The value by listing every drive: what backward induction must say, by other means."""
    total = 0.0
    for length in range(1, STEPS + 1):
        for path in product(range(STATES), repeat=length):
            for choices in product(range(ACTIONS), repeat=length):
                chance = BEGIN[path[0]]
                for t, (s, a) in enumerate(zip(path, choices)):
                    chance *= policy[s, a]
                    if t + 1 < length:
                        chance *= (1.0 - OVER[s]) * MOVES[s, a, path[t + 1]]
                total += chance * GAMMA ** (length - 1) * PAYS[path[-1], choices[-1]]
    return float(total)
