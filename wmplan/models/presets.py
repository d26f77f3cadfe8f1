"""Sizes of the learned world models, by name; the raster's grid has the same name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import log2

from wmplan.contracts import GRIDS, Grid
from wmplan.errors import InputError


@dataclass(frozen=True)
class Preset:
    """Shape of the tokenizer and of the dynamics: everything that decides which tensors a checkpoint holds."""

    name: str
    width: int
    """Width of the dynamics' tokens."""
    layers: int
    heads: int
    mlp: int
    """Hidden width of the transformer's feed-forward part."""
    field: int
    """Width of the decoder's field: what it knows of each patch."""
    patch: int = 8
    """Side of a token in cells."""
    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Levels of the finite scalar quantiser: 1000 codes."""
    quantiser: str = dataclasses.field(default="fsq", repr=False)
    """How codes are made discrete where the settings do not say (`wmplan.models.quantisers`). Weights tell it apart, so
    the text that digests are made of leaves it out."""
    scene_latents: int = 16
    """Values of the per-rollout scene latent z."""
    particle: int = 48
    """Hidden width of the decoder's part that steers the particles."""
    max_particles: int = 1024
    """Occupied cells that are carried through a rollout, those nearest to the ego first."""
    history: int = 4
    """Frames the dynamics sees at once, its own predictions among them."""
    chunk: int = 32
    """Rollouts in one pass. Always exactly so many (padded), so that a row's bytes never depend on its companions."""

    def __post_init__(self) -> None:
        if self.grid.rows % self.patch or self.grid.cols % self.patch or log2(self.patch) % 1:
            raise ValueError(f"Preset.patch is {self.patch}, expected a power of two that divides the grid's side")
        if min(self.levels) < 3:
            raise ValueError(f"Preset.levels is {self.levels}, expected at least 3 in every dimension")
        if self.width % self.heads:
            raise ValueError(f"Preset.heads is {self.heads}, expected a divisor of the width {self.width}")

    @property
    def grid(self) -> Grid:
        """The raster that this preset works on."""
        return GRIDS[self.name]

    @property
    def side(self) -> tuple[int, int]:
        """Tokens along y and along x."""
        return self.grid.rows // self.patch, self.grid.cols // self.patch


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("nano", width=96, layers=3, heads=4, mlp=192, field=48),
        Preset("small", width=128, layers=4, heads=4, mlp=256, field=64, particle=64, max_particles=2048),
        Preset(
            "base",
            width=256,
            layers=8,
            heads=8,
            mlp=512,
            field=96,
            particle=96,
            max_particles=4096,
            chunk=16,
            quantiser="rvq2",
        ),
    )
}


def preset_of(name: str) -> Preset:
    """The preset of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in PRESETS:
        raise InputError(f"preset is {name!r}, expected one of {sorted(PRESETS)}")
    return PRESETS[name]
