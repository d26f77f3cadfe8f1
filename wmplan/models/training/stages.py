"""The loss of a batch in each stage: steering, tokenizer, dynamics on true states and on those it visits itself."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, RASTER_HISTORY, Grid
from wmplan.models.particles import Particles, render
from wmplan.models.rollout import Action, Network, State, advance, anchor_of, begin, ego_steps, predict
from wmplan.models.training.data import Batch
from wmplan.models.training.losses import (
    code_loss,
    draw_latent,
    frame_loss,
    particle_loss,
    particle_targets,
    reaction_loss,
)
from wmplan.models.training.settings import Settings

STAGES = ("steering", "tokenizer", "dynamics", "on_policy")


def stage_loss(
    stage: str, network: Network, batch: Batch, settings: Settings, horizon: int, first: int, generator: torch.Generator
) -> Float[Tensor, ""]:
    """The loss of a batch. The stages before the last look at a single step, from future frame `first` on."""
    if stage == "steering":
        return _steering(network, batch, settings, horizon)
    if stage == "tokenizer":
        return _tokenizer(network, batch, settings, horizon, generator)
    if stage == "dynamics":
        return _unrolled(network, batch, settings, 1, first, generator)
    return _unrolled(network, batch, settings, horizon, 0, generator)


def _steering(network: Network, batch: Batch, settings: Settings, horizon: int) -> Tensor:
    """Where the particles go by null codes alone, nothing drawn: what the ego does to whom, learned several times as
    fast as with frames and codes, before either can take its place."""
    span = slice(RASTER_HISTORY - 1, RASTER_HISTORY + horizon)
    state = begin(network, batch.static, batch.frames[:, :RASTER_HISTORY], remember=False)
    particles, decoder = state.particles, network.tokenizer.decoder
    place, told = particle_targets(particles.position, batch.states[:, span], batch.sizes, batch.valid[:, span])
    count = network.preset.side[0] * network.preset.side[1]
    field = decoder.field(torch.zeros(len(batch.static), count, decoder.embed.in_features), state.scene)
    total = torch.zeros(())
    for t in range(horizon):
        steering = decoder.steering(field, particles, state.scene, t, batch.ego[:, t : t + 2])
        particles = particles.steered(*steering)
        placed = _placed(particles, place[:, t + 1], told[:, t + 1], batch.scenes, network.preset.grid, settings)
        total = total + placed / horizon
    return total


def _tokenizer(network: Network, batch: Batch, settings: Settings, horizon: int, generator: torch.Generator) -> Tensor:
    """Rollouts by the codes of the truth, and for `null_share` of the scenes by null codes alone.

    So the null code comes to mean the best forecast without any news, which is where the dynamics start from, and a
    code tells only what that forecast cannot know.
    """
    preset = network.preset
    span = slice(RASTER_HISTORY - 1, RASTER_HISTORY + horizon)
    state = begin(network, batch.static, batch.frames[:, :RASTER_HISTORY], remember=False)
    place, told = particle_targets(state.particles.position, batch.states[:, span], batch.sizes, batch.valid[:, span])
    informed = (torch.rand(len(batch.static), 1, 1, generator=generator) >= settings.null_share).float()[batch.scenes]
    total = torch.zeros(())
    for t in range(horizon):
        truth, anchor = batch.frames[:, RASTER_HISTORY + t], anchor_of(state, preset)
        encoded = network.tokenizer.encoder.learn(truth[:, :4], anchor, state.scene)
        state, decoded = advance(network, state, informed * encoded.codes, False, batch.ego[:, t : t + 2])
        loss = frame_loss(decoded.logits, truth) + encoded.commitment
        loss = loss + _placed(state.particles, place[:, t + 1], told[:, t + 1], batch.scenes, preset.grid, settings)
        total = total + loss / horizon
    return total


def _unrolled(
    network: Network, batch: Batch, settings: Settings, horizon: int, first: int, generator: torch.Generator
) -> Tensor:
    """`horizon` steps from future frame `first` on, each from the state that the model's own codes led to.

    The codes' target at a visited state is what the tokenizer would say there, so it stays right off the log's path.
    """
    preset, quantiser = network.preset, network.tokenizer.quantiser
    now = RASTER_HISTORY - 1 + first
    span = slice(now, now + horizon + 1)
    state = begin(network, batch.static, batch.frames[:, first : now + 1])
    place, told = particle_targets(state.particles.position, batch.states[:, span], batch.sizes, batch.valid[:, span])
    steps = ego_steps(batch.ego[:, first : first + horizon + 1])
    latent, knows = _latent(network, batch, state, horizon, now, settings, generator)
    # Rows that share their past share their particles, one for one; a latent that differed would blur what the ego did.
    scenes = torch.arange(len(latent)) if first else batch.scenes
    latent = latent[scenes]

    total = settings.latent_weight * knows
    probe = int(torch.randint(horizon, (1,), generator=generator))
    for t in range(horizon):
        truth, anchor = batch.frames[:, now + t + 1], anchor_of(state, preset)
        driven = batch.ego[:, first + t : first + t + 2]
        action = Action(batch.footprints[:, first + t : first + t + 2], steps[:, t], driven)
        logits = predict(network, state, anchor, action, latent)
        if t == probe:  # keeps the tokenizer right on visited states, and gives the codes to predict there
            wanted = network.tokenizer.encoder.learn(truth[:, :4], anchor.detach(), state.scene)
            _, rebuilt = advance(network, _detached(state), wanted.codes, ego=driven)
            own = frame_loss(rebuilt.logits, truth) + wanted.commitment
            own = own + settings.place_weight * particle_loss(
                rebuilt.particles, place[:, t + 1], told[:, t + 1], preset.grid
            )
            digits = quantiser.digits(wanted.raw.detach())
            total = total + 0.25 * own + settings.code_weight * code_loss(logits, digits, quantiser)
        state, decoded = advance(network, state, quantiser.likeliest(logits), ego=driven)
        loss = frame_loss(decoded.logits, truth) + _placed(
            state.particles, place[:, t + 1], told[:, t + 1], scenes, preset.grid, settings
        )
        total = total + loss / horizon
    return total


def _placed(
    particles: Particles, place: Tensor, told: Tensor, scenes: Tensor, grid: Grid, settings: Settings
) -> Tensor:
    """Where the particles are, and what the ego's action changed of it."""
    reaction = reaction_loss(particles.position, place, told, scenes, grid)
    placed = particle_loss(particles, place, told, grid)
    return settings.place_weight * placed + settings.reaction_weight * reaction


def _latent(
    network: Network, batch: Batch, state: State, horizon: int, now: int, settings: Settings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    last = batch.frames[:, now + horizon, :4]
    drifted = render(state.particles.moved(horizon * IMAGINED_STEP_S), network.preset.grid)
    logits = network.posterior(last, drifted, state.scene.tokens)
    chosen, knows = draw_latent(logits, settings.free_nats, generator)
    count = logits.shape[-1]
    prior = torch.nn.functional.one_hot(torch.randint(count, (len(logits),), generator=generator), count).float()
    from_prior = torch.rand(len(logits), 1, generator=generator) < settings.prior_share
    return torch.where(from_prior, prior, chosen), knows


def _detached(state: State) -> State:
    particles = type(state.particles)(*(x.detach() for x in state.particles.tensors))
    return State(state.scene, particles, tuple(x.detach() for x in state.past), state.age)
