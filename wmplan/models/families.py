"""Families of learned world models: what the `kind` of a checkpoint names.

A family is a network and the world model that imagines by it. How it is trained is in
`wmplan.models.training.objectives`, under the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from wmplan.errors import InputError
from wmplan.models.ar import Autoregressive
from wmplan.models.direct import DirectNetwork
from wmplan.models.dit import DiffusionNetwork
from wmplan.models.dit_model import Diffusion
from wmplan.models.dit_options import DitOptions
from wmplan.models.jump import JumpNetwork
from wmplan.models.presets import Preset
from wmplan.models.regression_model import Regression
from wmplan.models.rollout import Network


@dataclass(frozen=True)
class Family:
    """`network(preset, config)` is an untrained network, where `config` are the training settings by name (the card
    keeps them); `model(network, digest, horizon)` imagines by a trained one."""

    name: str
    network: Callable[[Preset, Mapping[str, Any]], nn.Module]
    model: Callable[[Any, str, int], Any]


def _regression(name: str) -> Callable[[Any, str, int], Any]:
    return lambda network, digest, horizon: Regression(network, digest, horizon, name)


FAMILIES = {
    family.name: family
    for family in (
        Family("ar", lambda preset, config: Network(preset, config.get("quantiser", "")), Autoregressive),
        Family("direct", lambda preset, config: DirectNetwork(preset, config["horizon"]), _regression("direct")),
        Family("jump", lambda preset, config: JumpNetwork(preset, config["jump_span"]), _regression("jump")),
        Family("dit", lambda preset, config: DiffusionNetwork(preset, DitOptions(**config["dit"])), Diffusion),
    )
}


def family_of(name: str) -> Family:
    """The family of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in FAMILIES:
        raise InputError(f"family is {name!r}, expected one of {sorted(FAMILIES)}")
    return FAMILIES[name]
