"""Occupied cells of the present as particles: carried, not re-warped, so nothing blurs from step to step.

A raster that is warped by its velocity again and again spreads a little at each step. Particles are seeded once, keep
their mass and identity, and each imagined frame is one splat of where they are by then: with no residual that is
exactly the one-shot constant-velocity forecast at every horizon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Grid
from wmplan.models.baselines import PARTICLE_OCCUPANCY
from wmplan.models.lane_paths import lane_paths
from wmplan.models.warp import at_cells, cell_centres, splat

MATCH_OCCUPANCY = 0.1
"""An earlier frame shows a particle where it has at least this occupancy: below, cells may carry no velocity."""
LANES = 32
"""Particles come in multiples of so many. Vectorised sines and exponentials round otherwise in what is left over after
the last full vector; without a rest, a rollout has the same bytes however many rollouts stand beside it."""
MAX_ACCEL = 8.0
"""Bound on accelerations read off the history, m/s2: beyond it the match is wrong, not the driver."""
NEIGHBOURHOOD_M = 3.0
"""A particle's body is looked for within so much to each side."""


@dataclass(frozen=True)
class Particles:
    """N particles of each of B rollouts, scene frame. `mass` is vehicle and VRU occupancy, 0 for padding.

    `offset` points from the centre of the particle's body (its neighbours of like velocity) to the particle: what a
    turning body needs in order to rotate. `memory` is what the history said at the seed: acceleration over 0.5 s and
    over 1 s (x, y each, m/s2) and whether each was found. `way` is the path ahead along the lanes, from where it was
    seeded.
    """

    position: Float[Tensor, "B N 2"]
    velocity: Float[Tensor, "B N 2"]
    mass: Float[Tensor, "B N 2"]
    offset: Float[Tensor, "B N 2"]
    memory: Float[Tensor, "B N 6"]
    way: Float[Tensor, "B N P 2"]

    def expand(self, rollouts: int) -> Particles:
        """Every scene's particles for this many rollouts each, rollouts of a scene side by side; no copy for one."""
        if rollouts == 1:
            return self
        return Particles(*(x.repeat_interleave(rollouts, dim=0) for x in self.tensors))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors, in the order of the fields."""
        return self.position, self.velocity, self.mass, self.offset, self.memory, self.way

    def moved(self, seconds: float = IMAGINED_STEP_S) -> Particles:
        """The same particles after moving on at constant velocity."""
        return replace(self, position=self.position + seconds * self.velocity)

    def steered(
        self, accel: Float[Tensor, "B N 2"], turn: Float[Tensor, "B N"], seconds: float = IMAGINED_STEP_S
    ) -> Particles:
        """The particles after a step with this acceleration (m/s2) and this rotation of their bodies (rad/s)."""
        velocity = self.velocity + seconds * accel
        angle = seconds * turn
        c, s = torch.cos(angle) - 1.0, torch.sin(angle)
        x, y = self.offset.unbind(-1)
        swing = torch.stack([c * x - s * y, s * x + c * y], dim=-1)
        position = self.position + seconds * velocity + swing
        return replace(self, position=position, velocity=velocity, offset=self.offset + swing)


def seed(
    history: Float[Tensor, "B T 5 H W"], grid: Grid, most: int, lanes: Float[Tensor, "B 2 H W"] | None = None
) -> Particles:
    """A particle for every occupied cell of the last frame of each history, at most `most`, nearest to the ego first.

    All scenes of the batch are padded to the fullest one, rounded up to a multiple of `LANES`; particles stand in the
    order of the raster. `lanes` is the direction of the lanes (see `lane_paths`); without it ways are straight.
    """
    frame = history[:, -1].flatten(2)
    occupancy = frame[:, :2].amax(1)
    occupied = occupancy > PARTICLE_OCCUPANCY
    cells = occupied.shape[1]
    count = min(most, LANES * max(1, -(-int(occupied.sum(1).max()) // LANES)))
    centres = cell_centres(grid).reshape(-1, 2)
    near = torch.where(occupied, -centres.square().sum(-1), -torch.inf)
    chosen = near.topk(count, dim=1).indices
    used = occupied.gather(1, chosen)
    order = torch.where(used, chosen, cells).sort(dim=1).values
    used = order < cells
    order = order.clamp(max=cells - 1)
    taken = frame.gather(2, order[:, None].expand(-1, frame.shape[1], -1)).transpose(1, 2)
    mass = taken[..., :2] * used[..., None]
    velocity = taken[..., 2:4] * used[..., None]
    position = centres[order]
    lanes = frame.new_zeros(len(frame), 2, grid.rows, grid.cols) if lanes is None else lanes
    return Particles(
        position,
        velocity,
        mass,
        _offset(position, velocity, history[:, -1], order, grid) * used[..., None],
        _memory(position, velocity, history, grid) * used[..., None],
        lane_paths(position, velocity, lanes, grid),
    )


def render(particles: Particles, grid: Grid) -> Float[Tensor, "B 4 H W"]:
    """Vehicle and VRU occupancy in [0, 1] and the mean velocity (vx, vy, m/s) of what is splatted in each cell."""
    total = particles.mass.sum(-1, keepdim=True)
    drawn = splat(particles.position, torch.cat([particles.mass, total * particles.velocity], dim=-1), grid)
    mass = drawn[:, :2].sum(1, keepdim=True)
    velocity = torch.where(mass > PARTICLE_OCCUPANCY, drawn[:, 2:] / mass.clamp(min=PARTICLE_OCCUPANCY), 0.0)
    return torch.cat([drawn[:, :2].clamp(max=1.0), velocity], dim=1)


def sample(field: Float[Tensor, "B C H2 W2"], position: Float[Tensor, "B N 2"], grid: Grid) -> Float[Tensor, "B N C"]:
    """The field, spread over the grid's window, read bilinearly at each position; the border's value beyond it."""
    extent = torch.tensor([grid.cols * grid.cell, grid.rows * grid.cell])
    origin = torch.tensor([grid.x_min, grid.y_min])
    # grid_sample reads outside its memory at NaN; a NaN position still shows in everything else computed from it.
    at = torch.nan_to_num((position - origin) / extent * 2.0 - 1.0)
    out = F.grid_sample(field, at[:, :, None], mode="bilinear", padding_mode="border", align_corners=False)
    return out[..., 0].transpose(1, 2)


def _memory(
    position: Tensor, velocity: Tensor, history: Float[Tensor, "B T 5 H W"], grid: Grid
) -> Float32[Tensor, "B N 6"]:
    """Accelerations by following each particle back along its velocity to where the earlier frames show it."""
    parts = []
    for back in (1, 2):
        if history.shape[1] <= back:
            parts.append(torch.zeros(*position.shape[:2], 3))
            continue
        seconds = back * IMAGINED_STEP_S
        before, inside = at_cells(history[:, -1 - back], position - seconds * velocity, grid)
        found = inside & (before[..., :2].amax(-1) > MATCH_OCCUPANCY)
        accel = (velocity - before[..., 2:4]) / seconds
        found &= accel.norm(dim=-1) <= MAX_ACCEL
        parts.append(torch.cat([accel * found[..., None], found[..., None].float()], dim=-1))
    return torch.cat([parts[0][..., :2], parts[1][..., :2], parts[0][..., 2:], parts[1][..., 2:]], dim=-1)


def _offset(
    position: Tensor, velocity: Tensor, frame: Float[Tensor, "B 5 H W"], cell: Tensor, grid: Grid
) -> Float32[Tensor, "B N 2"]:
    reach = round(NEIGHBOURHOOD_M / grid.cell)
    padded = F.pad(frame[:, :4], (reach, reach, reach, reach)).flatten(2)
    wide = grid.cols + 2 * reach
    row, column = torch.div(cell, grid.cols, rounding_mode="floor"), cell % grid.cols
    steps = torch.arange(-reach, reach + 1)
    di, dj = (x.reshape(-1) for x in torch.meshgrid(steps, steps, indexing="ij"))
    near = ((row + reach)[..., None] + di) * wide + (column + reach)[..., None] + dj
    b, n, window = near.shape
    values = padded.gather(2, near.reshape(b, 1, -1).expand(-1, 4, -1)).reshape(b, 4, n, window)
    unlike = (values[:, 2:] - velocity.transpose(1, 2)[..., None]).square().sum(1)
    far = (di.square() + dj.square()).float() * grid.cell**2
    weight = values[:, :2].amax(1) * torch.exp(-unlike - far / (2.0 * 2.5**2))
    shift = torch.stack([dj, di], dim=-1).float() * grid.cell
    centre = (weight[..., None] * shift).sum(2) / weight.sum(2, keepdim=True).clamp(min=1e-6)
    return -centre
