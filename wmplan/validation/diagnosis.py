"""Why is a model no better? Four hypotheses, each a comparison of two forecasts of the same scenes.

capacity: is it too small? (a larger model of the same family minus the smaller)
objective: is it trained for the wrong thing? (the same network under another objective minus this one)
horizon: is the far future undecided? (a model of samples minus one of the mean, its gain at 3 s minus that at 1 s)
action sequence: does it use what the ego will do? (with the true actions minus with shuffled ones)

A hypothesis is confirmed where the gain's whole interval is above the smallest gain of interest, rejected where it is
below, and open between. Which models stand for which hypothesis is the caller's choice; a name is whatever the rows are
labelled with, a model with shuffled actions being another name.

References:
    `reference/seed_inventory.md`, row 2: there H1 was rejected, H2 confirmed, H3 rejected, H4 partly confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from wmplan.contracts import WorldModel
from wmplan.forecast import SceneForecast, table
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank, fold_in
from wmplan.statistics import Interval, paired_bootstrap
from wmplan.validation.evidence import Evidence, Observed, imagine

Name = Literal["capacity", "objective", "horizon", "action sequence"]
NAMES: tuple[Name, ...] = ("capacity", "objective", "horizon", "action sequence")
SMALLEST_GAIN = 0.005
"""IoU below which a difference is of no interest."""


@dataclass(frozen=True)
class Hypothesis:
    """One comparison: `variant` minus `base`, both names of rows. `best`, if named, is what an ideal repair reaches."""

    name: Name
    base: str
    variant: str
    best: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a hypothesis came to. `gain` is in `score` at `seconds` (for `horizon`: its growth from 1 s to there).
    `recovered` is the share of the gap to the best forecast that the variant closes, NaN without one."""

    hypothesis: Hypothesis
    score: str
    seconds: float
    gain: Interval
    scenes: int
    recovered: float
    verdict: Literal["confirmed", "rejected", "open"]


def diagnose(
    rows: Mapping[str, Sequence[SceneForecast]],
    hypotheses: Sequence[Hypothesis],
    seed: int,
    score: str = "soft_iou",
    seconds: float = 3.0,
    channel: str = "any",
) -> list[Verdict]:
    """A verdict on each hypothesis, from the scenes that both sides forecast.

    Raises:
        ValueError: a hypothesis names rows that are not given.
    """
    found = []
    for one in hypotheses:
        for name in (one.base, one.variant, *([one.best] if one.best else [])):
            if not rows.get(name):
                raise ValueError(f"diagnose: {one.name} names {name!r}, expected one of {sorted(rows)}")
        base, variant, groups = _paired(rows[one.base], rows[one.variant], score, seconds, channel)
        if one.name == "horizon":
            near, near_variant, _ = _paired(rows[one.base], rows[one.variant], score, 1.0, channel)
            base, variant = base - near, variant - near_variant
        gain = paired_bootstrap(variant, base, seed, groups=groups)
        recovered = np.nan
        if one.best:
            below, best, _ = _paired(rows[one.base], rows[one.best], score, seconds, channel)
            gap = float(np.nanmean(best - below))
            recovered = gain.value / gap if gap > 0.0 else np.nan
        scenes = int(np.isfinite(variant - base).sum())
        found.append(Verdict(one, score, seconds, gain, scenes, recovered, _verdict(gain)))
    return found


def shuffled_actions(observed: Observed, seed: int) -> Observed:
    """The same scene with the executed controls in another order: what is left of a model that reads the order."""
    order = np.random.default_rng(fold_in(seed, observed.scene_id, "shuffled")).permutation(
        observed.plan.controls.shape[1]
    )
    plan = Plans.from_controls(
        observed.plan.controls[:, order].astype(np.float64), float(observed.plan.states[0, 0, 3])
    )
    return replace(observed, plan=plan)


def imagine_shuffled(model: WorldModel, observed: Observed, noise: NoiseBank, seed: int) -> Evidence:
    """What the model imagines for shuffled actions, held against what followed the true ones."""
    with torch.no_grad():
        told = imagine(model, shuffled_actions(observed, seed), noise)
    return Evidence(observed, f"{model.name}, shuffled actions", told.occupancy, told.velocity)


def _paired(
    base: Sequence[SceneForecast], variant: Sequence[SceneForecast], score: str, seconds: float, channel: str
) -> tuple[Float64[ndarray, "S"], Float64[ndarray, "S"], list[str]]:
    frames = []
    for rows in (base, variant):
        frame = table(rows)
        frame = frame[(frame["channel"] == channel) & (frame["seconds"] == seconds)]
        frames.append(frame.set_index("scene_id")[["group", score]])
    both = frames[0].join(frames[1], lsuffix="_base", rsuffix="_variant", how="inner")
    sides = (both[f"{score}_{side}"].to_numpy(dtype=np.float64) for side in ("base", "variant"))
    return *sides, both["group_base"].tolist()  # type: ignore[return-value]


def _verdict(gain: Interval) -> Literal["confirmed", "rejected", "open"]:
    if not gain.valid:
        return "open"
    if gain.low > SMALLEST_GAIN:
        return "confirmed"
    return "rejected" if gain.high < SMALLEST_GAIN else "open"
