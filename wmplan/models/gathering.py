"""What every learned model is asked, and where what it imagines is put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Grid, Imagined, SceneRaster
from wmplan.errors import InputError
from wmplan.models.prefixes import PrefixTree, prefix_tree
from wmplan.plans import Plans
from wmplan.raster import STRIDE


def require_grid(raster: SceneRaster, grid: Grid) -> None:
    """Raises InputError if the raster has another grid than the model's."""
    if raster.grid != grid:
        found = f"scene {raster.scene_id}: raster has grid {raster.grid}"
        raise InputError(f"{found}, expected the model's {grid}")


def require_horizon(plans: Plans, horizon: int) -> None:
    """Raises InputError if the plans are shorter than so many imagined steps."""
    if plans.controls.shape[1] < horizon * STRIDE:
        wanted = f"expected at least the model's horizon {horizon * IMAGINED_STEP_S:.1f} s"
        raise InputError(f"plans last {plans.horizon_s:.1f} s, {wanted}")


def finite_rows(plans: Plans) -> Int[ndarray, "N"]:
    """The candidates all of whose states are finite."""
    return np.flatnonzero(np.isfinite(plans.states).all((1, 2)))


def blank(finite: Int[ndarray, "N"], count: int, *shape: int) -> Tensor:
    """Room for all candidates, to be filled for the finite ones; the others have NaN throughout."""
    size = (count, *shape)
    return torch.empty(size) if len(finite) == count else torch.full(size, torch.nan)


@dataclass(frozen=True)
class Gathering:
    """The futures of K candidates and M samples, filled pass by pass. Candidates that share their first states share
    nodes of the `tree`; rollouts of a step are numbered node x M + sample. `plans` are the finite ones."""

    plans: Plans
    tree: PrefixTree
    finite: Int[ndarray, "N"]
    occupancy: Float[Tensor, "K M T 2 H W"]
    velocity: Float[Tensor, "K M T 2 H W"]
    latents: Float[Tensor, "K M T L"]

    @staticmethod
    def begin(plans: Plans, samples: int, horizon: int, grid: Grid, latents: int) -> Gathering:
        """Nothing is filled yet.

        Raises:
            InputError: if the plans are shorter than the horizon.
        """
        require_horizon(plans, horizon)
        finite = finite_rows(plans)
        known = plans.select(finite)
        cells = (samples, horizon, 2, grid.rows, grid.cols)
        return Gathering(
            known,
            prefix_tree(known.states[:, : horizon * STRIDE + 1 : STRIDE]),
            finite,
            blank(finite, len(plans), *cells),
            blank(finite, len(plans), *cells),
            blank(finite, len(plans), samples, horizon, latents),
        )

    def show(self, t: int, rollouts: range, frames: tuple[Tensor, Tensor, Tensor]) -> None:
        """Puts a pass (occupancy, velocity, latents of these rollouts at step t; it may be padded) into the rows that
        show it."""
        samples = self.occupancy.shape[1]
        wanted = self.tree.nodes[:, t, None] * samples + np.arange(samples)
        candidate, sample = np.nonzero((wanted >= rollouts.start) & (wanted < rollouts.stop))
        rows = torch.from_numpy(self.finite[candidate] * samples + sample)
        source = torch.from_numpy(wanted[candidate, sample] - rollouts.start)
        # Where nothing is shared, a pass is a slice of the rows: copied once, not gathered first.
        straight = len(rows) == len(rollouts) and int(rows[-1] - rows[0]) == len(rows) - 1
        for part, frame in zip((self.occupancy, self.velocity, self.latents), frames, strict=True):
            if straight:
                part.flatten(0, 1)[rows[0] : rows[0] + len(rows), t] = frame[: len(rows)]
            else:
                part.flatten(0, 1)[rows, t] = frame[source]

    def imagined(self, grid: Grid) -> Imagined:
        """What was gathered, and how many steps of rollouts it took."""
        return Imagined(self.occupancy, self.velocity, self.latents, grid, self.tree.steps * self.occupancy.shape[1])
