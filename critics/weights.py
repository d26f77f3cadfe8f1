"""How terms are weighed: plain numbers, light to import, for whoever only configures or reads.

What stands beside the published score is small: it parts what the score leaves equal, and gives optimizers a slope.
Chosen on simulated development scenes (seed 400) by how well the cost orders candidates as they truly come out
(`wmplan audit`, docs/audit.md).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

from wmplan.errors import InputError

COST_PARTS = ("cost_task", "cost_reward", "cost_probe", "cost_support")
"""The columns whose float64 sum, in this order, is the total."""


@dataclass(frozen=True)
class CostWeights:
    """How terms become a cost. Every constant is fixed: nothing is normalised within a scene or a set of candidates."""

    form: Literal["pdms", "nuplan", "dense"] = "pdms"
    """Task cost: `pdms` or `nuplan` is score x (1 - that score) + shaping x dense; `dense` is the dense terms alone."""
    score: float = 1.0
    """Weight of one minus the published score; the published scores are flat (0) once anything is hit."""
    shaping: float = 0.005
    """Weight of the dense terms beside a published score, so that an optimizer has a slope to follow."""
    collision: float = 5.0
    """Dense: discounted expected overlap with imagined road users, summed over the imagined steps."""
    ttc: float = 0.5
    """Dense: mean overlap of the ego box projected up to 0.9 s ahead at constant velocity."""
    offroad: float = 5.0
    """Dense: mean share of the ego box's outline beyond the drivable area (more than at t0)."""
    direction: float = 1.0
    """Dense: metres driven against the lane direction, over 6 m, at most 1."""
    red_light: float = 2.0
    """Dense: 1 where a red light is passed."""
    progress: float = 1.0
    """Dense: one minus progress along the route over target speed x horizon."""
    speed: float = 0.5
    """Dense: mean speed above the target, over 2.23 m/s, at most 1."""
    discomfort: float = 0.3
    """Dense: mean of the six comfort signals over their bounds, squared, at most 4 each."""
    lateral: float = 0.1
    """Dense: mean squared distance to the route over (1.75 m)^2, at most 4."""
    reward: float = 0.005
    """Weight of the mean variance of the imagined futures (minus Vista's log reward)."""
    reward_scale: float = 0.05
    """Variance at which the reward's part equals its weight; a fixed constant of the latents' scale."""
    reward_cap: float = 4.0
    """Most that the scaled variance can count."""
    probe: float = 0.0
    """Weight of the inverse-control probe's error (m/s2): how badly the imagined response shows the action. It says how
    far to believe an imagination, and nothing of which candidate is better."""
    probe_cap: float = 4.0
    """Most that the probe's error can count, m/s2."""
    support: float = 0.01
    """Weight of e / (1 + e), e being the distance beyond the support's 95 % quantile in interquartile ranges: 0 inside
    the support, rising everywhere outside, never more than the weight."""
    downweight_factor: float = 2.0
    """The support penalty is multiplied by this where the conformal p-value is below `downweight_p`."""
    downweight_p: float = 0.05
    """Conformal p-value below which a candidate is downweighted."""
    refuse_p: float = 0.01
    """Conformal p-value below which a candidate is refused."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, str):
                continue
            if not math.isfinite(value) or value < 0.0:
                raise InputError(f"CostWeights.{name} is {value}, expected a finite number, at least 0")
        if self.form not in ("pdms", "nuplan", "dense"):
            raise InputError(f"CostWeights.form is {self.form!r}, expected pdms, nuplan or dense")
        if not 0.0 <= self.refuse_p <= self.downweight_p <= 1.0:
            raise InputError(
                f"CostWeights.refuse_p is {self.refuse_p} and downweight_p is {self.downweight_p}, "
                "expected 0 <= refuse_p <= downweight_p <= 1"
            )
        if self.reward_scale == 0.0:
            raise InputError("CostWeights.reward_scale is 0, expected more")
