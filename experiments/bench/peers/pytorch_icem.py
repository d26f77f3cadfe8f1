"""pytorch_icem: iCEM of the University of Michigan's ARM lab."""

from __future__ import annotations

import functools
import unittest.mock
import warnings
from typing import Any

import colorednoise
import numpy as np
import torch
from numpy import ndarray
from pytorch_icem import iCEM, icem

from experiments.bench.peers.peer import ROUNDS, Entry, Planner, elites
from experiments.bench.planning_task import HIGH, LOW, STD, STEPS, stage, torch_step


def entries() -> list[Entry]:
    """Exponent 2, a tenth of the old mean, 4 of 64 elites kept; the cheapest sample of the last round is the plan."""
    return [Entry("pytorch_icem", "CEM", "torch", _planner, "red noise, best sample of the last round")]


class _Kept(iCEM):
    """Keeps the cheapest sample, which `command` gives only the first action of, and can be seeded."""

    cheapest: Any = None
    generator: Any = None

    def sample_action_sequences(self, state: Any, N: int) -> Any:
        # The library has its noise drawn from a generator that nobody can seed.
        noise = functools.partial(colorednoise.powerlaw_psd_gaussian, random_state=self.generator)
        with unittest.mock.patch.object(icem.colorednoise, "powerlaw_psd_gaussian", noise):
            return super().sample_action_sequences(state, N)

    def update_distribution(self, elites: Any) -> None:
        self.cheapest = elites[0]
        super().update_distribution(elites)


def _planner(n: int) -> Planner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The constructor compares the rank of sigma with the number of controls, and so refuses more than one.
        solver = _Kept(
            _dynamics, _cost, 4, 1, sigma=torch.tensor(STD, dtype=torch.float32), num_samples=n, horizon=STEPS,
            num_elites=elites(n), elites_keep_fraction=4 / elites(n), alpha=0.1, noise_beta=2.0,
            warmup_iters=ROUNDS, online_iters=ROUNDS,
        )  # fmt: skip
    solver.nu = 2

    @torch.inference_mode()
    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        solver.generator = np.random.default_rng(seed)
        solver.reset()
        solver.command(torch.tensor(start, dtype=torch.float32), shift_nominal_trajectory=False)
        return solver.cheapest.numpy().copy()

    return plan


def _clipped(controls: Any) -> tuple[Any, Any]:
    return controls[..., 0].clamp(LOW[0], HIGH[0]), controls[..., 1].clamp(LOW[1], HIGH[1])


def _dynamics(state: Any, control: Any) -> Any:
    return torch.stack(torch_step(state.unbind(-1), *_clipped(control)), dim=-1)


def _cost(states: Any, controls: Any) -> Any:
    return stage(lambda z: torch.clamp(z, min=0.0), states.unbind(-1), *_clipped(controls)).sum(dim=-1)
