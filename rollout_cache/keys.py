"""What a candidate's terms depend on, as one key of 32 bytes."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from rollout_cache.rows import PLAN_BYTES
from wmplan.plans import Plans

SHARD_BYTES = 16
KEY_BYTES = SHARD_BYTES + PLAN_BYTES
FORMAT = b"wmplan-terms-2"
"""Changes with the meaning of a stored row, so that an older cache is never misread."""


@dataclass(frozen=True)
class KeyParts:
    """Everything but the candidate that its terms depend on.

    `model`, `critic` and `raster` are content digests: of the weights of dynamics and tokenizer and the code that
    imagines with them; of the critics' settings and fitted state; of everything that is drawn of a scene, the grid and
    the start among it. `noise_seed` and `samples` are the noise bank's; `horizon` is in imagined steps; `precision`
    names the arithmetic ("float32"), for another gives other bytes.
    """

    model: str
    critic: str
    raster: str
    noise_seed: int
    samples: int
    horizon: int
    precision: str = "float32"


def term_keys(parts: KeyParts, plans: Plans) -> list[bytes]:
    """One key a candidate: 16 bytes that name the parts (all candidates of a scene lie in one shard of the store), then
    16 that name start state and controls.

    Plans round their controls to a grid before anything is rolled, so equal content means equal bytes. Every text is
    preceded by its length: no two different parts write the same bytes.
    """
    shard = shard_key(parts)
    controls = np.ascontiguousarray(plans.controls, dtype="<f4") + np.float32(0.0)  # -0.0 and 0.0 are one control
    starts = np.ascontiguousarray(plans.states[:, 0], dtype="<f4") + np.float32(0.0)
    steps = struct.pack("<Q", controls.shape[1])
    keys = []
    for start, control in zip(starts, controls, strict=True):
        plan = hashlib.blake2b(steps + start.tobytes() + control.tobytes(), digest_size=PLAN_BYTES)
        keys.append(shard + plan.digest())
    return keys


def shard_key(parts: KeyParts) -> bytes:
    """The first half of the keys of all candidates that share these parts."""
    head = hashlib.blake2b(FORMAT, digest_size=SHARD_BYTES)
    for text in (parts.model, parts.critic, parts.raster, parts.precision):
        data = text.encode()
        head.update(struct.pack("<Q", len(data)))
        head.update(data)
    head.update(struct.pack("<QQQ", parts.noise_seed, parts.samples, parts.horizon))
    return head.digest()
