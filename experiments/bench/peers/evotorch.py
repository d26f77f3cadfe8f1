"""evotorch: the functional cross-entropy method."""

from __future__ import annotations

import numpy as np
import torch
from evotorch.algorithms.functional import cem, cem_ask, cem_tell
from numpy import ndarray

from experiments.bench.peers.peer import ROUNDS, Entry, Planner, elites
from experiments.bench.planning_task import STD, STEPS, torch_costs


def entries() -> list[Entry]:
    """`cem_ask` and `cem_tell`; the centre is the plan."""
    return [Entry("evotorch cem_ask/cem_tell", "CEM", "torch", _planner, "white noise, elite mean")]


def _planner(n: int) -> Planner:
    std = torch.tensor(np.tile(STD, (STEPS, 1)).ravel(), dtype=torch.float32)

    @torch.inference_mode()
    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        torch.manual_seed(seed)  # the library draws from torch's global generator
        share = elites(n) / n
        state = cem(center_init=torch.zeros(STEPS * 2), parenthood_ratio=share, objective_sense="min", stdev_init=std)
        for _ in range(ROUNDS):
            values = cem_ask(state, popsize=n)
            state = cem_tell(state, values, torch_costs(start, values.reshape(n, STEPS, 2)))
        return state.center.reshape(STEPS, 2).numpy()

    return plan
