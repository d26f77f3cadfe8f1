"""What `dit` minimises: the tokenizer's rollouts, then denoising on true states, then on the states it visits itself.

The tokenizer is trained first and then left alone, so that the latents to be denoised stay what they are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import RASTER_HISTORY, Grid
from wmplan.models.dit import DiffusionNetwork, near_traffic
from wmplan.models.dit_schedule import levels, wanted
from wmplan.models.rollout import Action, State, anchor_of, ego_steps
from wmplan.models.training.data import Batch
from wmplan.models.training.losses import frame_loss, particle_loss, particle_targets, reaction_loss
from wmplan.models.training.settings import Settings

STAGES = ("tokenizer", "denoise", "on_policy")
SHARES = (0.35, 0.1, 0.55)
MOMENT_CALLS = 50
"""Batches whose latents set the scales; then they are fixed."""
FAR_WEIGHT = 0.05
"""Weight of patches without traffic beside those with it."""
KNOWN_SHARE = 0.5
"""A patch is learned from where the log tells of more than this share of its cells."""
WEAKER_AVERAGE = 0.99
"""Decay of the weaker model's weights in the single-step stage; after it they stay."""


def dit_loss(
    stage: str,
    network: DiffusionNetwork,
    batch: Batch,
    settings: Settings,
    horizon: int,
    first: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """The loss of a batch. The stage `denoise` looks at a single step, from future frame `first` on."""
    if stage == "tokenizer":
        return _tokenizer(network, batch, settings, horizon, generator)
    network.tokenizer.requires_grad_(False)
    if stage == "denoise":
        loss = _denoised(network, batch, settings, 1, first, generator)
        _average_weaker(network)
        return loss
    return _denoised(network, batch, settings, horizon, 0, generator)


def _tokenizer(
    network: DiffusionNetwork, batch: Batch, settings: Settings, horizon: int, generator: torch.Generator
) -> Tensor:
    """Rollouts by the latents of the truth, and for `null_share` of the scenes by zeros alone.

    Noise on the latents takes the place of the quantiser: what is said too quietly is lost.
    """
    state = network.begin(batch.static, batch.frames[:, :RASTER_HISTORY], remember=False)
    span = slice(RASTER_HISTORY - 1, RASTER_HISTORY + horizon)
    place, told = particle_targets(state.particles.position, batch.states[:, span], batch.sizes, batch.valid[:, span])
    informed = (torch.rand(len(batch.static), 1, 1, generator=generator) >= settings.null_share).float()
    informed = informed[batch.scenes]
    total = torch.zeros(())
    for t in range(horizon):
        truth, anchor = batch.frames[:, RASTER_HISTORY + t], anchor_of(state, network.preset)
        latents = informed * network.encode(truth[:, :4], anchor, state.scene)
        latents = latents + settings.dit.latent_noise * torch.randn(latents.shape, generator=generator)
        state, decoded = network.advance(state, latents, batch.ego[:, t : t + 2], remember=False)
        placed = _placed(state, place[:, t + 1], told[:, t + 1], batch.scenes, settings, network.preset.grid)
        total = total + (frame_loss(decoded.logits, truth) + placed) / horizon
    return total


def _denoised(
    network: DiffusionNetwork, batch: Batch, settings: Settings, horizon: int, first: int, generator: torch.Generator
) -> Tensor:
    """`horizon` steps from future frame `first` on, each from the state that the denoiser's own estimate led to.

    Each scene and step has a diffusion time of its own. At a small one the estimate is nearly the truth, at a large one
    what the model would say unaided, so rollouts meet states of every accuracy and never leave for another mode, for
    which the log has no label. The target at a visited state is what the tokenizer would say there.
    """
    preset, options = network.preset, settings.dit
    now = RASTER_HISTORY - 1 + first
    span = slice(now, now + horizon + 1)
    state = network.begin(batch.static, batch.frames[:, first : now + 1])
    place, told = particle_targets(state.particles.position, batch.states[:, span], batch.sizes, batch.valid[:, span])
    steps = ego_steps(batch.ego[:, first : first + horizon + 1])
    rows = len(batch.static)
    # Rows that share their past share their particles, one for one; after t0 the past is each one's own.
    scenes = torch.arange(rows) if first else batch.scenes
    told_action = torch.rand(rows, generator=generator) >= options.action_dropout
    total = torch.zeros(())
    for t in range(horizon):
        truth, anchor = batch.frames[:, now + t + 1], anchor_of(state, preset)
        driven = batch.ego[:, first + t : first + t + 2]
        action = Action(batch.footprints[:, first + t : first + t + 2], steps[:, t], driven)
        near = near_traffic(anchor, preset.patch)
        with torch.no_grad():
            latents = network.encode(truth[:, :4], anchor, state.scene)
            if t == 0:
                _learn_moments(network, latents[near])
            clean = network.standardised(latents)
            noise = torch.randn(clean.shape, generator=generator)
            # Stratified over the batch: every batch sees all times.
            time = (torch.randperm(rows, generator=generator) + torch.rand(rows, generator=generator)) / rows
            alpha, sigma = (level[:, None, None] for level in levels(options.schedule, time))
            noisy = alpha * clean + sigma * noise
        given = network.given(0, state, anchor, action, told_action)
        predicted = network.denoiser(noisy, time, given)
        error = (predicted - wanted(options.objective, clean, noise, alpha, sigma)).square().mean(-1)
        # Where the log cannot tell, beyond the map or in reach of an ego that was moved, there is nothing to denoise.
        known = torch.nn.functional.avg_pool2d(truth[:, 4:], preset.patch).flatten(1) > KNOWN_SHARE
        weight = torch.where(near, 1.0, FAR_WEIGHT) * known
        total = total + (weight * error).sum() / weight.sum().clamp(min=1.0) / horizon
        last = t + 1 == horizon
        if last and not options.frame_weight:
            break
        estimate = network.latents_of(network.estimate(predicted, noisy, time))
        if not options.frame_weight:
            estimate = estimate.detach()
        state, decoded = network.advance(state, estimate, driven)
        if options.frame_weight:
            placed = _placed(state, place[:, t + 1], told[:, t + 1], scenes, settings, preset.grid)
            total = total + options.frame_weight * (frame_loss(decoded.logits, truth) + placed) / horizon
        state = _detached(state)
    return total


def _placed(state: State, place: Tensor, told: Tensor, scenes: Tensor, settings: Settings, grid: Grid) -> Tensor:
    """Where the particles are, and what the ego's action changed of it."""
    reaction = reaction_loss(state.particles.position, place, told, scenes, grid)
    return settings.place_weight * particle_loss(state.particles, place, told, grid) + (
        settings.reaction_weight * reaction
    )


@torch.no_grad()
def _learn_moments(network: DiffusionNetwork, latents: Float[Tensor, "N L"]) -> None:
    """Running moments of the latents of patches near traffic, over the first batches only."""
    if network.latent_calls >= MOMENT_CALLS or not len(latents):
        return
    network.latent_calls += 1.0
    network.latent_mean += (latents.mean(0) - network.latent_mean) / network.latent_calls
    network.latent_square += (latents.square().mean(0) - network.latent_square) / network.latent_calls


@torch.no_grad()
def _average_weaker(network: DiffusionNetwork) -> None:
    if network.weaker is None:
        return
    for slow, fast in zip(network.weaker.parameters(), network.denoiser.parameters(), strict=True):
        slow.lerp_(fast, 1.0 - WEAKER_AVERAGE)


def _detached(state: State) -> State:
    particles = type(state.particles)(*(x.detach() for x in state.particles.tensors))
    return State(state.scene, particles, state.past, state.age)
