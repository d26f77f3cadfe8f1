"""Coloured noise for sampling planners: neighbouring steps go together, so that candidates go somewhere."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Key
from numpy import ndarray

ZERO_FREQUENCY_SHARE = 0.25
"""Power at zero frequency over power at the lowest. Mean cost of the plan on the benchmark of `planning_peers.md` 8
(CEM, 5 x 1,024, exponent 2, start B): 21.0 at 1, 16.3 at 0.25; at 0 the mean of a control could never change."""


def coloured(key: Key[Array, ""], steps: int, channels: int, candidates: int, exponent: float) -> Float[Array, "T U K"]:
    """Gaussian noise of standard deviation exactly 1 at every step, with a power spectrum of 1 / frequency^exponent.

    Exponent 0 is white noise, 1 pink, 2 red. One matrix product shapes white noise; no Fourier transform is taken.

    References:
        Timmer and Koenig (1995); Pinneri et al. (2020), "Sample-efficient cross-entropy method for real-time
        planning" (iCEM), whose noise has a standard deviation of 1.07 to 1.19 at exponents 1 to 3.
    """
    white = jax.random.normal(key, (steps, channels * candidates))
    if exponent != 0.0:
        white = jnp.asarray(factor(steps, exponent)) @ white
    return white.reshape(steps, channels, candidates)


@functools.cache
def factor(steps: int, exponent: float) -> Float32[ndarray, "T T"]:
    """A square root of the noise's covariance; its rows have norm 1, so white noise keeps its standard deviation.

    The noise is periodic over the horizon, and zero frequency has `ZERO_FREQUENCY_SHARE` of the power of the lowest
    one: most candidates turn back to where they were heading, as a car that swerves does.
    """
    frequency = np.fft.rfftfreq(steps)
    frequency[0] = frequency[1]
    amplitude = frequency ** (-0.5 * exponent)
    amplitude[0] *= np.sqrt(ZERO_FREQUENCY_SHARE)
    # The circulant with these eigenvalues is the symmetric root of the circulant covariance.
    first = np.fft.irfft(amplitude, steps)
    rows = np.subtract.outer(np.arange(steps), np.arange(steps)) % steps
    return (first[rows] / np.linalg.norm(first)).astype(np.float32)
