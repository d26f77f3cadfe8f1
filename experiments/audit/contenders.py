"""Who gives a scene's candidates their terms: the model, and placebos that lack what is believed to matter.

All are judged by the same critics, those of the model. Terms that do not look at what is imagined (progress, comfort,
the road, the support) are the same for all: what is left of a figure under a placebo is owed to them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from numpy import ndarray

from experiments import assembly
from experiments.scoring import SceneScorer
from experiments.validate.contenders import untrained
from wmplan.contracts import Imagined, Terms, WorldModel
from wmplan.models import MODELS
from wmplan.models.checkpoint import CARD
from wmplan.plans import Plans
from wmplan.randomness import fold_in

if TYPE_CHECKING:
    from experiments.audit.prepared import Audit

SHUFFLED, SCENE_MEAN, UNTRAINED = "shuffled", "scene mean", "untrained"
"""Each candidate judged on what was imagined for another; on the mean of what was imagined for all; on what the network
imagines before any training."""
ROAD, ROAD_SHUFFLED = "road", "road shuffled"
"""No placebos of the model: each candidate judged on what truly happens, and on what truly happens for another."""
TOGETHER = 64
"""Candidates whose true futures are drawn at once."""
BASELINES = ("persistence", "cv")


def contenders(audit: Audit) -> dict[str, WorldModel]:
    """The model under its own name first, then models of which it must be better."""
    model = assembly.build_model(audit.model, audit.config.horizon_s)
    found = {audit.name: model}
    if not audit.config.placebos:
        return found
    for name in BASELINES:
        if name not in found:
            found[name] = MODELS[name](model.grid, model.horizon)
    if (Path(audit.model) / CARD).is_file():
        found[UNTRAINED] = untrained(Path(audit.model))
    return found


def placebos(scorer: SceneScorer, plans: Plans, name: str, seed: int) -> dict[str, Terms]:
    """Terms of all candidates: by what was imagined for each, under `name`; for another; for all in the mean."""
    composite, count = scorer.scorer.composite, len(plans)
    imagined = scorer.imagine(plans, scorer.noise)
    order = _order(scorer.raster.scene_id, seed, count)
    seen = {name: imagined, SHUFFLED: _rows(imagined, order), SCENE_MEAN: _mean(imagined)}
    return {one: composite.terms(scorer.context, plans, futures) for one, futures in seen.items()}


def ceiling(road: SceneScorer, plans: Plans, seed: int) -> dict[str, Terms]:
    """Terms by what truly happens: for each candidate, and for another. No model can be better than the first; the
    second says how much of the order hangs on how others react to this candidate and not to that one."""
    order = _order(road.raster.scene_id, seed, len(plans))
    found: dict[str, list[Terms]] = {ROAD: [], ROAD_SHUFFLED: []}
    for first in range(0, len(plans), TOGETHER):
        part = slice(first, first + TOGETHER)
        for name, seen in ((ROAD, plans.select(part)), (ROAD_SHUFFLED, plans.select(order[part]))):
            imagined = road.imagine(seen, road.noise)
            # The truth has no latents: samples agree.
            sure = replace(imagined, latents=torch.zeros(*imagined.occupancy.shape[:3], 1))
            found[name].append(road.scorer.composite.terms(road.context, plans.select(part), sure))
    return {
        name: Terms(parts[0].columns, np.concatenate([part.values for part in parts])) for name, parts in found.items()
    }


def table_of(name: str, terms: Terms) -> pd.DataFrame:
    """The terms as rows of this contender."""
    frame = pd.DataFrame(terms.values, columns=list(terms.columns))
    frame.insert(0, "contender", name)
    frame.insert(1, "row", np.arange(len(frame), dtype=np.int32))
    return frame


def _order(scene_id: str, seed: int, count: int) -> Int[ndarray, "K"]:
    """For whom each candidate's future was imagined."""
    return np.random.default_rng(fold_in(seed, "placebo:imagination", scene_id)).permutation(count)


def _rows(imagined: Imagined, order: np.ndarray) -> Imagined:
    return Imagined(imagined.occupancy[order], imagined.velocity[order], imagined.latents[order], imagined.grid)


def _mean(imagined: Imagined) -> Imagined:
    """The mean future of all candidates for each; velocities are weighed by how likely a cell is occupied."""
    weight = imagined.occupancy.amax(dim=3, keepdim=True)
    total = weight.sum(0, keepdim=True)
    velocity = (imagined.velocity * weight).sum(0, keepdim=True) / total.clamp(min=1e-6)
    occupancy = imagined.occupancy.mean(0, keepdim=True)
    latents = imagined.latents.mean(0, keepdim=True)
    shape = lambda part, like: part.expand_as(like).clone()  # noqa: E731
    return Imagined(
        shape(occupancy, imagined.occupancy), shape(velocity, imagined.velocity), shape(latents, imagined.latents),
        imagined.grid,
    )  # fmt: skip
