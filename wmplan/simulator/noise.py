"""Process noise that belongs to a road user and a step, not to its place in an array or to its companions."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

STD_MPS2 = 0.25
MEMORY = 0.9
"""An AR(1) process of the drivers' acceleration, step 0.1 s."""


def after(noise: Float[Array, "*A"], seed: UInt32[Array, "*A"], step: Int[Array, ""]) -> Float[Array, "*A"]:
    """The noise one step later, m/s2; its stationary standard deviation is `STD_MPS2`, its magnitude is bounded."""
    return MEMORY * noise + (1.0 - MEMORY**2) ** 0.5 * STD_MPS2 * draw(seed, step)


def draw(seed: UInt32[Array, "*A"], step: Int[Array, ""]) -> Float[Array, "*A"]:
    """Numbers of mean 0 and variance 1, nearly normal, at most 3.5: the sum of four uniform bytes.

    References:
        O'Neill (2014), PCG: RXS-M-XS, as a hash of (seed, step).
    """
    bits = mix(seed ^ mix(jnp.uint32(0x9E3779B9) + step.astype(jnp.uint32)))
    four = (bits & 255) + ((bits >> 8) & 255) + ((bits >> 16) & 255) + (bits >> 24)
    return (four.astype(jnp.float32) - 510.0) / 147.8  # sqrt(4 (256^2 - 1) / 12)


def uniform(seed: UInt32[Array, ""], purpose: int, *shape: int) -> Float[Array, "*N"]:
    """Numbers in [0, 1) that belong to a seed and a purpose; each also to its row (the first axis), however many rows
    there are. A tenth of the instructions of a cryptographic generator, to run and above all to compile."""
    columns = 1
    for size in shape[1:]:
        columns *= size
    rows = jnp.arange(shape[0] if shape else 1, dtype=jnp.uint32)
    base = mix(seed + jnp.uint32(purpose * 0x9E3779B1 & 0xFFFFFFFF))
    of_row = mix(base ^ mix(rows + jnp.uint32(0x85EBCA6B)))
    bits = mix(of_row[:, None] + mix(jnp.arange(columns, dtype=jnp.uint32))[None])
    return ((bits >> 8).astype(jnp.float32) * 2.0**-24).reshape(shape)


def mix(value: UInt32[Array, "*A"]) -> UInt32[Array, "*A"]:
    """A number that has nothing visibly to do with `value`."""
    state = value * jnp.uint32(747796405) + jnp.uint32(2891336453)
    word = ((state >> ((state >> 28) + 4)) ^ state) * jnp.uint32(277803737)
    return (word >> 22) ^ word
