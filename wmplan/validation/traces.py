"""Road users of one future, read from its frames: who is there in each, and how those of t0 go on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import Grid
from wmplan.validation.instances import Followed, Instances, ReadOut, follow, read


@dataclass(frozen=True)
class Traces:
    """`frames` are the instances at t0 and at each of the T steps after it. `followed` are those of t0 through all of
    them. `links[t]` are those of frame t found again in frame t + 1, so that who appears later has a motion too."""

    frames: tuple[Instances, ...]
    followed: Followed
    links: tuple[Followed, ...]


def trace(
    present: Float[Tensor, "C H W"],
    occupancy: Float[Tensor, "T 2 H W"],
    velocity: Float[Tensor, "T 2 H W"],
    grid: Grid,
    how: ReadOut | None = None,
) -> Traces:
    """Read one future; `present` is the frame at t0: occupancy of both kinds, then velocity."""
    how = how or ReadOut()
    now = present.numpy()
    frames = [read(now[:2], now[2:4], grid, how)]
    frames += [read(o, v, grid, how) for o, v in zip(occupancy.numpy(), velocity.numpy())]
    links = tuple(follow(a, [b], how) for a, b in pairwise(frames))
    return Traces(tuple(frames), follow(frames[0], frames[1:], how), links)
