"""Comfort of a motion by nuPlan's bounds and filters, vectorised and independent of how many motions are asked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.signal import savgol_filter

from wmplan.plans import Plans, Start
from wmplan.scene import STEP_S

MIN_SAMPLES = 6
"""Fewest samples that the filters take: the window of five and one more."""


@dataclass(frozen=True)
class ComfortSignals:
    """Filtered signals, SI units: what nuPlan compares with its bounds."""

    lon_accel: Float[ndarray, "K N"]
    lat_accel: Float[ndarray, "K N"]
    yaw_rate: Float[ndarray, "K N"]
    yaw_accel: Float[ndarray, "K N"]
    lon_jerk: Float[ndarray, "K N"]
    jerk: Float[ndarray, "K N"]


BOUNDS: dict[str, tuple[float, float]] = {
    "lon_accel": (-4.05, 2.40),
    "lat_accel": (-4.89, 4.89),
    "yaw_rate": (-0.95, 0.95),
    "yaw_accel": (-1.93, 1.93),
    "lon_jerk": (-4.13, 4.13),
    "jerk": (-8.37, 8.37),
}
"""Strict bounds of each signal; `jerk` is the derivative of the magnitude of acceleration."""


def comfort_signals(
    yaw: Float[ndarray, "K N"], lon_accel: Float[ndarray, "K N"], lat_accel: Float[ndarray, "K N"], dt_s: float
) -> ComfortSignals:
    """The six filtered signals of K motions sampled every `dt_s`.

    The windows are nuPlan's as they run, not as they are declared: accelerations 8 (even), jerk 15 on the filtered
    acceleration, yaw rate and yaw acceleration 5, the latter with a cubic. They shrink with a short motion, so comfort
    depends on the length of what is judged.

    Raises:
        ValueError: fewer than `MIN_SAMPLES` samples.
    References:
        `motional/nuplan-devkit`, `planning/metrics/utils/state_extractors.py`; `reference/evaluation.md` 1.1.
    """
    n = yaw.shape[1]
    if n < MIN_SAMPLES:
        raise ValueError(f"comfort_signals: {n} samples, expected at least {MIN_SAMPLES}")
    lon_accel, lat_accel = (np.ascontiguousarray(a, dtype=np.float64) for a in (lon_accel, lat_accel))
    magnitude = np.sqrt(lon_accel**2 + lat_accel**2)
    unwrapped = np.unwrap(np.ascontiguousarray(yaw, dtype=np.float64), axis=1)
    smooth = (n, min(8, n), 2, 0, dt_s)
    slope = (n, min(15, n), 2, 1, dt_s)
    lon = _apply(lon_accel, *smooth)
    return ComfortSignals(
        lon_accel=_round(lon),
        lat_accel=_round(_apply(lat_accel, *smooth)),
        yaw_rate=_round(_apply(unwrapped, n, 5, 2, 1, dt_s)),
        yaw_accel=_round(_apply(unwrapped, n, 5, 3, 2, dt_s)),
        lon_jerk=_round(_apply(lon, *slope)),
        jerk=_round(_apply(_apply(magnitude, *smooth), *slope)),
    )


def plan_signals(plans: Plans, start: Start) -> ComfortSignals:
    """The signals of plans, the present acceleration and curvature first, so that a jump away from them counts."""
    controls = plans.controls.astype(np.float64)
    states = plans.states.astype(np.float64)
    rows = len(plans)
    lon = np.concatenate([np.full((rows, 1), start.accel), controls[:, :, 0]], axis=1)
    curvature = np.concatenate([np.full((rows, 1), start.curvature), controls[:, :, 1]], axis=1)
    # A car that has stopped no longer decelerates, whatever the control still says.
    lon[:, 1:] = np.where((states[:, 1:, 3] <= 0.0) & (states[:, :-1, 3] <= 0.0), 0.0, lon[:, 1:])
    return comfort_signals(states[:, :, 2], lon, states[:, :, 3] ** 2 * curvature, STEP_S)


def comfortable(signals: ComfortSignals) -> Bool[ndarray, "K"]:
    """Which motions stay strictly inside every bound at every sample."""
    inside = np.ones(len(signals.yaw_rate), dtype=bool)
    for field in fields(signals):
        values = getattr(signals, field.name)
        low, high = BOUNDS[field.name]
        inside &= ((values > low) & (values < high)).all(axis=1)
    return inside


def discomfort(signals: ComfortSignals, cap: float = 4.0) -> Float[ndarray, "K"]:
    """Mean over signals and time of (signal / bound)^2, each sample capped: smooth where `comfortable` is flat."""
    total = np.zeros(len(signals.yaw_rate))
    for field in fields(signals):
        values = getattr(signals, field.name)
        low, high = BOUNDS[field.name]
        total = total + _mean_time(np.minimum((values / np.where(values < 0.0, low, high)) ** 2, cap))
    return total / len(fields(signals))


def _mean_time(values: Float[ndarray, "K N"]) -> Float[ndarray, "K"]:
    """Mean over time, added in one fixed order, so that a row does not depend on its companions."""
    total = np.zeros(len(values))
    for t in range(values.shape[1]):
        total = total + values[:, t]
    return total / values.shape[1]


@lru_cache(maxsize=64)
def _operator(n: int, window: int, order: int, deriv: int, dt_s: float) -> ndarray:
    """SciPy's Savitzky-Golay filter of `n` samples as a matrix: column j is the answer to a unit sample at j."""
    return savgol_filter(np.eye(n), window, order, deriv=deriv, delta=dt_s, axis=0)


def _apply(values: ndarray, n: int, window: int, order: int, deriv: int, dt_s: float) -> ndarray:
    # Diagonal by diagonal, not as a matrix product: BLAS blocks over K, so the last bit depends on how many rows come.
    # Time comes first, so that what is added lies in one piece of memory.
    operator = _operator(n, window, order, deriv, dt_s)
    columns = np.ascontiguousarray(values.T)
    out = np.zeros_like(columns)
    for ahead in range(1 - window, window):
        here = slice(max(0, -ahead), n - max(0, ahead))
        there = slice(max(0, ahead), n - max(0, -ahead))
        out[here] += columns[there] * np.diagonal(operator, ahead)[:, None]
    return np.ascontiguousarray(out.T)


def _round(values: ndarray) -> ndarray:
    return np.round(values, 8)
