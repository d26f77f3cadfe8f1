"""The diffusion transformer: the next frame's latents, denoised given what is imagined so far and what the ego does.

Latents are what the tokenizer's encoder says of a frame before anything is quantised: what the kinematic anchor gets
wrong, a few numbers in [-1, 1] a patch. Frames are denoised one after another, each from its own anchor. History is
clean conditioning that is never noised, so nothing that comes later can change an earlier frame. The ego's action
enters as in `wmplan.models.dynamics`: footprints, a token, and adaLN-zero beside the diffusion time.

References:
    `reference/world_models.md` 4.3; Peebles & Xie (2023), "Scalable diffusion models with transformers" (adaLN-zero).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wmplan.contracts import LANE_DIRECTION
from wmplan.models.dit_options import DitOptions
from wmplan.models.dit_sampler import ddim, guided
from wmplan.models.dit_schedule import clean_of, levels
from wmplan.models.dynamics import Block, Fourier
from wmplan.models.particles import seed
from wmplan.models.presets import Preset
from wmplan.models.rollout import Action, State
from wmplan.models.tokenizer import Decoded, SceneEncoder, SceneFeatures, Tokenizer, patches, scaled

TIME_FREQUENCIES = 6
LEAST_STD = 0.02
"""Latents that vary less than this are not blown up to unit variance."""


@dataclass(frozen=True)
class Condition:
    """What one denoiser is given of a frame, the same in every denoising step."""

    tokens: Float[Tensor, "B S D"]
    action: Float[Tensor, "B D"]


class Denoiser(nn.Module):
    """Predicts `DitOptions.objective` of the noisy latents of one frame; zero as made."""

    def __init__(self, preset: Preset, latent: int) -> None:
        super().__init__()
        self.preset = preset
        width, area, count = preset.width, preset.patch**2, preset.side[0] * preset.side[1]
        self.scene = SceneEncoder(preset)
        self.embed_frame = nn.Linear(4 * area, width)
        self.embed_past = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(preset.history - 1))
        self.embed_anchor = nn.Linear(4 * area, width)
        self.embed_ego = nn.Linear(2 * area, width)
        self.embed_latent = nn.Linear(latent, width)
        self.place = nn.Parameter(torch.randn(count, width) * 0.02)
        self.action = Fourier(width)
        self.no_action = nn.Parameter(torch.zeros(width))
        self.time = nn.Linear(1 + 2 * TIME_FREQUENCIES, width)
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.ego_token = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(preset) for _ in range(preset.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, latent)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def remember(self, frame: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B S D"]:
        """A frame as the tokens that history keeps of it."""
        return self.embed_frame(patches(scaled(frame), self.preset.patch))

    def given(
        self,
        scene: Float[Tensor, "B S D"],
        past: list[Tensor],
        anchor: Float[Tensor, "B 4 H W"],
        action: Action,
        told: Bool[Tensor, "B"],
    ) -> Condition:
        """What the denoiser is given of a frame; the ego's action is hidden where not `told`. `past` holds remembered
        frames, the present last."""
        tokens = scene + past[-1] + self.embed_anchor(patches(scaled(anchor), self.preset.patch)) + self.place
        for back, embed in enumerate(self.embed_past, start=2):
            if back <= len(past):
                tokens = tokens + embed(past[-back])
        shown = action.footprints * told[:, None, None, None]
        tokens = tokens + self.embed_ego(patches(shown, self.preset.patch))
        return Condition(tokens, torch.where(told[:, None], self.action(action.step), self.no_action))

    def forward(
        self, noisy: Float[Tensor, "B S L"], time: Float[Tensor, "B"], given: Condition
    ) -> Float[Tensor, "B S L"]:
        """The prediction; latents in standard deviations, diffusion time in [0, 1]."""
        phase = torch.pi * time[:, None] * torch.arange(1, TIME_FREQUENCIES + 1, device=time.device)
        features = torch.cat([time[:, None], torch.sin(phase), torch.cos(phase)], dim=1)
        condition = self.condition(given.action + self.time(features))
        tokens = given.tokens + self.embed_latent(noisy)
        tokens = torch.cat([tokens, self.ego_token(condition)[:, None]], dim=1)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self.head(self.norm(tokens[:, :-1]))


class DiffusionNetwork(nn.Module):
    """Everything a checkpoint holds: tokenizer, denoiser, the weaker denoiser if one is kept, scales of the latents."""

    latent_mean: Tensor
    latent_square: Tensor
    latent_calls: Tensor
    shift: Tensor
    gain: Tensor

    def __init__(self, preset: Preset, options: DitOptions) -> None:
        super().__init__()
        self.preset, self.options = preset, options
        self.tokenizer = Tokenizer(preset, "fsq")  # its codes are never used: nothing is learned that could go to waste
        width = self.tokenizer.quantiser.width
        self.denoiser = Denoiser(preset, width)
        self.weaker = deepcopy(self.denoiser).requires_grad_(False) if options.autoguidance else None
        # Running moments of the encoder's latents; floats throughout, since weights and buffers are averaged alike.
        self.register_buffer("latent_mean", torch.zeros(width))
        self.register_buffer("latent_square", torch.ones(width))
        self.register_buffer("latent_calls", torch.zeros(()))
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("gain", torch.ones(width))

    @property
    def denoisers(self) -> tuple[Denoiser, ...]:
        """The denoiser, and the weaker one if it is kept."""
        return (self.denoiser,) if self.weaker is None else (self.denoiser, self.weaker)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Patches of a frame, and numbers that the latent of each has."""
        return self.preset.side[0] * self.preset.side[1], len(self.gain)

    @property
    def latent_std(self) -> Float[Tensor, "L"]:
        """Standard deviation of the latents in each dimension."""
        return (self.latent_square - self.latent_mean.square()).clamp(min=LEAST_STD**2).sqrt()

    def encode(
        self, target: Float[Tensor, "B 4 H W"], anchor: Float[Tensor, "B 4 H W"], scene: SceneFeatures
    ) -> Float[Tensor, "B S L"]:
        """The latents of the true next frame beside the anchor."""
        return torch.tanh(self.tokenizer.encoder.raw(target, anchor, scene))

    def standardised(self, latents: Float[Tensor, "B S L"]) -> Float[Tensor, "B S L"]:
        """Latents in standard deviations from their mean, as the denoiser sees them."""
        return (latents - self.latent_mean) / self.latent_std

    def latents_of(self, clean: Float[Tensor, "B S L"]) -> Float[Tensor, "B S L"]:
        """The inverse of `standardised`, within the encoder's bounds."""
        return (self.latent_mean + self.latent_std * clean).clamp(-1.0, 1.0)

    def begin(
        self, static: Float[Tensor, "B C H W"], history: Float[Tensor, "B T 5 H W"], remember: bool = True
    ) -> State:
        """The state at t0 of each scene; without what the denoisers are given of scene and frames unless `remember`."""
        scene = self.tokenizer.scene(static, history)
        particles = seed(history, self.preset.grid, self.preset.max_particles, static[:, LANE_DIRECTION])
        if not remember:
            return State(scene, particles, (), 0)
        tokens = torch.cat([one.scene(static, history).tokens for one in self.denoisers], dim=-1)
        past = tuple(self.remember(frame[:, :4]) for frame in history[:, -self.preset.history :].unbind(1))
        return State(replace(scene, tokens=tokens), particles, past, 0)

    def remember(self, frame: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B S D"]:
        """A frame as history keeps it, for each denoiser side by side."""
        return torch.cat([one.remember(frame) for one in self.denoisers], dim=-1)

    def given(
        self, which: int, state: State, anchor: Float[Tensor, "B 4 H W"], action: Action, told: Bool[Tensor, "B"]
    ) -> Condition:
        """What the denoiser of this number is given of the next frame."""
        width, one = self.preset.width, self.denoisers[which]
        part = slice(which * width, (which + 1) * width)
        past = [tokens[..., part] for tokens in state.past]
        return one.given(state.scene.tokens[..., part], past, anchor, action, told)

    def clean(
        self, which: int, noisy: Float[Tensor, "B S L"], time: Float[Tensor, "B"], given: Condition
    ) -> Float[Tensor, "B S L"]:
        """The expected clean latents, in standard deviations, within the encoder's bounds."""
        return self.estimate(self.denoisers[which](noisy, time, given), noisy, time)

    def estimate(
        self, predicted: Float[Tensor, "B S L"], noisy: Float[Tensor, "B S L"], time: Float[Tensor, "B"]
    ) -> Float[Tensor, "B S L"]:
        """The clean latents that a prediction stands for, within the encoder's bounds."""
        alpha, sigma = (level[:, None, None] for level in levels(self.options.schedule, time))
        clean = clean_of(self.options.objective, predicted, noisy, alpha, sigma)
        # Far beyond every latent there is: one wild prediction at high noise must not decide all steps after it.
        low, high = ((bound - self.latent_mean) / self.latent_std for bound in (-1.0, 1.0))
        return torch.maximum(torch.minimum(clean, high), low)

    def sample(
        self,
        state: State,
        anchor: Float[Tensor, "B 4 H W"],
        action: Action,
        noise: Float[Tensor, "B S L"],
        options: DitOptions,
    ) -> Float[Tensor, "B S L"]:
        """Latents of the next frame, from this noise."""
        rows = torch.ones(len(noise), dtype=torch.bool, device=noise.device)
        given = self.given(0, state, anchor, action, rows)
        guides = options.guidance != 1.0
        which = len(self.denoisers) - 1
        weaker = self.given(which, state, anchor, action, rows if which else ~rows) if guides else given

        def denoise(noisy: Tensor, time: float) -> Tensor:
            times = torch.full((len(noisy),), time, device=noisy.device)
            clean = self.clean(0, noisy, times, given)
            if guides:
                other = self.clean(which, noisy, times, weaker)
                clean = guided(clean, other, options.guidance, options.guidance_bound)
            return clean

        latents = self.latents_of(ddim(denoise, noise, options.schedule, options.steps))
        return (self.gain * latents + self.shift).clamp(-1.0, 1.0) if options.calibrated else latents

    def advance(
        self,
        state: State,
        latents: Float[Tensor, "B S L"],
        ego: Float[Tensor, "B 2 4"] | None = None,
        remember: bool = True,
    ) -> tuple[State, Decoded]:
        """The state one step on, and the frame that the latents lead to; `ego` is `Action.states` of the step."""
        decoded = self.tokenizer.decoder(latents, state.particles, state.scene, state.age, ego)
        past = state.past
        if remember:
            past = (*past, self.remember(decoded.frame))[-self.preset.history :]
        return State(state.scene, decoded.particles, past, state.age + 1), decoded


def near_traffic(anchor: Float[Tensor, "B 4 H W"], patch: int, least: float = 0.02) -> Bool[Tensor, "B S"]:
    """Which patches hold traffic if everything keeps its velocity, or touch one that does.

    Elsewhere latents hardly matter. What decides it is given to the denoiser, so weighting by it leaves the best
    prediction of each patch as it is.
    """
    held = (F.max_pool2d(anchor[:, :2].amax(1, keepdim=True), patch) > least).float()
    return F.max_pool2d(held, 3, stride=1, padding=1).flatten(1) > 0.0
