"""The floor of eager torch: CEM and MPPI written out, no library around them."""

from __future__ import annotations

import numpy as np
import torch
from numpy import ndarray

from experiments.bench.peers.peer import ROUNDS, Entry, Planner, elites
from experiments.bench.planning_task import STD, STEPS, torch_costs


def entries() -> list[Entry]:
    """CEM and MPPI."""
    return [
        Entry("plain torch CEM", "CEM", "torch", _cem, "white noise, elite mean"),
        Entry("plain torch MPPI", "MPPI", "torch", _mppi, "white noise, temperature 1"),
    ]


def _cem(n: int) -> Planner:
    first = torch.tensor(np.tile(STD, (STEPS, 1)), dtype=torch.float32)

    @torch.inference_mode()
    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        generator = torch.Generator().manual_seed(seed)
        mean, std = torch.zeros(STEPS, 2), first
        for _ in range(ROUNDS):
            controls = mean + std * torch.randn(n, STEPS, 2, generator=generator)
            controls[0] = mean
            best = controls[torch.topk(torch_costs(start, controls), elites(n), largest=False).indices]
            mean, std = best.mean(dim=0), best.std(dim=0, correction=0)
        return mean.numpy()

    return plan


def _mppi(n: int) -> Planner:
    std = torch.tensor(STD, dtype=torch.float32)
    mean = [torch.zeros(STEPS, 2)]

    @torch.inference_mode()
    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        generator = torch.Generator().manual_seed(seed)
        before = torch.zeros(STEPS, 2) if fresh else mean[0]
        controls = before + std * torch.randn(n, STEPS, 2, generator=generator)
        weights = torch.softmax(-torch_costs(start, controls), dim=0)
        mean[0] = torch.einsum("k,ktu->tu", weights, controls)
        return mean[0].numpy()

    return plan
