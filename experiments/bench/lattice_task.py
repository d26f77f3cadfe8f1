"""The lattice of the benchmark: 1,024 candidates from one start, beside a polyline that all planners project onto.

References:
    `docs/optimizers.md`; the grid is that of the planning benchmark: 4 end times x 16 end speeds x 16 end offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from optimizers.axes import ABSOLUTE, Axes
from optimizers.fan import Fan, FanConfig, fan
from optimizers.lattice import Lattice, LatticeConfig
from optimizers.motion import motion_of
from wmplan.plans import ROUTE_POINTS, Start
from wmplan.scene import STEP_S

BEHIND_M = 10.0
"""Where the polyline begins, behind the ego."""


@dataclass(frozen=True)
class Task:
    """The ego at the origin with heading 0, 0.2 m left of a polyline of equally spaced points, at `speed` m/s."""

    reference: Float[ndarray, "R 2"]
    speed: float = 8.0
    steps: int = 40
    step_s: float = STEP_S
    ends_s: tuple[float, ...] = (2.5, 3.0, 3.5, 4.0)
    speeds_mps: tuple[float, ...] = tuple(np.linspace(4.0, 14.0, 16).tolist())
    offsets_m: tuple[float, ...] = tuple(np.linspace(-3.0, 3.0, 16).tolist())


def task(curvature_pm: float = 0.0) -> Task:
    """The task on a circular polyline of this curvature (1/m, left positive), straight where 0; points 1 m apart."""
    way = np.arange(ROUTE_POINTS) - BEHIND_M
    if curvature_pm == 0.0:
        return Task(np.stack([way, np.full(ROUTE_POINTS, -0.2)], axis=1))
    angle = way * curvature_pm
    return Task(np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1) / curvature_pm - np.array([0.0, 0.2]))


def optimizer(task: Task) -> tuple[Callable[[], int], Callable[[], int]]:
    """Two functions: `ask` of a `Lattice` of 1,024 candidates, and its `finalists`; each gives a number of rows."""
    made = Lattice(LatticeConfig(budget=1024, horizon_steps=task.steps))
    state = made.init(0, _start(task))
    asked = made.ask(0, state)
    # Any costs do: three finalists of different kinds are smoothed.
    costs = np.where(asked.infeasible == 0, np.random.default_rng(0).random(len(asked.infeasible)), np.inf)
    told = made.tell(state, asked.controls, costs)
    return lambda: len(made.ask(0, state).controls), lambda: len(made.finalists(told).controls)


def prepared(task: Task) -> tuple[Callable[[], int], Callable[[], Fan]]:
    """A function that makes one plan and gives the number of feasible candidates; one that gives all of the plan.

    A plan is the compiled program that `Lattice` runs, from the ego's motion to controls, paths in the plane, and six
    reasons why a candidate cannot be driven; the flags are then read on the host. The route is fitted once, here.
    """
    profiles = [(end, speed) for end in task.ends_s for speed in task.speeds_mps]
    end, speed = np.array(profiles, dtype=np.float32).T
    offsets = np.array(task.offsets_m, dtype=np.float32)
    axes = Axes(end, speed, np.full(len(end), ABSOLUTE, np.int32), offsets, np.zeros(len(offsets), bool))
    config = FanConfig(horizon_steps=task.steps)
    motion = motion_of(_start(task))

    def whole() -> Fan:
        return fan(config, motion, axes)

    def plan() -> int:
        return int((np.asarray(whole().infeasible) == 0).sum())

    return plan, whole


def _start(task: Task) -> Start:
    return Start(task.speed, 0.0, 0.0, 4.8, 2.0, 10.0, task.reference.astype(np.float32))
