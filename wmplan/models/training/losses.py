"""What training minimises: frames, the places of particles, codes, and what the scene latent may know."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wmplan.contracts import Grid
from wmplan.models.particles import Particles
from wmplan.models.quantisers import Quantiser

JACCARD_SLOPE = 5.0
"""How much steeper than the occupancy the soft mask of the Jaccard part is. At a small slope it is best to widen every
soft edge, which gains soft overlap and loses IoU at the threshold."""
ENTROPY_WEIGHT = 0.1
"""Weight of the cross-entropy beside the Jaccard part. A large one would have the model believe nothing strongly where
the future is open, and masks at the threshold 0.5 would shrink below the best IoU."""
REACTING_M = 0.3
"""Who is less far apart in two futures of a scene did not react."""
REACTION_SCALE_M = 0.5
"""Errors of a reaction below this count squared, above it linearly."""
POSITION_SCALE_M = 0.5
"""Errors well below this count squared, errors well above it by their logarithm."""


def frame_loss(logits: Float[Tensor, "B 2 H W"], truth: Float[Tensor, "B 5 H W"]) -> Float[Tensor, ""]:
    """Cross-entropy per cell plus soft Jaccard of what is occupied by anybody, on the observed cells.

    The Jaccard part is taken scene by scene against the truth at the threshold 0.5, since IoU is what a forecast is
    measured by. `truth` has `DYNAMIC_CHANNELS`.
    """
    target, observed = truth[:, :2], truth[:, 4]
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * observed[:, None]).sum((1, 2, 3))
    mass = target.sum((1, 2, 3)) + 20.0
    probability = torch.sigmoid(JACCARD_SLOPE * logits.amax(1))
    probability = probability * observed
    occupied = (target.amax(1) > 0.5).to(logits.dtype) * observed
    both = (probability * occupied).sum((1, 2))
    either = (probability + occupied - probability * occupied).sum((1, 2))
    jaccard = 1.0 - (both + 2.0) / (either + 2.0)
    return (ENTROPY_WEIGHT * entropy / mass + jaccard).mean()


def particle_targets(
    seeded: Float[Tensor, "B N 2"],
    states: Float[Tensor, "B F A 5"],
    sizes: Float[Tensor, "B A 2"],
    valid: Bool[Tensor, "B F A"],
) -> tuple[Float[Tensor, "B F N 2"], Bool[Tensor, "B F N"]]:
    """Where each particle, seeded at the first of the frames, is carried by its box; and where the log tells.

    A particle belongs to the box that covers it most at the first frame.
    """
    first = states[:, 0]
    shift = seeded[:, :, None] - first[:, None, :, :2]
    c, s = torch.cos(first[..., 2])[:, None], torch.sin(first[..., 2])[:, None]
    u = c * shift[..., 0] + s * shift[..., 1]
    v = c * shift[..., 1] - s * shift[..., 0]
    depth = torch.minimum(sizes[:, None, :, 0] / 2.0 - u.abs(), sizes[:, None, :, 1] / 2.0 - v.abs())
    depth = torch.where(valid[:, None, 0], depth, -torch.inf)
    deepest, owner = depth.max(-1)
    u = u.gather(2, owner[..., None])[..., 0]
    v = v.gather(2, owner[..., None])[..., 0]
    frames = states.shape[1]
    rows = owner[:, None, :, None].expand(-1, frames, -1, 5)
    carried = states.gather(2, rows)
    c, s = torch.cos(carried[..., 2]), torch.sin(carried[..., 2])
    u, v = u[:, None], v[:, None]
    place = carried[..., :2] + torch.stack([c * u - s * v, s * u + c * v], dim=-1)
    told = valid.gather(2, owner[:, None].expand(-1, frames, -1)) & (deepest > -1.0)[:, None]
    return place, told


def particle_loss(
    particles: Particles, place: Float[Tensor, "B N 2"], told: Bool[Tensor, "B N"], grid: Grid
) -> Float[Tensor, ""]:
    """Robust distance between particles and where they are carried, mass-weighted.

    The logarithm keeps the few that did something unforeseeable from outweighing all others. Particles that leave the
    window are not asked for.
    """
    weight = particles.mass.amax(-1) * (told & inside(place, grid))
    error = (particles.position - place).square().sum(-1) / POSITION_SCALE_M**2
    return (weight * 0.5 * torch.log1p(error)).sum() / weight.sum().clamp(min=1.0)


def reaction_loss(
    position: Float[Tensor, "B N 2"],
    place: Float[Tensor, "B N 2"],
    told: Bool[Tensor, "B N"],
    scenes: Int[Tensor, "B"],
    grid: Grid,
) -> Float[Tensor, ""]:
    """How wrong what another action of the ego changes is, over rows 2i and 2i + 1 that began in one scene.

    The distance between each particle's two places is compared with the true one: what is unforeseeable but the same in
    both futures (the drivers' noise) cancels. Huber, so that the mean and not the median of what cannot be known is
    learned; who reacts and who does not weigh alike, however rare the former.
    """
    first = torch.arange(0, len(scenes) - 1, 2)
    first = first[scenes[first] == scenes[first + 1]]
    if not len(first):
        return position.new_zeros(())
    second = first + 1
    wanted = place[first] - place[second]
    error = (position[first] - position[second] - wanted).square().sum(-1).add(1e-8).sqrt()
    known = told[first] & told[second] & inside(place[first], grid) & inside(place[second], grid)
    moved = wanted.norm(dim=-1) > REACTING_M
    loss = torch.where(
        error < REACTION_SCALE_M, 0.5 * error.square() / REACTION_SCALE_M, error - 0.5 * REACTION_SCALE_M
    )
    total = position.new_zeros(())
    for part in (known & moved, known & ~moved):
        total = total + 0.5 * (loss * part).sum() / part.sum().clamp(min=20.0)
    return total


def inside(place: Float[Tensor, "*B 2"], grid: Grid) -> Bool[Tensor, "*B"]:
    """Whether places lie in the window."""
    x, y = place.unbind(-1)
    within = (x > grid.x_min) & (x < grid.x_min + grid.cols * grid.cell)
    return within & (y > grid.y_min) & (y < grid.y_min + grid.rows * grid.cell)


def code_loss(
    logits: Float[Tensor, "B S L"], wanted: Int[Tensor, "B S G"], quantiser: Quantiser, null_weight: float = 0.2
) -> Float[Tensor, ""]:
    """Cross-entropy of the codes' digits, mean over them; patches with the null code weigh `null_weight`."""
    weight = torch.where((wanted != wanted.new_tensor(quantiser.null)).any(-1), 1.0, null_weight)
    total = logits.new_zeros(())
    for i, part in enumerate(logits.split(quantiser.splits, dim=-1)):
        entropy = F.cross_entropy(part.flatten(0, 1), wanted[..., i].flatten(), reduction="none")
        total = total + (entropy * weight.flatten()).sum() / weight.sum()
    return total / len(quantiser.splits)


def draw_latent(
    logits: Float[Tensor, "B Z"], free_nats: float, generator: torch.Generator
) -> tuple[Float[Tensor, "B Z"], Float[Tensor, ""]]:
    """A scene latent (one-hot, gradient to the posterior straight through) for each scene, and the penalty on what it
    may know: divergence of posterior from uniform prior beyond `free_nats`, and of the batch's mean posterior."""
    posterior = logits.softmax(-1)
    count = logits.shape[-1]
    chosen = torch.multinomial(posterior.detach(), 1, generator=generator)[:, 0]
    hard = F.one_hot(chosen, count).to(logits.dtype)
    divergence = (posterior * (posterior.clamp(min=1e-9) * count).log()).sum(-1).mean()
    mean = posterior.mean(0)
    unused = (mean * (mean.clamp(min=1e-9) * count).log()).sum()
    return hard + posterior - posterior.detach(), (divergence - free_nats).clamp(min=0.0) + unused
