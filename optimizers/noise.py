"""Coloured noise for sampling planners: neighbouring steps go together, so that candidates go somewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Key
from numpy import ndarray

ZERO_FREQUENCY_SHARE = 0.25
"""Power at zero frequency over power at the lowest. Mean cost of the plan on the benchmark of `planning_peers.md` 8
(CEM, 5 x 1,024, exponent 2, start B): 21.0 at 1, 16.3 at 0.25; at 0 the mean of a control could never change."""
POWER_KEPT = 0.95
"""Share of the power that is drawn; the highest frequencies beyond it are left out, and so are their random numbers:
25 of 40 numbers at exponent 2 and 40 steps, none at exponent 0."""
SMALLEST = float(np.nextafter(np.float32(-1.0), np.float32(0.0)))


def coloured(key: Key[Array, ""], steps: int, channels: int, candidates: int, exponent: float) -> Float[Array, "T U K"]:
    """Gaussian noise of standard deviation exactly 1 at every step, with a power spectrum of 1 / frequency^exponent.

    Exponent 0 is white noise, 1 pink, 2 red. One matrix product shapes white noise; no Fourier transform is taken.
    Candidate 0 is drawn as zero: it is the mean that the others are scattered around.

    References:
        Timmer and Koenig (1995); Pinneri et al. (2020), "Sample-efficient cross-entropy method for real-time
        planning" (iCEM), whose noise has a standard deviation of 1.07 to 1.19 at exponents 1 to 3.
    """
    if exponent == 0.0:
        white = _apart(key, lambda: normals(key, (steps, channels * candidates)))
        return white.reshape(steps, channels, candidates).at[:, :, 0].set(0.0)
    shape = factor(steps, exponent)
    modes = shape.shape[1]
    # Two words of a block lie half of all rows apart: with an odd number they would share a row, which is slower.
    even = np.pad(shape, ((0, 0), (0, modes % 2)))
    # The product also keeps XLA from fusing the draws with what follows, which would make them five times slower.
    shaped = jnp.asarray(even) @ normals(key, (even.shape[1], channels * candidates))
    return shaped.reshape(steps, channels, candidates).at[:, :, 0].set(0.0)


def normals(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "R N"]:
    """Standard normal draws from threefry, both words of every block used; `jax.random.normal` throws one away (1.5 x
    the time on a CPU)."""
    count = jnp.arange(shape[0] * shape[1], dtype=jnp.uint32)
    bits = jax.extend.random.threefry_2x32(jax.random.key_data(key), count)
    # The 23 high bits become the mantissa of a number in [1, 2).
    unit = jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32) - 1.0
    uniform = jnp.maximum(unit * (1.0 - SMALLEST) + SMALLEST, SMALLEST)
    return (np.float32(np.sqrt(2.0)) * jax.lax.erf_inv(uniform)).reshape(shape)


def _apart(key: Key[Array, ""], draw: Callable[[], Array]) -> Array:
    """What is drawn, in a branch of its own: XLA would fuse the draws with what follows, five times slower, and a
    branch is a border that it keeps. The condition always holds, which XLA does not know."""
    always = jax.lax.population_count(jax.random.key_data(key)[0]) <= 32
    return jax.lax.cond(always, draw, lambda: jnp.zeros(jax.eval_shape(draw).shape))


@functools.cache
def factor(steps: int, exponent: float) -> Float32[ndarray, "T R"]:
    """A root of the noise's covariance, a column a mode; its rows have norm 1, so white noise keeps its deviation.

    The noise is periodic over the horizon, and zero frequency has `ZERO_FREQUENCY_SHARE` of the power of the lowest
    one: most candidates turn back to where they were heading, as a car that swerves does.
    """
    frequency = np.fft.rfftfreq(steps)
    frequency[0] = frequency[1]
    power = frequency**-exponent
    power[0] *= ZERO_FREQUENCY_SHARE
    angle = 2.0 * np.pi * np.outer(np.arange(steps), np.arange(len(power))) / steps
    # A frequency between zero and the highest one has a cosine and a sine of equal power, so every step has the same.
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    waves[:, 0, 1] = 0.0
    both = np.full(len(power), 2.0)
    both[0] = 1.0
    if steps % 2 == 0:
        waves[:, -1, 1] = 0.0
        both[-1] = 1.0
    kept = int(np.searchsorted(np.cumsum(both * power), POWER_KEPT * (both * power).sum())) + 1
    columns = (waves * np.sqrt(both * power)[None, :, None])[:, :kept].reshape(steps, -1)
    columns = columns[:, np.abs(columns).max(axis=0) > 0.0]
    return (columns / np.linalg.norm(columns, axis=1, keepdims=True)).astype(np.float32)
