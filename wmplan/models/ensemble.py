"""Several world models as one: their samples side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import Context, Grid, Imagined, SceneRaster, WorldModel
from wmplan.errors import InputError
from wmplan.models.regression_model import pooled
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank


@final
class Ensemble:
    """Divides the samples among its members: of n members, sample m is sample m // n of member m % n.

    So every member draws the same noise, and what differs between samples 0 to n - 1 is the members. Fewer samples than
    members leave the last of these out. Members' own latents cannot be compared (each has its own codes), so the
    latents of several are their occupancy, pooled; one member alone is that member, to the bit. The horizon is the
    shortest.

    Raises:
        InputError: no members, or members that work on different rasters.
    """

    def __init__(self, members: Sequence[WorldModel], name: str = "ensemble") -> None:
        if not members:
            raise InputError(f"{name}: no members, expected at least one model")
        for member in members:
            if member.grid != members[0].grid:
                found = f"{members[0].name} on {members[0].grid}, {member.name} on {member.grid}"
                raise InputError(f"{name}: members work on different rasters ({found}), expected one for all")
        self.members, self.name = tuple(members), name
        self.grid: Grid = members[0].grid
        self.horizon = min(member.horizon for member in members)
        text = "/".join(["ensemble", "1", str(self.horizon), *(member.digest for member in members)])
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def encode(self, raster: SceneRaster) -> Context:
        """The scene as each member encodes it."""
        return Context(raster, tuple(member.encode(raster) for member in self.members))

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """The members' futures; those of a member stand in its order, `len(members)` samples apart."""
        if len(self.members) == 1:
            return self.members[0].imagine(context.encoded[0], plans, noise)
        count, samples = len(self.members), np.arange(noise.first, noise.first + noise.samples)
        shape = (len(plans), noise.samples, self.horizon, 2, self.grid.rows, self.grid.cols)
        occupancy, velocity = torch.empty(shape), torch.empty(shape)
        steps: list[int | None] = []
        for number, member in enumerate(self.members):
            places = np.flatnonzero(samples % count == number)
            if not len(places):
                continue
            bank = NoiseBank(noise.seed, len(places), int(samples[places[0]]) // count)
            found = member.imagine(context.encoded[number], plans, bank)
            occupancy[:, places] = found.occupancy[:, :, : self.horizon]
            velocity[:, places] = found.velocity[:, :, : self.horizon]
            steps.append(found.steps)
        told = [step for step in steps if step is not None]
        total = sum(told) if len(told) == len(steps) else None
        return Imagined(occupancy, velocity, pooled(occupancy), self.grid, total)


@dataclass(frozen=True)
class VarianceSplit:
    """Variance over the samples of each candidate, mean over the latent elements, in the scale of Vista's (M - 1).

    `total` is Vista's; `epistemic` is that of the members' means, `aleatoric` the mean of that within the members. They
    add up to `total` (law of total variance). Means of few samples are noisy, so `epistemic` holds some of what is
    aleatoric: `unbiased` takes it out, and its parts no longer add up.
    """

    total: Float64[ndarray, "K"]
    epistemic: Float64[ndarray, "K"]
    aleatoric: Float64[ndarray, "K"]
    members: int
    each: int

    @property
    def unbiased(self) -> tuple[Float64[ndarray, "K"], Float64[ndarray, "K"]]:
        """Epistemic and aleatoric variance without bias; the former may come out below zero where there is none.

        Raises:
            InputError: one sample a member, or one member.
        """
        if self.each < 2 or self.members < 2:
            found = f"{self.members} members with {self.each} samples each"
            raise InputError(f"variance: {found}, expected at least 2 of both to tell members from chance")
        count = self.members * self.each
        scale = (count - 1) / count
        aleatoric = scale * self.aleatoric * self.each / (self.each - 1)
        epistemic = scale * self.epistemic * self.members / (self.members - 1)
        return epistemic - aleatoric / self.each, aleatoric


def split_variance(latents: Tensor, members: int) -> VarianceSplit:
    """Of an ensemble's latents (K, M, T, L), where sample m is one of member m % `members`.

    Each candidate is summed by itself, so that its figures do not depend on its companions.

    Raises:
        InputError: fewer than 2 samples, or a number of them that the members do not divide.
    """
    samples = latents.shape[1]
    if samples < 2 or members < 1 or samples % members:
        raise InputError(f"variance: {samples} samples of {members} members, expected a multiple of them, 2 or more")
    rows = [_split(row, members) for row in latents.detach().numpy()]
    total, epistemic, aleatoric = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return VarianceSplit(total, epistemic, aleatoric, members, samples // members)


def _split(row: ndarray, members: int) -> tuple[float, float, float]:
    samples = len(row)
    values = row.reshape(samples // members, members, -1).astype(np.float64)
    means = values.mean(0)
    scale = samples / (samples - 1)
    total = scale * (values - means.mean(0)) ** 2
    return (
        float(total.mean()),
        float(scale * ((means - means.mean(0)) ** 2).mean()),
        float(scale * ((values - means) ** 2).mean()),
    )
