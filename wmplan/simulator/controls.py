"""Controls of candidates as the simulators take them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from wmplan import bicycle
from wmplan.errors import InputError


def checked(controls: ndarray) -> Float32[ndarray, "K T 2"]:
    """The controls: acceleration (m/s2) and curvature (1/m) of K candidates at T steps.

    Raises:
        InputError: another shape, no step, controls that are not finite, or beyond the bicycle's bounds.
    """
    controls = np.asarray(controls, dtype=np.float32)
    if controls.ndim != 3 or controls.shape[2] != 2 or not controls.shape[1]:
        raise InputError(f"controls: shape {controls.shape}, expected (K, T, 2) with T of 1 or more")
    bad = np.argwhere(~np.isfinite(controls))
    if len(bad):
        k, t, u = (int(i) for i in bad[0])
        raise InputError(f"controls[{k}, {t}, {u}]: {controls[k, t, u]}, expected a finite number")
    for u, (name, bound) in enumerate(
        (("acceleration", bicycle.MAX_ACCEL_MPS2), ("curvature", bicycle.MAX_CURVATURE_PM))
    ):
        far = np.argwhere(np.abs(controls[..., u]) > bound * (1.0 + 1e-6))
        if len(far):
            k, t = (int(i) for i in far[0])
            raise InputError(f"controls[{k}, {t}]: {name} {controls[k, t, u]:g}, expected at most {bound:g}")
    return controls
