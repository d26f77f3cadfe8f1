"""L4, controllability: does the commanded motion of the ego order how others respond, and in how many scenes at all?

In the scene frame "steer, and the scene shifts" is geometry and tells nothing. What is swept here is the longitudinal
command, over five values from the 5th to the 95th percentile of those in training, under one noise; the response is the
displacement at 3 s of the road user that truly responds most, along its true response to the whole range, so that the
true response rises with the command. A scene without a response (or in which the read-out loses the road user) is
silent: it has no rho, and counts as 0 in `rho_all`.

References:
    `reference/evaluation.md`, section 5; `reference/world_models.md`, section 1 (finding 3) and 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

from wmplan.statistics import Measure, spearman
from wmplan.validation.layers import Gate, mean_of, share_of
from wmplan.validation.reaction import CAUSAL_M, SceneReaction

COMMANDS = 5
RHO_ALL = Gate(at_least=0.6)


@dataclass(frozen=True)
class Sweep:
    """Commands over a range: `grid` are five values from its lowest to its highest, `targets` the four midpoints."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Sweep has low {self.low} and high {self.high}, expected low below high")

    @property
    def grid(self) -> tuple[float, ...]:
        """The commands that are swept."""
        return tuple(float(value) for value in np.linspace(self.low, self.high, COMMANDS))

    @property
    def targets(self) -> tuple[float, ...]:
        """The commands that inverse control has to recover."""
        grid = np.linspace(self.low, self.high, COMMANDS)
        return tuple(float(value) for value in (grid[1:] + grid[:-1]) / 2.0)

    @staticmethod
    def of(values: Float[ndarray, "N"]) -> Sweep:
        """From the 5th to the 95th percentile of the commands in training."""
        low, high = np.percentile(values, [5.0, 95.0])
        return Sweep(float(low), float(high))


@dataclass(frozen=True)
class SceneControl:
    """The response (m) of the road user that responds most to each command of the sweep, imagined (NaN where lost) and
    true; `targets` are the imagined responses to the sweep's targets under another noise."""

    scene_id: str
    group: str
    model: str
    sweep: Sweep
    responses: Float64[ndarray, "K"]
    true: Float64[ndarray, "K"]
    targets: Float64[ndarray, "N"]

    @property
    def valid(self) -> bool:
        """Whether the responses differ at all."""
        return bool(np.isfinite(self.responses).all() and np.ptp(self.responses) > 0.0)

    @property
    def rho(self) -> float:
        """Rank correlation of command and response; NaN in a silent scene."""
        if not self.valid:
            return float("nan")
        return float(spearman(estimate=self.responses, real=np.array(self.sweep.grid)))


def control(swept: SceneReaction, targets: SceneReaction, sweep: Sweep) -> SceneControl | None:
    """The sweep of one scene; None where nobody truly responds to it by more than `CAUSAL_M`.

    `swept` are the reactions to the logged plan and then to each command of the grid, `targets` those to the logged
    plan and then to each target, imagined with another noise.
    """
    whole = swept.true[:, -1] - swept.true[:, 1]
    size = np.nan_to_num(np.linalg.norm(whole, axis=-1))
    size = np.where(np.isfinite(swept.true[:, 1:, 0]).all(axis=1), size, 0.0)
    if not len(size) or size.max() <= CAUSAL_M:
        return None
    who = int(size.argmax())
    unit = whole[who] / size[who]
    return SceneControl(
        swept.scene_id,
        swept.group,
        swept.model,
        sweep,
        swept.imagined[who, 1:] @ unit,
        swept.true[who, 1:] @ unit,
        targets.imagined[who, 1:] @ unit,
    )


def summarise(rows: Sequence[SceneControl], seed: int, gate: Gate | None = RHO_ALL) -> list[Measure]:
    """rho over the scenes that are not silent, their share, and rho over all scenes, silent ones as 0."""
    rho = np.array([row.rho for row in rows], dtype=np.float64)
    valid = [float(row.valid) for row in rows]
    return [
        mean_of("controllability rho_valid", rho, rows, seed),
        mean_of("controllability coverage", valid, rows, seed),
        share_of("controllability rho_all", np.nan_to_num(rho), np.ones(len(rows)), rows, seed, gate),
    ]
