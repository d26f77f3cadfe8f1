"""What a candidate's terms depend on, as one key of 32 bytes."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from wmplan.plans import Plans

KEY_BYTES = 32
FORMAT = b"wmplan-terms-1"
"""Changes with the meaning of a stored row, so that an older cache is never misread."""


@dataclass(frozen=True)
class KeyParts:
    """Everything but the candidate that its terms depend on.

    `model`, `critic` and `raster` are content digests; `noise_seed` and `samples` are the noise bank's; `horizon` is in
    imagined steps; `precision` names the arithmetic ("float32"), for another gives other bytes.
    """

    model: str
    critic: str
    raster: str
    noise_seed: int
    samples: int
    horizon: int
    precision: str = "float32"


def term_keys(parts: KeyParts, plans: Plans) -> list[bytes]:
    """One key a candidate: blake2b over the parts, the start state and the controls' bytes.

    Plans round their controls to a grid before anything is rolled, so equal content means equal bytes. Every text is
    preceded by its length: no two different parts write the same bytes.
    """
    head = hashlib.blake2b(FORMAT, digest_size=KEY_BYTES)
    for text in (parts.model, parts.critic, parts.raster, parts.precision):
        data = text.encode()
        head.update(struct.pack("<Q", len(data)))
        head.update(data)
    head.update(struct.pack("<QQQQ", parts.noise_seed, parts.samples, parts.horizon, plans.controls.shape[1]))
    controls = np.ascontiguousarray(plans.controls, dtype="<f4") + np.float32(0.0)  # -0.0 and 0.0 are one control
    starts = np.ascontiguousarray(plans.states[:, 0], dtype="<f4") + np.float32(0.0)
    keys = []
    for start, control in zip(starts, controls, strict=True):
        one = head.copy()
        one.update(start.tobytes())
        one.update(control.tobytes())
        keys.append(one.digest())
    return keys
