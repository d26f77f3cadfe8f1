"""stable-worldmodel: its CEM, iCEM and MPPI solvers over a model that is the task's cost."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import sys
import types
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from experiments.bench.peers.peer import ROUNDS, Entry, Planner, elites
from experiments.bench.planning_task import STD, STEPS, torch_costs


def entries() -> list[Entry]:
    """In units of the first standard deviation, bounds in the cost; iCEM returns its best sample, as in its paper."""
    return [
        Entry("stable-worldmodel CEM", "CEM", "torch", functools.partial(_planner, "cem"), "white noise, elite mean"),
        Entry("stable-worldmodel iCEM", "CEM", "torch", functools.partial(_planner, "icem"), "red noise, best sample"),
        Entry("stable-worldmodel MPPI", "MPPI", "torch", functools.partial(_planner, "mppi"), "all samples weigh"),
    ]


class _Task:
    """The task as a world model that can be priced."""

    start: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    scale = torch.tensor(STD, dtype=torch.float32)

    def get_cost(self, info: Any, candidates: Any) -> Any:
        return torch_costs(self.start, candidates[0] * self.scale)[None]

    criterion = get_cost


def _planner(kind: str, n: int) -> Planner:
    model, solver = _Task(), None
    common = {"num_samples": n, "batch_size": 1}
    if kind == "cem":
        solver = _solver("cem", "CEMSolver")(model, n_steps=ROUNDS, topk=elites(n), **common)
    elif kind == "icem":
        more = {"noise_beta": 2.0, "alpha": 0.1, "n_elite_keep": 4, "return_mean": False}
        solver = _solver("icem", "ICEMSolver")(model, n_steps=ROUNDS, topk=elites(n), **common, **more)
    else:
        solver = _solver("mppi", "MPPISolver")(model, n_steps=1, topk=n, temperature=1.0, **common)
    _configure(solver)
    last: list[Any] = [None]
    info = {"state": torch.zeros(1, 1)}

    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        model.start = start
        solver.torch_gen.manual_seed(seed)
        before = None if fresh or kind != "mppi" else last[0]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a line a plan
            last[0] = solver.solve(info, before)["actions"]
        return (last[0][0] * model.scale).numpy()

    return plan


def _solver(module: str, name: str) -> Any:
    """The solver's class, past the package's own `__init__`, which loads environments and video."""
    package = "stable_worldmodel"
    if package not in sys.modules:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError(f"{package} is not installed")
        stub = types.ModuleType(package)
        stub.__path__ = list(spec.submodule_search_locations)
        sys.modules[package] = stub
    return getattr(importlib.import_module(f"{package}.solver.{module}"), name)


def _configure(solver: Any) -> None:
    from gymnasium.spaces import Box

    space = Box(-np.inf, np.inf, (1, 2), np.float32)
    solver.configure(action_space=space, n_envs=1, config=types.SimpleNamespace(horizon=STEPS, action_block=1))
