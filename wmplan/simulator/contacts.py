"""Oriented boxes that move: contact now, contact at some time of a motion, time to contact. NumPy or JAX arrays.

Two boxes are apart if and only if one of their four axes separates them. While both move on without turning, each axis
separates them outside one interval of time, and they touch where all four intervals meet: no motion is too fast, no box
too thin. References: Gottschalk et al. (1996), "OBBTree", section 5; Ericson (2005), "Real-Time Collision Detection",
5.5.8.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float
from numpy import ndarray

Numbers = Array | ndarray
STILL = 1e-12
"""Less motion than this along an axis is none."""


class Boxes(NamedTuple):
    """Oriented boxes: centre (m), cosine and sine of the heading, half the length and width (m)."""

    x: Float[Numbers, "*N"]
    y: Float[Numbers, "*N"]
    cos: Float[Numbers, "*N"]
    sin: Float[Numbers, "*N"]
    half_length: Float[Numbers, "*N"]
    half_width: Float[Numbers, "*N"]

    def ahead(self, metres: Float[Numbers, "*N"]) -> Boxes:
        """The boxes moved on along their headings."""
        return self._replace(x=self.x + metres * self.cos, y=self.y + metres * self.sin)

    def smaller(self, metres: Float[Numbers, "*N"]) -> Boxes:
        """The boxes with this much less on every side."""
        return self._replace(half_length=self.half_length - metres, half_width=self.half_width - metres)

    @property
    def fronts(self) -> Boxes:
        """The front edges, as boxes without a length."""
        return self.ahead(self.half_length)._replace(half_length=0.0 * self.half_length)


def touching(a: Boxes, b: Boxes) -> Bool[Numbers, "*N"]:
    """Which pairs touch or overlap."""
    dx, dy = b.x - a.x, b.y - a.y
    near = [abs(dx * axis_x + dy * axis_y) <= reach for axis_x, axis_y, reach in _axes(a, b)]
    return near[0] & near[1] & near[2] & near[3]


def touching_while(
    a: Boxes, b: Boxes, move_x: Float[Numbers, "*N"], move_y: Float[Numbers, "*N"]
) -> tuple[Float[Numbers, "*N"], Float[Numbers, "*N"]]:
    """The interval of t in which each pair touches when `b`, seen from `a`, is displaced by t times this move.

    Nobody turns. Where they never touch the interval is empty: it begins after its end.
    """
    xp = a.x.__array_namespace__()
    begins, ends = [], []
    for axis_x, axis_y, reach in _axes(a, b):
        gap = (b.x - a.x) * axis_x + (b.y - a.y) * axis_y
        rate = move_x * axis_x + move_y * axis_y
        still = abs(rate) < STILL
        inverse = 1.0 / xp.where(still, 1.0, rate)
        low, high = (-reach - gap) * inverse, (reach - gap) * inverse
        outside = abs(gap) > reach
        first = xp.where(still, xp.where(outside, np.inf, -np.inf), xp.minimum(low, high))
        last = xp.where(still, xp.where(outside, -np.inf, np.inf), xp.maximum(low, high))
        # A negative reach (a box made smaller than nothing) is never met.
        first = xp.where(reach < 0.0, np.inf, first)
        begins.append(first)
        ends.append(last)
    return reduce(xp.maximum, begins), reduce(xp.minimum, ends)


class Step(NamedTuple):
    """What happens to pairs of boxes within a step: whether they touch, and at which share of it (0 to 1) to look."""

    touch: Bool[Numbers, "*N"]
    share: Float[Numbers, "*N"]


def within_step(a: tuple[Boxes, Boxes], b: tuple[Boxes, Boxes]) -> Step:
    """Contact of pairs on their way from the first boxes to the second, centres on straight lines.

    Exact where nobody turns. Who turns by an angle D in the step is taken at the mean heading and made smaller by
    rho tan(D / 2) on every side (rho: half the diagonal), which keeps him inside his true box all the way. So no
    contact is invented, and overlooked are only grazes between two steps that are nowhere deeper than both margins
    together; a car of 5 m that turns at 0.2 rad/s has a margin of 3 cm. Contact at the end of the step is decided on
    the true boxes. `share` is the end of the step if they touch there, else the middle of the time in contact.
    """
    middles = []
    for before, after in (a, b):
        cos, sin = before.cos + after.cos, before.sin + after.sin
        # Of two unit vectors D apart the sum is 2 cos(D / 2) long, the difference 2 sin(D / 2).
        size = (cos**2 + sin**2) ** 0.5
        chord = ((after.cos - before.cos) ** 2 + (after.sin - before.sin) ** 2) ** 0.5
        rho = (before.half_length**2 + before.half_width**2) ** 0.5
        middles.append(before._replace(cos=cos / size, sin=sin / size).smaller(rho * chord / size))
    xp = a[0].x.__array_namespace__()
    move_x = (b[1].x - b[0].x) - (a[1].x - a[0].x)
    move_y = (b[1].y - b[0].y) - (a[1].y - a[0].y)
    begin, end = touching_while(middles[0], middles[1], move_x, move_y)
    begin, end = xp.maximum(begin, 0.0), xp.minimum(end, 1.0)
    now, meet = touching(a[1], b[1]), begin <= end
    middle = xp.where(meet, begin, 1.0) + xp.where(meet, end, 1.0)
    return Step(now | meet, xp.where(now, 1.0, 0.5 * middle))


def between(before: Boxes, after: Boxes, share: Float[Numbers, "*N"]) -> Boxes:
    """The boxes at this share of a step; the heading turns along the chord between both."""
    cos = before.cos + share * (after.cos - before.cos)
    sin = before.sin + share * (after.sin - before.sin)
    size = (cos**2 + sin**2) ** 0.5
    return after._replace(
        x=before.x + share * (after.x - before.x),
        y=before.y + share * (after.y - before.y),
        cos=cos / size,
        sin=sin / size,
    )


def _axes(a: Boxes, b: Boxes) -> tuple[tuple[Numbers, Numbers, Numbers], ...]:
    """The four axes, and how far the centres may be apart on each while the boxes still touch."""
    along = abs(a.cos * b.cos + a.sin * b.sin)
    across = abs(a.cos * b.sin - a.sin * b.cos)
    return (
        (a.cos, a.sin, a.half_length + b.half_length * along + b.half_width * across),
        (-a.sin, a.cos, a.half_width + b.half_length * across + b.half_width * along),
        (b.cos, b.sin, b.half_length + a.half_length * along + a.half_width * across),
        (-b.sin, b.cos, b.half_width + a.half_length * across + a.half_width * along),
    )
