"""The ego as a particle sees it: where it is, how it moves, what it does next, how hard that would make one brake.

Tokens are patches of 8 m, and a reaction depends on gaps of one metre. So each particle is told of the ego directly, in
the frame of its own direction of travel. The features are causal: of a step they hold the ego's states at its start and
at its end and nothing later, and they differ between candidates only by those.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S
from wmplan.models.lane_paths import along_paths

EGO_PARTICLE_FEATURES = 15
LANE_M = 2.0
"""Half the width of what counts as the particle's own lane."""
BODIES_M = 4.5
"""Between the middles of two cars that touch."""
TIME_GAP_S, STANDSTILL_M, COMFORT_MPS2 = 1.2, 2.0, 3.5
"""Of an ordinary driver (IDM): time gap, standstill gap, and twice the geometric mean of acceleration and braking."""


def ego_features(
    position: Float[Tensor, "B N 2"],
    along: Float[Tensor, "B N 2"],
    speed: Float[Tensor, "B N 1"],
    ego: Float[Tensor, "B 2 4"],
    way: Float[Tensor, "B N P 2"],
) -> Float[Tensor, "B N E"]:
    """What a step's ego states (x, y, yaw, v at its start and end) are to particles that travel `along` at `speed`, on
    their `way`.

    Place ahead and to the left, plain and by its logarithm; velocity and acceleration along and across. On the way:
    metres ahead; how much the ego is in it, now and at the step's end; the gap in seconds; speed along it; the wish to
    brake of an ordinary driver behind it, now and then (the IDM's squared ratio of wanted to actual gap, bounded).
    """
    now, after = ego.unbind(1)
    headings = torch.stack([torch.cos(ego[..., 2]), torch.sin(ego[..., 2])], dim=-1)
    moving = ego[..., 3:4] * headings
    velocity, accel = moving[:, 0], (moving[:, 1] - moving[:, 0]) / IMAGINED_STEP_S
    ahead, aside = _turned(now[:, None, :2] - position, along)
    vx, vy = _turned(velocity[:, None], along)
    ax, ay = _turned(accel[:, None], along)
    own = speed[..., 0]

    mine = along_paths(way, position)[0]
    at, _, across, ways = along_paths(way, now[:, None, :2])
    then_at, _, then_across, then_ways = along_paths(way, after[:, None, :2])
    gap, later = at - mine, then_at - mine - IMAGINED_STEP_S * own
    leading = (ways * velocity[:, None]).sum(-1)
    then = (then_ways * moving[:, 1][:, None]).sum(-1)
    here, there = torch.exp(-across / LANE_M**2), torch.exp(-then_across / LANE_M**2)
    return torch.stack(
        [
            (ahead / 20.0).clamp(-2.0, 2.0),
            (aside / 5.0).clamp(-3.0, 3.0),
            ahead.sign() * torch.log1p(ahead.abs()) / 3.0,
            aside.sign() * torch.log1p(aside.abs()) / 2.0,
            (vx - own) / 10.0,
            vy / 10.0,
            ax / 4.0,
            ay / 4.0,
            (gap / 20.0).clamp(-2.0, 2.0),
            here,
            there,
            here * (gap / (own + 2.0)).clamp(-3.0, 3.0),
            here * (leading - own) / 10.0,
            here * _wish(gap, own, leading),
            there * _wish(later, own, then),
        ],
        dim=-1,
    )


def _wish(ahead: Float[Tensor, "B N"], own: Float[Tensor, "B N"], leader: Float[Tensor, "B N"]) -> Tensor:
    """The square of wanted over actual gap behind somebody so far ahead, from 0 to 4; 0 beside and behind."""
    gap = (ahead - BODIES_M).clamp(min=0.5)
    wanted = STANDSTILL_M + (TIME_GAP_S * own + own * (own - leader) / COMFORT_MPS2).clamp(min=0.0)
    return (wanted / gap).square().clamp(max=4.0) * (ahead > 0.5 * BODIES_M)


def _turned(vector: Float[Tensor, "B N1 2"], along: Float[Tensor, "B N 2"]) -> tuple[Tensor, Tensor]:
    """Components along and to the left of the direction of travel."""
    ax, ay = along.unbind(-1)
    x, y = vector.unbind(-1)
    return ax * x + ay * y, ax * y - ay * x
