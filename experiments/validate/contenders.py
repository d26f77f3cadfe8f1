"""Who is measured: the model, both baselines, and the model's own network before any training."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from experiments.assembly import build_model
from wmplan.contracts import WorldModel
from wmplan.models import MODELS
from wmplan.models.checkpoint import CARD
from wmplan.randomness import fold_in

HORIZON_S = 3.0
BASELINES = ("persistence", "cv")
RANDOM = "random-init"


def contenders(spec: str) -> dict[str, WorldModel]:
    """The model under its own name first, then the baselines on its grid, then (for one network) that untrained.

    Raises:
        InputError: no readable model there.
    """
    model = build_model(spec, HORIZON_S)
    found = {name_of(spec): model}
    for name in BASELINES:
        if name not in found:
            found[name] = MODELS[name](model.grid, model.horizon)
    if (Path(spec) / CARD).is_file():
        found[RANDOM] = untrained(Path(spec))
    return found


def name_of(spec: str) -> str:
    """How tables call the model."""
    return spec if spec in MODELS else Path(spec).name


def untrained(folder: Path) -> WorldModel:
    """The network of a checkpoint with the weights that training begins with."""
    import torch

    from wmplan.models.checkpoint import read_card
    from wmplan.models.families import family_of
    from wmplan.models.presets import preset_of

    card = read_card(folder)
    family = family_of(card.kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold_in(0, RANDOM, card.kind, card.preset) % 2**31)
        network = family.network(preset_of(card.preset), card.config)
    return cast(WorldModel, family.model(network, RANDOM, card.horizon))
