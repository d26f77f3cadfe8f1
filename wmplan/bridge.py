"""The one module where torch, JAX and numpy meet, once per ask and once per tell.

Inside the optimizers candidates are innermost, `(T, U, K)`, so that a step of a rollout is contiguous; everywhere else
they come first, `(K, T, U)`. The functions here change the layout with the library. Nothing is shared: JAX arrays are
immutable by contract, so what torch or numpy get is theirs to write to.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array, Float, Key, Shaped
from numpy import ndarray
from torch import Tensor

from wmplan.plans import Plans


def random_key(seed: int) -> Key[Array, ""]:
    """The JAX key of a seed from `wmplan.randomness.fold_in`. All 64 bits count: `jax.random.key` would drop half."""
    words = np.array([(seed >> 32) & 0xFFFFFFFF, seed & 0xFFFFFFFF], dtype=np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def plans_of(controls: Float[Array, "T U K"], speed: float) -> Plans:
    """The plans that an optimizer's controls become: clipped, rounded to the grid of controls and rolled."""
    return Plans.from_controls(controls_to_numpy(controls), speed)


def controls_to_numpy(controls: Float[Array, "T U K"]) -> Float[ndarray, "K T U"]:
    """Controls with the candidates first, as a writable numpy copy."""
    return np.array(np.asarray(controls).transpose(2, 0, 1), dtype=np.float32, order="C")


def controls_to_jax(controls: Float[ndarray, "K T U"]) -> Float[Array, "T U K"]:
    """Controls with the candidates innermost, as float32."""
    return jnp.asarray(np.array(controls.transpose(1, 2, 0), dtype=np.float32, order="C"))


def costs_to_jax(costs: Float[ndarray, "K"] | Float[Tensor, "K"]) -> Float[Array, "K"]:
    """Costs as float32. NaN and -inf become +inf: a broken cost must never win (`argmin` would return a NaN)."""
    exact = costs.detach().cpu().numpy() if isinstance(costs, Tensor) else costs
    with np.errstate(over="ignore"):
        single = np.asarray(exact, dtype=np.float32)
    return jnp.asarray(np.where(np.isfinite(single), single, np.float32(np.inf)))


def tensor_to_jax(tensor: Shaped[Tensor, "..."]) -> Shaped[Array, "..."]:
    """The tensor's values as a JAX array on JAX's default device, handed over by DLPack; no gradient goes with them."""
    values = tensor.detach().contiguous()
    if values.device.type != jax.default_backend():
        values = values.cpu()
    # Torch may write to its tensor later; a copy keeps the JAX array immutable.
    return jnp.array(jax.dlpack.from_dlpack(values), copy=True)


def jax_to_tensor(array: Shaped[Array, "..."]) -> Shaped[Tensor, "..."]:
    """The array's values as a tensor on the same device, handed over by DLPack; a copy, so it may be written to."""
    return torch.from_dlpack(array).clone()
