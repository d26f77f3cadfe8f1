"""Tracks and lights at the canonical step, from any native rate."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Int8
from numpy import ndarray

from wmplan.frames import wrap_angle
from wmplan.scene import STEP_S, Light, Lights, Tracks

SNAP = 1e-4
"""A wanted time this close to a native sample (in native steps) is that sample."""


def resample(tracks: Tracks, dt_s: float, t0: int, offsets: Int[ndarray, "S"]) -> Tracks:
    """The same road users at times `offsets * STEP_S` from native step `t0`, linear between native samples.

    A result is valid where both neighbouring samples are (or the one sample it falls on): nothing is extrapolated and
    no gap is bridged. Because `t0` is itself a sample, offsets up to 0 use nothing recorded after it. Yaw takes the
    short way round.
    """
    low, high, weight = neighbours(dt_s, t0, offsets)
    steps = tracks.valid.shape[1]
    inside = (low >= 0) & (high < steps)
    low, high = np.clip(low, 0, max(steps - 1, 0)), np.clip(high, 0, max(steps - 1, 0))
    valid: Bool[ndarray, "A S"] = tracks.valid[:, low] & tracks.valid[:, high] & inside
    # Zeroed first: what stands at an invalid step may be NaN, and would warn when multiplied.
    before = np.where(valid[..., None], tracks.states[:, low], 0.0)
    after = np.where(valid[..., None], tracks.states[:, high], 0.0)
    step = after - before
    step[..., 2] = wrap_angle(step[..., 2])
    states = before + weight[:, None] * step
    states[..., 2] = wrap_angle(states[..., 2])
    return Tracks(tracks.ids, tracks.kinds, tracks.sizes, states, valid)


def lights_at(lights: Lights, dt_s: float, t0: int, offsets: Int[ndarray, "S"]) -> Lights:
    """The lights at those times: the state of the last native sample before each; `UNKNOWN` beyond the recording."""
    low, high, _ = neighbours(dt_s, t0, offsets)
    steps = lights.states.shape[1]
    inside = (low >= 0) & (high < steps)
    states: Int8[ndarray, "L S"] = lights.states[:, np.clip(low, 0, max(steps - 1, 0))].copy()
    states[:, ~inside] = Light.UNKNOWN
    return Lights(lights.points, lights.lanes, states)


def neighbours(
    dt_s: float, t0: int, offsets: Int[ndarray, "S"]
) -> tuple[Int[ndarray, "S"], Int[ndarray, "S"], Float[ndarray, "S"]]:
    """Native samples before and after each wanted time, and the weight of the later one; equal where they coincide."""
    position = offsets * (STEP_S / dt_s)
    nearest = np.round(position)
    position = np.where(np.abs(position - nearest) < SNAP, nearest, position)
    floor = np.floor(position)
    weight = position - floor
    low = floor.astype(np.int64) + t0
    return low, low + (weight > 0), weight
