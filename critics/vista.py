"""Vista's reward: how much the imagined futures of one candidate agree with each other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import Context, Grid, Imagined, Terms
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.raster import swept_footprints


@dataclass(frozen=True)
class VistaConfig:
    """Constants of the reward."""

    reach_m: float = 4.0
    """The swept variant looks this far round the area that the ego sweeps."""
    members: int = 1
    """Members of the model, sample m being one of member m % members (`wmplan.models.ensemble`)."""

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"VistaConfig.members is {self.members}, expected 1 or more")


PARTS = ("vista_epistemic", "vista_aleatoric")


class VistaCritic:
    """Vista's reward, its logarithm, a variant near the ego's path, and of an ensemble the parts of its variance.

    `vista_reward` is R = exp(-mean over latent elements of the variance over M), `vista_log_reward` its logarithm (exp
    saturates near 1), `vista_swept` minus the mean occupancy variance within `reach_m` of the ego's swept area; all
    from the samples' unbiased variance. Of several members also `vista_epistemic` and `vista_aleatoric`: minus the
    variance of their means and minus the mean variance within them, which add up to `vista_log_reward`; a member with
    one sample has no variance. High is agreement. It falls with speed and path length whatever the plan's merit, and
    says nothing about support: a model may be sure and wrong.

    References:
        Gao et al. (2024), "Vista", eq. 6 and `reward_utils.py`; `reference/world_models.md` 3.
    """

    name = "vista"
    columns: tuple[str, ...] = ("vista_reward", "vista_log_reward", "vista_swept")

    def __init__(self, config: VistaConfig | None = None) -> None:
        self.config = config or VistaConfig()
        about = asdict(self.config)
        if self.config.members == 1:
            del about["members"]
        else:
            self.columns = (*VistaCritic.columns, *PARTS)
        text = json.dumps(["vista", 1, about], sort_keys=True)
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        """The columns of each candidate.

        Raises:
            InputError: fewer than two imagined samples; one sample has no variance.
        """
        samples = imagined.latents.shape[1]
        if samples < 2:
            raise InputError(
                f"scene {context.raster.scene_id}: {samples} imagined sample, Vista's reward expects M >= 2"
            )
        near = near_swept(plans, context, imagined.grid, imagined.occupancy.shape[2], self.config.reach_m)
        with np.errstate(invalid="ignore", over="ignore"):  # non-finite samples become non-finite terms, counted later
            variance = latent_variance(imagined.latents)
            swept = _variance_where(imagined.occupancy, near)
            members = self.config.members
            parts = variance_parts(imagined.latents, variance, members) if members > 1 else ()
        values = np.stack([np.exp(-variance), 0.0 - variance, 0.0 - swept, *(0.0 - part for part in parts)], axis=1)
        values[~np.isfinite(plans.states).all(axis=(1, 2))] = np.nan
        return Terms(self.columns, values.astype(np.float32))


def latent_variance(latents: Float32[Tensor, "K M T L"]) -> Float64[ndarray, "K"]:
    """Mean over all latent elements of the unbiased variance over the samples, by candidate."""
    values = latents.detach().numpy()
    variance = _unbiased([values[:, m].astype(np.float64) for m in range(values.shape[1])])
    # One row at a time: a sum over [K, N] may block differently for another K.
    return np.array([np.mean(np.ascontiguousarray(row).reshape(-1)) for row in variance], dtype=np.float64)


def variance_parts(
    latents: Float32[Tensor, "K M T L"], total: Float64[ndarray, "K"], members: int
) -> tuple[Float64[ndarray, "K"], Float64[ndarray, "K"]]:
    """What of the total variance is between the members' means (epistemic), and what within them (aleatoric); they add
    up to it. Members may have unequally many samples."""
    values, samples = latents.detach().numpy(), latents.shape[1]
    within = np.zeros(len(values))
    for k, row in enumerate(values):
        for member in range(min(members, samples)):
            own = row[member::members].astype(np.float64)
            within[k] += float(np.mean(((own - own.mean(axis=0)) ** 2).sum(axis=0)))
    within /= samples - 1
    return np.maximum(total - within, 0.0), within


def near_swept(plans: Plans, context: Context, grid: Grid, steps: int, reach_m: float) -> Bool[ndarray, "K T H W"]:
    """Cells within `reach_m` (a square, to the cell) of what the ego's box touches in each imagined step."""
    swept = swept_footprints(plans, context.raster.start, grid)[:, :steps].numpy() >= 0.5
    for axis in (2, 3):
        line = np.moveaxis(swept, axis, 3)
        wide = line.copy()
        for shift in range(1, round(reach_m / grid.cell) + 1):
            wide[..., shift:] |= line[..., :-shift]
            wide[..., :-shift] |= line[..., shift:]
        swept = np.moveaxis(wide, 3, axis)
    return swept


def _variance_where(occupancy: Float32[Tensor, "K M T 2 H W"], near: Bool[ndarray, "K T H W"]) -> ndarray:
    """Mean over the marked cells (both channels) of the variance over samples; 0 where no cell is marked."""
    values = occupancy.detach().numpy()
    k, t, i, j = np.nonzero(near)
    taken = [values[k, m, t, :, i, j].astype(np.float64) for m in range(values.shape[1])]
    variance = _unbiased(taken)
    ends = np.searchsorted(k, np.arange(len(near) + 1))
    rows = [variance[a:b].reshape(-1) for a, b in pairwise(ends)]
    return np.array([np.mean(row) if len(row) else 0.0 for row in rows], dtype=np.float64)


def _unbiased(samples: list[ndarray]) -> ndarray:
    """Variance over the samples with M - 1, added in order."""
    mean = samples[0]
    for sample in samples[1:]:
        mean = mean + sample
    mean = mean / len(samples)
    total = (samples[0] - mean) ** 2
    for sample in samples[1:]:
        total = total + (sample - mean) ** 2
    return total / (len(samples) - 1)
