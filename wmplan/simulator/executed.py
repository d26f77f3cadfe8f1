"""K candidates as they were executed on a road of the simulator: what is judged, and what is drawn."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int
from numpy import ndarray

Numbers = Array | ndarray


class Executed(NamedTuple):
    """K executed candidates at S moments, `STEP_S` apart, the first the present; A rows, row 0 the ego.

    Map or scene frame, metres, m/s: the boxes' centres, cosine and sine of their headings, speeds along them. `active`
    tells who is there. `route`, `s` and `lateral` place the ego along its route (to the left is positive). `red` is
    true where the ego's front passed a red line in the step that led to the moment.
    """

    x: Float[Numbers, "S K A"]
    y: Float[Numbers, "S K A"]
    cos: Float[Numbers, "S K A"]
    sin: Float[Numbers, "S K A"]
    speed: Float[Numbers, "S K A"]
    active: Bool[Numbers, "S K A"]
    length: Float[Numbers, "A"]
    width: Float[Numbers, "A"]
    kind: Int[Numbers, "A"]
    route: Int[Numbers, "S K"]
    s: Float[Numbers, "S K"]
    lateral: Float[Numbers, "S K"]
    red: Bool[Numbers, "S K"]

    @property
    def ego(self) -> Float64[ndarray, "K S 4"]:
        """x, y, yaw, speed of the ego under each candidate, as `wmplan.plans.Plans` has them."""
        x, y, cos, sin, speed = (np.asarray(field)[..., 0].T.astype(np.float64) for field in self[:5])
        return np.stack([x, y, np.arctan2(sin, cos), speed], axis=-1)

    @property
    def finite(self) -> Bool[ndarray, "K"]:
        """The candidates under which everyone's motion is a number."""
        return np.asarray(_finite(*self[:6], self.s, self.lateral))

    def only(self, kept: Bool[ndarray, "K"]) -> Executed:
        """The same with zeros in place of all numbers of the other candidates."""
        if kept.all():
            return self
        numbers = {n: getattr(self, n) for n in ("x", "y", "cos", "sin", "speed", "s", "lateral")}
        return self._replace(**{n: np.where(kept[:, None] if v.ndim == 3 else kept, v, 0) for n, v in numbers.items()})

    def numpy(self) -> Executed:
        """The same in host memory."""
        return Executed(*(np.asarray(field) for field in self))

    def select(self, candidates: ndarray | list[int] | slice) -> Executed:
        """These candidates, in this order."""
        sizes = {"length", "width", "kind"}
        return self._replace(**{n: getattr(self, n)[:, candidates] for n in self._fields if n not in sizes})


@jax.jit
def _finite(
    x: Array, y: Array, cos: Array, sin: Array, speed: Array, active: Array, s: Array, lateral: Array
) -> Bool[Array, "K"]:
    motion = jnp.isfinite(x + y + cos + sin + speed) | ~active
    return jnp.all(motion, axis=(0, 2)) & jnp.all(jnp.isfinite(s + lateral), axis=0)
