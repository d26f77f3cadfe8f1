"""L4, action use: an imagined future has to change more with the action than with its order or with the noise.

Changes are 1 - cosine of imagined occupancy, averaged over samples, between the logged plan and the same plan braked
harder (`perturbed`), the same with its controls in another order (`shuffled`), and the same plan imagined with another
noise (`resampled`). In the scene frame only what others do because of the ego can change, so cosines lie near 1; the
true future stands beside it. A model passes if perturbed > shuffled > resampled.

References:
    `reference/evaluation.md`, section 4 (action use); `reference/seed_inventory.md`, row 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import Imagined
from wmplan.plans import Plans
from wmplan.randomness import fold_in
from wmplan.raster import STRIDE
from wmplan.statistics import Measure, paired_bootstrap
from wmplan.validation.layers import figure, mean_of

SHARE = 0.6
"""The perturbation as a share of the range of commands: that of +0.3 steer in the published probe."""
STEPS = (2, 6)
"""Imagined steps that are compared: 1 s and 3 s."""
ABOVE = "above 0, interval included"


@dataclass(frozen=True)
class SceneUse:
    """Changes of one scene at each of `STEPS`."""

    scene_id: str
    group: str
    model: str
    perturbed: Float64[ndarray, "N"]
    shuffled: Float64[ndarray, "N"]
    resampled: Float64[ndarray, "N"]


def variants(logged: Plans, width: float, seed: int) -> Plans:
    """Two plans of a logged one (one row): braked harder by `SHARE` of the commands' range `width`, and with its
    controls shuffled in blocks of an imagined step."""
    controls = logged.controls[0].astype(np.float64)
    braked = controls.copy()
    braked[:, 0] -= SHARE * width
    blocks = np.arange(len(controls)) // STRIDE
    order = np.random.default_rng(fold_in(seed, "order of controls")).permutation(blocks.max() + 1)
    shuffled = np.concatenate([controls[blocks == block] for block in order])
    return Plans.from_controls(np.stack([braked, shuffled]), float(logged.states[0, 0, 3]))


def use(
    scene_id: str, group: str, model: str, imagined: Imagined, again: Imagined, rows: tuple[int, int] = (1, 2)
) -> SceneUse:
    """The changes of one scene. `imagined` has the logged plan in row 0 and the two `variants` in `rows`; `again` is
    the logged plan imagined with another noise."""
    logged = imagined.occupancy[0]
    perturbed, shuffled = (_change(logged, imagined.occupancy[row]) for row in rows)
    return SceneUse(scene_id, group, model, perturbed, shuffled, _change(logged, again.occupancy[0]))


def summarise(rows: Sequence[SceneUse], seed: int) -> list[Measure]:
    """Mean changes over scenes and their paired differences, which have to be above zero."""
    measures = []
    groups = [row.group for row in rows]
    for i, step in enumerate(STEPS):
        at = f"{step / 2:g} s"
        parts = {
            name: np.array([getattr(row, name)[i] for row in rows], dtype=np.float64)
            for name in ("perturbed", "shuffled", "resampled")
        }
        measures += [mean_of(f"action use, {name}, {at}", values, rows, seed) for name, values in parts.items()]
        for more, less in (("perturbed", "shuffled"), ("shuffled", "resampled")):
            interval = paired_bootstrap(parts[more], parts[less], seed, groups=groups)
            found = figure(f"action use, {more} minus {less}, {at}", interval, len(rows))
            cleared = None if np.isnan(found.value) else bool(found.low > 0.0)
            measures.append(
                Measure(found.value, found.count, found.reason, found.metric, found.low, found.high, ABOVE, cleared)
            )
    return measures


def _change(one: Float[Tensor, "M T 2 H W"], other: Float[Tensor, "M T 2 H W"]) -> Float64[ndarray, "N"]:
    """1 - cosine of each of `STEPS`, averaged over samples; two empty frames are alike, an empty one like no other."""
    values = []
    for step in STEPS:
        a, b = (part[:, step - 1].flatten(1).double() for part in (one, other))
        norms = a.norm(dim=1) * b.norm(dim=1)
        same = (a == b).all(dim=1)
        cosine = torch.where(norms > 0.0, (a * b).sum(dim=1) / norms.clamp(min=1e-12), 0.0)
        values.append(float(torch.where(same, 0.0, 1.0 - cosine).mean()))
    return np.array(values)
