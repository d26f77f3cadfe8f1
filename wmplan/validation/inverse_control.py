"""L4, inverse control: can the command be read back from the response that was imagined for it?

In each scene response = slope x command + offset is fitted on the sweep's grid; the responses at its four midpoints,
imagined with another noise, are inverted and clipped to the range. A silent scene answers with the middle of the range.
Both ways of guessing without a model stand beside it, in closed form: a uniform guess errs by 21/64 of the range, the
middle of the range by 1/4.

References:
    `reference/evaluation.md`, section 5; `reference/seed_inventory.md`, row 15 and the corrected accounting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from wmplan.statistics import Measure
from wmplan.validation.controllability import SceneControl, Sweep
from wmplan.validation.layers import Gate, mean_of, share_of

OVER_CHANCE, OVER_CONSTANT = Gate(at_most=0.67), Gate(at_most=0.9)


def invert(row: SceneControl) -> Float64[ndarray, "N"]:
    """The command that would have given each target's response, within the range; its middle where the scene is silent
    or a target's response was lost."""
    middle = 0.5 * (row.sweep.low + row.sweep.high)
    if not row.valid:
        return np.full(len(row.targets), middle)
    grid = np.array(row.sweep.grid)
    spread = grid - grid.mean()
    slope = float(spread @ row.responses / (spread @ spread))
    if slope == 0.0:
        return np.full(len(row.targets), middle)
    offset = float(row.responses.mean() - slope * grid.mean())
    found = np.clip((row.targets - offset) / slope, row.sweep.low, row.sweep.high)
    return np.where(np.isfinite(found), found, middle)


def error(row: SceneControl) -> float:
    """Mean absolute error over the targets, in the unit of the command."""
    return float(np.abs(invert(row) - np.array(row.sweep.targets)).mean())


def chance(sweep: Sweep) -> float:
    """Error of a uniform guess at the midpoints: E|U - t| = ((t - low)^2 + (high - t)^2) / (2 range), 21/64 of it."""
    t, width = np.array(sweep.targets), sweep.high - sweep.low
    return float((((t - sweep.low) ** 2 + (sweep.high - t) ** 2) / (2.0 * width)).mean())


def constant(sweep: Sweep) -> float:
    """Error of always answering with the middle of the range, the best constant: 1/4 of the range."""
    return float(np.abs(np.array(sweep.targets) - 0.5 * (sweep.low + sweep.high)).mean())


def summarise(rows: Sequence[SceneControl], seed: int) -> list[Measure]:
    """Mean absolute errors over all scenes and over those that are not silent, and over both guesses."""
    errors = np.array([error(row) for row in rows], dtype=np.float64)
    valid = np.array([row.valid for row in rows], dtype=np.float64)
    guess, best = ([of(row.sweep) for row in rows] for of in (chance, constant))
    known = np.where(valid > 0.0, errors, np.nan)
    return [
        mean_of("inverse control error, all, m/s2", errors, rows, seed),
        mean_of("inverse control error, valid, m/s2", known, rows, seed),
        share_of("inverse control over chance, all", errors, guess, rows, seed, OVER_CHANCE),
        share_of("inverse control over the best constant, all", errors, best, rows, seed, OVER_CONSTANT),
        share_of("inverse control over chance, valid", np.nan_to_num(known), guess * valid, rows, seed),
        share_of("inverse control over the best constant, valid", np.nan_to_num(known), best * valid, rows, seed),
    ]
