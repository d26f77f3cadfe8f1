"""How good imagined occupancy is, scene by scene, against what really followed: the first validation layer (L1).

Everything is counted within a scene first; scenes are then pooled or averaged under a scene bootstrap. Only cells that
the log says something of (`observed`) count. The forecast is the mean over the M imagined samples.

IoU compares what is above a threshold; a pedestrian is smaller than a cell of the coarse grids and seldom reaches it,
so that there `soft_iou` (sum of min(p, y) over sum of max(p, y)) is the figure to read. Brier score and NLL take the
drawn coverage as the truth, on the cells where the log has or had something within two cells (the same cells for every
model): the NLL of a perfect forecast is the entropy of the soft edges, not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Grid, SceneRaster, WorldModel
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import draw_dynamic
from wmplan.scene import Scene
from wmplan.statistics import Interval, bootstrap_mean, bootstrap_ratio, paired_bootstrap, paired_ratio_bootstrap
from wmplan.statistics.precision import average_precisions

CHANNELS = ("vehicle", "vru", "any")
ECE_BINS = 15
SCORES = ("iou", "soft_iou", "auc_pr", "brier", "nll")
_PRESENT = 0.05
_LEAST = 1e-4
"""Probabilities are kept this far from 0 and 1 in the NLL: a single sure error costs 13 bits, not infinity."""


@dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """What is compared."""

    seconds: tuple[float, ...] = (1.0, 2.0, 3.0)
    """horizons, seconds after t0, multiples of 0.5"""
    threshold: float = 0.5
    """occupancy above this counts as occupied, in forecast and truth"""


@dataclass(frozen=True)
class Calibration:
    """Sums within the bins of forecast probability, over channels and horizons of one scene."""

    cells: Float64[ndarray, "bins"]
    confidence: Float64[ndarray, "bins"]
    frequency: Float64[ndarray, "bins"]


@dataclass(frozen=True)
class SceneForecast:
    """One scene's counts for one model; arrays are (channel, horizon) in the order of `CHANNELS` and the config."""

    scene_id: str
    group: str
    model: str
    seconds: tuple[float, ...]
    intersection: Float64[ndarray, "C T"]
    union: Float64[ndarray, "C T"]
    soft_intersection: Float64[ndarray, "C T"]
    soft_union: Float64[ndarray, "C T"]
    brier: Float64[ndarray, "C T"]
    """sum of squared errors"""
    nll: Float64[ndarray, "C T"]
    """sum of bits"""
    cells: Float64[ndarray, "C T"]
    auc_pr: Float64[ndarray, "C T"]
    """area under the precision-recall curve over the observed cells; NaN where nothing is occupied in truth"""
    calibration: Calibration


def score(
    model: WorldModel,
    raster: SceneRaster,
    truth: Float[Tensor, "T 5 H W"],
    plans: Plans,
    noise: NoiseBank,
    group: str = "",
    config: ForecastConfig = ForecastConfig(),
) -> SceneForecast:
    """The model's forecast of a scene given one plan (what the ego really did), against `rasterize_future`."""
    imagined = model.imagine(model.encode(raster), plans, noise)
    return score_frames(model.name, raster, imagined.occupancy[0].mean(0), truth, group, config)


def score_frames(
    name: str,
    raster: SceneRaster,
    forecast: Float[Tensor, "T 2 H W"],
    truth: Float[Tensor, "T 5 H W"],
    group: str = "",
    config: ForecastConfig = ForecastConfig(),
) -> SceneForecast:
    """Any forecast of occupancy (vehicles, VRU) at t0 + 0.5 s, 1 s, ..., against `rasterize_future`.

    Raises:
        ValueError: if forecast or truth is shorter than the longest horizon.
    """
    steps = [round(s / IMAGINED_STEP_S) - 1 for s in config.seconds]
    if max(steps) >= min(len(forecast), len(truth)):
        raise ValueError(
            f"forecast has {len(forecast)} steps and truth {len(truth)}, expected {max(steps) + 1} for {config.seconds}"
        )
    p = _with_any(forecast[steps]).double()
    y = _with_any(truth[steps, :2]).double()
    observed = (truth[steps, 4] > 0.5).double()[None]
    p, y = p * observed, y * observed
    hard_p, hard_y = p > config.threshold, y > config.threshold
    counted = dynamic_cells(raster, truth)[:, steps].double()
    q = p.clamp(_LEAST, 1.0 - _LEAST)
    bits = -(y * torch.log2(q) + (1.0 - y) * torch.log2(1.0 - q))

    def total(cells: Tensor) -> Float64[ndarray, "C T"]:
        return cells.double().sum((-1, -2)).numpy()

    return SceneForecast(
        scene_id=raster.scene_id,
        group=group or raster.scene_id,
        model=name,
        seconds=config.seconds,
        intersection=total(hard_p & hard_y),
        union=total(hard_p | hard_y),
        soft_intersection=total(torch.minimum(p, y)),
        soft_union=total(torch.maximum(p, y)),
        brier=total((p - y) ** 2 * counted),
        nll=total(bits * counted),
        cells=total(counted),
        auc_pr=average_precisions(*(x.flatten(2).numpy() for x in (hard_y, p, (observed > 0.0).expand_as(p)))),
        calibration=_calibration(p[:2], y[:2], counted[:2].expand_as(p[:2])),
    )


def dynamic_cells(raster: SceneRaster, truth: Float[Tensor, "T 5 H W"]) -> Bool[Tensor, "3 T H W"]:
    """Cells, by channel, that are observed and where the log has or had something within two cells, at t0 or after."""
    ever = _with_any(torch.cat([raster.history[-1:, :2], truth[:, :2]])).amax(1) > _PRESENT
    around = torch.nn.functional.max_pool2d(ever.float()[:, None], 5, stride=1, padding=2)[:, 0] > 0.0
    return around[:, None] & (truth[:, 4] > 0.5)[None]


def box_constant_velocity(scene: Scene, grid: Grid, steps: int) -> Float32[Tensor, "T 2 H W"]:
    """Occupancy of the tracks of t0 moved on as boxes at constant velocity and heading.

    What a forecast from tracks reaches, beside forecasts from rasters: it knows sizes and suffers no resampling.
    """
    now = np.asarray(scene.agents.states[:, -1], dtype=np.float32)
    seconds = (IMAGINED_STEP_S * np.arange(1, steps + 1, dtype=np.float32))[:, None, None]
    states = np.broadcast_to(now, (steps, *now.shape)).copy()
    states[..., :2] += seconds * now[:, 3:5]
    return draw_dynamic(
        torch.from_numpy(states)[None],
        torch.from_numpy(np.asarray(scene.agents.sizes, dtype=np.float32))[None],
        torch.from_numpy(scene.agents.kinds.astype(np.int64))[None],
        torch.from_numpy(np.broadcast_to(scene.agents.valid[:, -1], (steps, len(scene.agents))).copy())[None],
        grid,
    )[0, :, :2]


def table(forecasts: Sequence[SceneForecast]) -> pd.DataFrame:
    """One row per scene, model, channel and horizon: counts, and the scores (NaN where the channel is absent)."""
    rows = []
    for one in forecasts:
        for c, channel in enumerate(CHANNELS):
            for t, seconds in enumerate(one.seconds):
                rows.append(
                    {
                        "scene_id": one.scene_id,
                        "group": one.group,
                        "model": one.model,
                        "channel": channel,
                        "seconds": seconds,
                        "intersection": one.intersection[c, t],
                        "union": one.union[c, t],
                        "iou": _share(one.intersection[c, t], one.union[c, t]),
                        "soft_intersection": one.soft_intersection[c, t],
                        "soft_union": one.soft_union[c, t],
                        "soft_iou": _share(one.soft_intersection[c, t], one.soft_union[c, t]),
                        "cells": one.cells[c, t],
                        "auc_pr": one.auc_pr[c, t],
                        "brier": _share(one.brier[c, t], one.cells[c, t]),
                        "nll": _share(one.nll[c, t], one.cells[c, t]),
                    }
                )
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame, seed: int, *, by_group: bool = True) -> pd.DataFrame:
    """One row per model, channel, horizon and score, with 95 % intervals from drawing scenes (or whole groups) again.

    `pooled_iou` is the sum of intersections over the sum of unions; the other scores are means over scenes.
    """
    rows = []
    for (model, channel, seconds), part in frame.groupby(["model", "channel", "seconds"], sort=False):
        groups = part["group"].tolist() if by_group else None
        key = {"model": model, "channel": channel, "seconds": seconds}
        pooled = bootstrap_ratio(_column(part, "intersection"), _column(part, "union"), seed, groups=groups)
        rows.append(key | _interval("pooled_iou", pooled, int((part["union"] > 0).sum())))
        for name in SCORES:
            found = bootstrap_mean(_column(part, name), seed, groups=groups)
            rows.append(key | _interval(name, found, int(part[name].notna().sum())))
    return pd.DataFrame(rows)


def compare(frame: pd.DataFrame, first: str, second: str, seed: int, *, by_group: bool = True) -> pd.DataFrame:
    """Score of `first` minus score of `second` on the scenes that both have, with paired 95 % intervals.

    A scene that only one of them has is left out and counted in `unpaired`.

    Raises:
        ValueError: if the frame has no row of one of them.
    """
    for name in (first, second):
        if not (frame["model"] == name).any():
            raise ValueError(f"compare: no forecast of {name}, expected one of {sorted(frame['model'].unique())}")
    keys = ["scene_id", "group", "channel", "seconds"]
    a, b = (frame[frame["model"] == name].drop(columns="model") for name in (first, second))
    both = a.merge(b, on=keys, suffixes=("_a", "_b"), validate="one_to_one")
    unpaired = len(set(a["scene_id"]) ^ set(b["scene_id"]))
    rows = []
    for (channel, seconds), part in both.groupby(["channel", "seconds"], sort=False):
        groups = part["group"].tolist() if by_group else None
        key = {"first": first, "second": second, "channel": channel, "seconds": seconds, "unpaired": unpaired}
        sides = [(_column(part, f"intersection_{s}"), _column(part, f"union_{s}")) for s in "ab"]
        pooled = paired_ratio_bootstrap(sides[0], sides[1], seed, groups=groups)
        rows.append(key | _interval("pooled_iou", pooled, len(part)))
        for name in SCORES:
            values = _column(part, f"{name}_a"), _column(part, f"{name}_b")
            found = paired_bootstrap(*values, seed, groups=groups)
            rows.append(key | _interval(name, found, int((~np.isnan(values[0] - values[1])).sum())))
    return pd.DataFrame(rows)


def expected_calibration_error(forecasts: Sequence[SceneForecast]) -> float:
    """Sum over 15 bins of share of cells in the bin times |frequency - confidence|, all scenes; NaN without."""
    cells, confidence, frequency = (
        np.sum([getattr(one.calibration, name) for one in forecasts], axis=0)
        for name in ("cells", "confidence", "frequency")
    )
    return float(np.abs(frequency - confidence).sum() / cells.sum()) if cells.sum() else float("nan")


# ------------------------------------------------------------------------------------------------------ details


def _with_any(occupancy: Float[Tensor, "T 2 H W"]) -> Float[Tensor, "3 T H W"]:
    return torch.cat([occupancy, occupancy.amax(1, keepdim=True)], dim=1).transpose(0, 1)


def _calibration(p: Tensor, y: Tensor, counted: Tensor) -> Calibration:
    chosen = counted > 0
    confidence, frequency = p[chosen].numpy(), y[chosen].numpy()
    place: Int[ndarray, "N"] = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)

    def binned(weights: ndarray) -> ndarray:
        return np.bincount(place, weights, minlength=ECE_BINS).astype(np.float64)

    return Calibration(binned(np.ones(len(place))), binned(confidence), binned(frequency))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _column(frame: pd.DataFrame, name: str) -> Float64[ndarray, "S"]:
    return frame[name].to_numpy(dtype=np.float64)


def _interval(score: str, interval: Interval, scenes: int) -> dict[str, object]:
    return {
        "score": score,
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "scenes": scenes,
        "reason": interval.reason,
    }
