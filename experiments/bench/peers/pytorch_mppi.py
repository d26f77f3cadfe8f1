"""pytorch_mppi: MPPI of the University of Michigan's ARM lab; its control cost cannot be switched off."""

from __future__ import annotations

from typing import Any

import torch
from numpy import ndarray
from pytorch_mppi import MPPI

from experiments.bench.peers.peer import Entry, Planner
from experiments.bench.planning_task import HIGH, LOW, STD, STEPS, stage, torch_step


def entries() -> list[Entry]:
    """The weighted mean, carried without a shift."""
    return [Entry("pytorch_mppi", "MPPI", "torch", _planner, "control cost always on")]


def _planner(n: int) -> Planner:
    solver = MPPI(
        _dynamics, _cost, 4, torch.diag(torch.tensor(STD**2, dtype=torch.float32)), num_samples=n, horizon=STEPS,
        lambda_=1.0, u_min=torch.tensor(LOW, dtype=torch.float32), u_max=torch.tensor(HIGH, dtype=torch.float32),
        U_init=torch.zeros(STEPS, 2),
    )  # fmt: skip

    @torch.inference_mode()
    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        torch.manual_seed(seed)  # the library draws from torch's global generator
        if fresh:
            solver.U = torch.zeros(STEPS, 2)
        solver.command(torch.tensor(start, dtype=torch.float32), shift_nominal_trajectory=False)
        return solver.U.numpy().copy()

    return plan


def _dynamics(state: Any, control: Any) -> Any:
    return torch.stack(torch_step(state.unbind(-1), *control.unbind(-1)), dim=-1)


def _cost(state: Any, control: Any) -> Any:
    return stage(lambda z: torch.clamp(z, min=0.0), state.unbind(-1), *control.unbind(-1))
