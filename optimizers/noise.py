"""Coloured noise for sampling planners: neighbouring steps go together, so that candidates go somewhere."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Key
from numpy import ndarray


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
    """A square root of the noise's covariance; its rows have norm 1.

    The covariance is the one of a periodic process of twice the length, so the last step does not resemble the first.
    The lowest frequency of the spectrum stands in for frequency zero.
    """
    period = 2 * steps
    frequency = np.fft.rfftfreq(period)
    frequency[0] = frequency[1]
    covariance = np.fft.irfft(frequency**-exponent, period)[:steps]
    covariance /= covariance[0]
    rows = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    root = np.linalg.cholesky(covariance[rows] + 1e-9 * np.eye(steps))
    return (root / np.linalg.norm(root, axis=1, keepdims=True)).astype(np.float32)
