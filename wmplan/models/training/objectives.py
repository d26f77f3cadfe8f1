"""What each family of world models minimises, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import Critic
from wmplan.errors import InputError
from wmplan.models.training import direct_stages, dit_stages, jump_stages, stages
from wmplan.models.training.calibrate import fit_gains
from wmplan.models.training.data import Batch, Examples
from wmplan.models.training.dit_calibrate import fit_dit, forecast_dit
from wmplan.models.training.gates import Gated, tokenizer_gates
from wmplan.models.training.measure import Forecast, forecast_ar
from wmplan.models.training.settings import Settings

StageLoss = Callable[[str, Any, Batch, Settings, int, int, torch.Generator], Float[Tensor, ""]]
"""`loss(stage, network, batch, settings, horizon, first, generator)`: rollouts of `horizon` steps; a stage that looks
at a single step takes the one from future frame `first` on."""


@dataclass(frozen=True)
class Objective:
    """The stages of a family's training, their shares of the time, the loss of a batch, and what comes after.

    `finish` fits what is fitted on training groups held out of the training, in place; the card lists what it returns.
    `forecast` is how the family's networks are measured. `weights` tells how often each example is drawn for a batch,
    beside the others; none = all alike. `gates(network, examples, horizon, critic)` judges what the first stage left,
    on the same held-out groups; none = nothing to judge.
    """

    stages: tuple[str, ...]
    shares: tuple[float, ...]
    loss: StageLoss
    finish: Callable[[Any, Examples, Settings], dict[str, Any]]
    forecast: Forecast = forecast_ar
    weights: Callable[[Examples], Float[ndarray, "S"]] | None = None
    gates: Callable[[Any, Examples, int, Critic], tuple[Gated, ...]] | None = None


OBJECTIVES = {
    "ar": Objective(stages.STAGES, (0.25, 0.25, 0.05, 0.45), stages.stage_loss, fit_gains, gates=tokenizer_gates),
    "direct": Objective(
        direct_stages.STAGES,
        direct_stages.SHARES,
        direct_stages.direct_loss,
        direct_stages.fit_regression_gains,
        direct_stages.forecast_regression,
    ),
    "jump": Objective(
        jump_stages.STAGES,
        jump_stages.SHARES,
        jump_stages.jump_loss,
        direct_stages.fit_regression_gains,
        direct_stages.forecast_regression,
        jump_stages.motion_weights,
    ),
    "dit": Objective(dit_stages.STAGES, dit_stages.SHARES, dit_stages.dit_loss, fit_dit, forecast_dit),
}


def objective_of(family: str) -> Objective:
    """The objective of the family of this name.

    Raises:
        InputError: if there is none.
    """
    if family not in OBJECTIVES:
        raise InputError(f"family is {family!r}, expected one of {sorted(OBJECTIVES)}")
    return OBJECTIVES[family]
