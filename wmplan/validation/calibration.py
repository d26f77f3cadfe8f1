"""L1, calibration: does 0.7 happen in seven of ten? Before and after one temperature that is fitted on training scenes.

The temperature divides the logit of every forecast probability: above 1 it makes the forecast less sure. It is fitted
by the likelihood of training scenes and then only applied. Scenes are kept as fine histograms of logits, so that any
temperature can be tried later; within one of the 4000 bins all cells count as its middle. What a forecast leaves surely
empty (below 1e-4) stays empty: no temperature fills a street with haze.

`std_ratio` is the standard deviation of sampled occupancy over that of the truth, before any calibration: a sampler
that inflates or collapses shows there first (the paper's was 2.4 times too wide).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from torch import Tensor

from wmplan.forecast import ECE_BINS, dynamic_cells
from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence
from wmplan.validation.layers import Gate, Layer, statistic_of

ECE_AFTER = Gate(at_most=0.02)
STD_RATIO = Gate(0.8, 1.25)
CHANNELS = ("vehicle", "vru")
_FINE = 4000
_LEAST = 1e-4
_REACH = float(logit(1.0 - _LEAST))
_MIDDLES = (np.arange(_FINE) + 0.5) / _FINE * 2.0 * _REACH - _REACH
_HIGHEST_TEMPERATURE = 20.0


@dataclass(frozen=True)
class SceneCalibration:
    """One scene: cells and true occupancy by bin of forecast logit, vehicles and VRU; sums for the standard deviations.

    `moments` are, by channel, cells, then sum and sum of squares of the sampled and of the true occupancy.
    """

    group: str
    cells: Float64[ndarray, "2 bins"]
    occupied: Float64[ndarray, "2 bins"]
    moments: Float64[ndarray, "2 5"]


def measure_calibration(evidence: Evidence, seconds: tuple[float, ...] = (1.0, 2.0, 3.0)) -> SceneCalibration:
    """Histograms of the forecast (the mean over samples) on dynamic cells, and moments of the samples themselves."""
    steps = [evidence.seconds.index(s) for s in seconds]
    counted = dynamic_cells(evidence.raster, evidence.truth)[:2, steps]
    forecast, truth = (x[steps].transpose(0, 1) for x in (evidence.mean, evidence.truth[:, :2]))
    cells, occupied = np.zeros((2, _FINE)), np.zeros((2, _FINE))
    moments = np.zeros((2, 5))
    samples = evidence.occupancy[:, steps]
    for c in range(2):
        chosen = counted[c]
        place = _bins(forecast[c][chosen].double().numpy())
        cells[c] = np.bincount(place, minlength=_FINE)
        occupied[c] = np.bincount(place, truth[c][chosen].double().numpy(), minlength=_FINE)
        sampled, real = samples[:, :, c][:, chosen].double(), truth[c][chosen].double()
        each = len(samples)
        moments[c] = [
            float(chosen.sum()), *(float(x.sum()) / each for x in (sampled, sampled**2)),
            float(real.sum()), float((real**2).sum()),
        ]  # fmt: skip
    return SceneCalibration(evidence.group, cells, occupied, moments)


def fit_temperature(rows: Sequence[SceneCalibration]) -> float:
    """The temperature with the highest likelihood on these (training) scenes; 1 where they hold nothing."""
    cells = sum((row.cells.sum(0) for row in rows), np.zeros(_FINE))
    occupied = sum((row.occupied.sum(0) for row in rows), np.zeros(_FINE))
    if not cells[1:].sum():
        return 1.0

    def bits(log_temperature: float) -> float:
        scaled = _MIDDLES[1:] / math.exp(log_temperature)
        # Without the lowest bin, which no temperature moves. -y log p - (1 - y) log (1 - p) = log(1 + exp(z)) - y z
        return float((cells[1:] * np.logaddexp(0.0, scaled) - occupied[1:] * scaled).sum())

    edge = math.log(_HIGHEST_TEMPERATURE)
    return math.exp(minimize_scalar(bits, bounds=(-edge, edge), method="bounded", options={"xatol": 1e-6}).x)


def tempered(occupancy: Float[Tensor, "*B"], temperature: float) -> Float[Tensor, "*B"]:
    """The same occupancy with its logits divided by the temperature; what is surely empty stays empty."""
    kept = occupancy.clamp(_LEAST, 1.0 - _LEAST)
    return (kept.logit() / temperature).sigmoid().where(occupancy > _LEAST, occupancy)


def summarise(rows: Sequence[SceneCalibration], seed: int, temperature: float | None = None) -> list[Measure]:
    """ECE of 15 bins before and, with a temperature fitted on training scenes, after; ratio of standard deviations."""
    measures = [statistic_of("ece, before", _gaps(rows, 1.0), _ece, rows, seed)]
    if temperature is not None:
        measures.append(statistic_of("ece, after", _gaps(rows, temperature), _ece, rows, seed, ECE_AFTER))
    for c, channel in enumerate(CHANNELS):
        moments = np.array([row.moments[c] for row in rows]).reshape(-1, 5)
        measures.append(statistic_of(f"std_ratio, {channel}", moments, _std_ratio, rows, seed, STD_RATIO))
    return measures


def layer(temperature: float | None = None) -> Layer[SceneCalibration]:
    """The layer with this temperature, fitted on training scenes."""
    return Layer("L1 calibration", measure_calibration, lambda rows, seed: summarise(rows, seed, temperature))


def _bins(p: Float64[ndarray, "N"]) -> ndarray:
    place = (logit(np.clip(p, _LEAST, 1.0 - _LEAST)) + _REACH) / (2.0 * _REACH) * _FINE
    return np.clip(place.astype(int), 0, _FINE - 1)


def _gaps(rows: Sequence[SceneCalibration], temperature: float) -> Float64[ndarray, "S N"]:
    """Of each scene, occupied minus expected cells in each bin of tempered probability; then all its cells."""
    p = expit(np.append(_MIDDLES[0], _MIDDLES[1:] / temperature))
    place = np.minimum((p * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.zeros((len(rows), ECE_BINS + 1))
    for i, row in enumerate(rows):
        cells = row.cells.sum(0)
        gaps[i, :-1] = np.bincount(place, row.occupied.sum(0) - cells * p, minlength=ECE_BINS)
        gaps[i, -1] = cells.sum()
    return gaps


def _ece(sums: Float64[ndarray, "R N"]) -> Float64[ndarray, "R"]:
    total = sums[:, -1]
    return np.divide(np.abs(sums[:, :-1]).sum(1), total, out=np.full(len(sums), np.nan), where=total > 0.0)


def _std_ratio(sums: Float64[ndarray, "R 5"]) -> Float64[ndarray, "R"]:
    count, first, first_squares, second, second_squares = np.maximum(sums, 1e-300).T
    variances = [
        squares / count - (total / count) ** 2 for total, squares in ((first, first_squares), (second, second_squares))
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(variances[0] / variances[1])
    return np.where((sums[:, 0] > 0.0) & (variances[1] > 1e-12), ratio, np.nan)
