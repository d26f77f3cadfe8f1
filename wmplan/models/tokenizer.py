"""What the kinematic anchor gets wrong, as one code a patch; and back: codes to motion and occupancy.

The anchor of a step is the splat of the particles moved on at constant velocity. The encoder sees the true next frame
beside it; the decoder turns codes, with the anchor and the scene as side input, into accelerations of the particles
and a residual logit, so that codes spend nothing on the map or on what constant velocity explains. The output layers
start at zero: an untrained tokenizer is the constant-velocity forecast, exactly.

References:
    `reference/world_models.md` 4.1 (kinematic anchor) and 4.2 (tokenizer).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wmplan.contracts import DYNAMIC_CHANNELS, STATIC_CHANNELS
from wmplan.models.ego_features import EGO_PARTICLE_FEATURES, ego_features
from wmplan.models.lane_paths import heading
from wmplan.models.particles import Particles, render, sample
from wmplan.models.presets import Preset
from wmplan.models.quantisers import Quantiser, quantiser_of
from wmplan.models.warp import at_cells

SPEED_SCALE = 10.0
"""Velocities enter the networks divided by this, m/s."""
ACCEL_SCALE = 4.0
"""One unit of the decoder's output is so many m/s2."""
TURN_SCALE = 0.5
"""One unit of the decoder's output is so many rad/s."""
LOGIT_FLOOR = 0.001
"""Occupancies are kept this far from 0 and 1 before their logit is taken."""
RESIDUAL_SCALE = 0.2
"""Slows the residual logits down: they learn noise sooner than anything that the particles cannot say."""
PARTICLE_FEATURES = 22 + EGO_PARTICLE_FEATURES
BUSY = 0.5
"""A patch holds somebody where a cell has more occupancy than this."""


@dataclass(frozen=True)
class SceneFeatures:
    """A scene, encoded once: the tokens' side input, the decoder's, and the map in the cells."""

    tokens: Float[Tensor, "B S D"]
    field: Float[Tensor, "B F H2 W2"]
    static: Float[Tensor, "B C H W"]

    def expand(self, rollouts: int) -> SceneFeatures:
        """Every scene's features for this many rollouts each, rollouts of a scene side by side."""
        if rollouts == 1:
            return self
        parts = (x.repeat_interleave(rollouts, dim=0) for x in (self.tokens, self.field, self.static))
        return SceneFeatures(*parts)


@dataclass(frozen=True)
class Encoded:
    """What a true next frame says beside the anchor: before and after it is made discrete, and the loss that keeps both
    together (zero where the quantiser needs none)."""

    raw: Float[Tensor, "B S D"]
    codes: Float[Tensor, "B S D"]
    commitment: Float[Tensor, ""]


@dataclass(frozen=True)
class Decoded:
    """One imagined frame. `logits` and `occupancy` are vehicle and VRU; `occupancy` equals the anchor's, to the bit,
    where the residual is zero."""

    particles: Particles
    logits: Float[Tensor, "B 2 H W"]
    occupancy: Float[Tensor, "B 2 H W"]
    velocity: Float[Tensor, "B 2 H W"]

    @property
    def frame(self) -> Float[Tensor, "B 4 H W"]:
        """Occupancy and velocity as one frame."""
        return torch.cat([self.occupancy, self.velocity], dim=1)


def scaled(frame: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 4 H W"]:
    """A frame as the networks see it: velocity divided by `SPEED_SCALE` and weighted by occupancy."""
    occupancy, velocity = frame[:, :2], frame[:, 2:]
    return torch.cat([occupancy, velocity * (occupancy.amax(1, keepdim=True) / SPEED_SCALE)], dim=1)


def patches(raster: Float[Tensor, "B C H W"], patch: int) -> Float[Tensor, "B S P"]:
    """Square patches of the raster, flattened, row by row."""
    b, c, h, w = raster.shape
    cut = raster.reshape(b, c, h // patch, patch, w // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // patch) * (w // patch), c * patch * patch)


def busy(frames: Float[Tensor, "B C H W"], patch: int) -> Bool[Tensor, "B S"]:
    """Patches in which any of these channels of occupancy reaches the threshold at which a cell counts as occupied."""
    return F.max_pool2d(frames.amax(1, keepdim=True), patch).flatten(1) > BUSY


class SceneEncoder(nn.Module):
    """Map and present traffic to features: a few strided convolutions, run once a scene."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.side = preset.side
        channels = len(STATIC_CHANNELS) + len(DYNAMIC_CHANNELS) + 4
        widths = [channels, 24, 48, 64, 96, 96][: preset.patch.bit_length()]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GELU()]
        layers += [nn.Conv2d(widths[-1], preset.width, 3, padding=1), nn.GELU()]
        self.stem = nn.Sequential(*layers)
        self.to_tokens = nn.Linear(preset.width, preset.width)
        self.to_field = nn.Conv2d(preset.width, preset.field, 1)

    def forward(self, static: Float[Tensor, "B C H W"], history: Float[Tensor, "B T 5 H W"]) -> SceneFeatures:
        now = torch.cat([scaled(history[:, -1, :4]), history[:, -1, 4:]], dim=1)
        before = scaled(history[:, max(-3, -history.shape[1]), :4])
        features = self.stem(torch.cat([static, now, before], dim=1))
        tokens = self.to_tokens(features.flatten(2).transpose(1, 2))
        return SceneFeatures(tokens, self.to_field(features), static)


class Encoder(nn.Module):
    """The code of each patch from the true next frame beside the anchor."""

    def __init__(self, preset: Preset, quantiser: nn.Module) -> None:
        super().__init__()
        self.preset = preset
        self.quantiser: Quantiser = cast(Quantiser, quantiser)
        width = 2 * preset.field
        self.embed = nn.Linear(8 * preset.patch**2, width)
        self.side = nn.Conv2d(preset.field, width, 1)
        self.mix = nn.Sequential(nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU())
        self.out = nn.Conv2d(width, self.quantiser.width, 1)

    def forward(
        self, target: Float[Tensor, "B 4 H W"], anchor: Float[Tensor, "B 4 H W"], scene: SceneFeatures
    ) -> Float[Tensor, "B S D"]:
        return self.quantiser.quantise(self.raw(target, anchor, scene))

    def learn(
        self, target: Float[Tensor, "B 4 H W"], anchor: Float[Tensor, "B 4 H W"], scene: SceneFeatures
    ) -> Encoded:
        """For training: codes, and the quantiser's own learning from the patches that hold somebody."""
        raw = self.raw(target, anchor, scene)
        told = busy(torch.cat([target[:, :2], anchor[:, :2]], dim=1), self.preset.patch)
        return Encoded(raw, self.quantiser.quantise(raw), self.quantiser.learn(raw, told))

    def raw(
        self, target: Float[Tensor, "B 4 H W"], anchor: Float[Tensor, "B 4 H W"], scene: SceneFeatures
    ) -> Float[Tensor, "B S D"]:
        """The codes before they are made discrete."""
        pair = torch.cat([scaled(target) - scaled(anchor), scaled(anchor)], dim=1)
        embedded = self.embed(patches(pair, self.preset.patch)).transpose(1, 2)
        raw = self.out(self.mix(embedded.reshape(*embedded.shape[:2], *self.preset.side) + self.side(scene.field)))
        return raw.flatten(2).transpose(1, 2)


class Decoder(nn.Module):
    """Codes to the next frame: steer the particles, splat them, add a residual logit for what comes and goes."""

    gains: Tensor

    def __init__(self, preset: Preset, code: int) -> None:
        super().__init__()
        self.preset = preset
        # What is believed of steering, sharpening, appearing: 1 in training, then fitted on held-out training groups.
        self.register_buffer("gains", torch.ones(3))
        width, hidden = preset.field, preset.particle
        self.embed = nn.Linear(code, width)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 1), nn.GELU()
        )
        self.steer = nn.Sequential(
            nn.Linear(width + PARTICLE_FEATURES, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )
        self.steer_out = nn.Linear(hidden, 5)
        self.appear = nn.Linear(width, 2 * preset.patch**2)
        # On blocks of 2 x 2 cells: half the memory traffic of a convolution on cells, twice its reach.
        self.sharpen = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(inplace=True))
        self.sharpen_out = nn.Conv2d(24, 8, 1)
        for layer in (self.steer_out, self.appear, self.sharpen_out):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        codes: Float[Tensor, "B S D"],
        particles: Particles,
        scene: SceneFeatures,
        age: int,
        ego: Float[Tensor, "B 2 4"] | None = None,
    ) -> Decoded:
        """The frame half a second later; `age` is how many steps ago the particles were seeded, `ego` is x, y, yaw, v
        of the ego now and then (None: the particles are told nothing of it)."""
        field = self.field(codes, scene)
        return self.drawn(field, particles.steered(*self.steering(field, particles, scene, age, ego)))

    def field(self, codes: Float[Tensor, "B S D"], scene: SceneFeatures) -> Float[Tensor, "B F H2 W2"]:
        """What the codes and the scene say of each patch."""
        embedded = self.embed(codes).transpose(1, 2)
        embedded = embedded.reshape(*embedded.shape[:2], *self.preset.side)
        both = torch.cat([embedded, scene.field], dim=1).contiguous(memory_format=torch.channels_last)
        return embedded + self.mix(both)

    def drawn(self, field: Float[Tensor, "B F H2 W2"], moved: Particles) -> Decoded:
        """The frame that shows these particles, with the field's residual."""
        anchor = render(moved, self.preset.grid)
        occupancy, speed = anchor[:, :2], _length(anchor[:, 2:], 1) / SPEED_SCALE
        base = torch.logit(occupancy, LOGIT_FLOOR)
        blocks = self.sharpen[0](torch.cat([base / 7.0, speed], dim=1))
        # Channels last: convolutions with few channels spend most of their time in rearranging otherwise.
        blocks = blocks.contiguous(memory_format=torch.channels_last)
        sharper = self.sharpen_out(self.sharpen[1:](blocks))
        # What stands still is exact already, and its soft edges lie near the threshold: leave them alone.
        moving = speed / (speed + 1.0 / SPEED_SCALE)
        sharper = self.gains[1] * moving * _cells(sharper)
        residual = sharper + self.gains[2] * (1.0 - occupancy).square().square() * self._unpatch(field)
        logits = base + RESIDUAL_SCALE * residual
        # Written as a change, so that a zero residual leaves the anchor's occupancy untouched to the bit.
        change = torch.sigmoid(logits) - torch.sigmoid(base)
        return Decoded(moved, logits, (occupancy + change).clamp(0.0, 1.0), anchor[:, 2:])

    def steering(
        self,
        field: Float[Tensor, "B F H2 W2"],
        particles: Particles,
        scene: SceneFeatures,
        age: int,
        ego: Float[Tensor, "B 2 4"] | None = None,
    ) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N"]]:
        """Each particle's acceleration (m/s2) and how fast its body turns (rad/s)."""
        grid, velocity = self.preset.grid, particles.velocity
        speed = _length(velocity, -1)
        static, inside = at_cells(scene.static, particles.position, grid)
        along = heading(velocity, static[..., 2:4])
        memory = particles.memory
        features = torch.cat(
            [
                speed / SPEED_SCALE,
                along,
                _turned(particles.offset, along) / 2.0,
                _turned(memory[..., 0:2], along) / ACCEL_SCALE,
                _turned(memory[..., 2:4], along) / ACCEL_SCALE,
                memory[..., 4:6],
                _turned(static[..., 2:4], along),
                static[..., [0, 1, 4, 5, 7]],
                inside[..., None].to(velocity.dtype),
                particles.mass,
                torch.full_like(speed, age / 6.0),
                speed.new_zeros(*speed.shape[:2], EGO_PARTICLE_FEATURES)
                if ego is None
                else ego_features(particles.position, along, speed, ego, particles.way),
            ],
            dim=-1,
        )
        local = torch.cat([sample(field, particles.position, grid), features], dim=-1)
        out = self.steer_out(self.steer(local))
        across = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
        out = self.gains[0] * out
        accel = ACCEL_SCALE * (out[..., 0:1] * along + out[..., 1:2] * across + 0.25 * out[..., 3:5])
        return accel, TURN_SCALE * out[..., 2]

    def _unpatch(self, field: Float[Tensor, "B F H2 W2"]) -> Float[Tensor, "B 2 H W"]:
        p, (rows, cols) = self.preset.patch, self.preset.side
        out = self.appear(field.flatten(2).transpose(1, 2)).reshape(-1, rows, cols, 2, p, p)
        return out.permute(0, 3, 1, 4, 2, 5).reshape(-1, 2, rows * p, cols * p)


class Tokenizer(nn.Module):
    """Scene encoder, encoder of residuals, decoder; the quantiser of this name, or the preset's own."""

    def __init__(self, preset: Preset, quantiser: str = "") -> None:
        super().__init__()
        self.scene = SceneEncoder(preset)
        self.encoder = Encoder(preset, quantiser_of(quantiser or preset.quantiser, preset))
        self.decoder = Decoder(preset, self.quantiser.width)

    @property
    def quantiser(self) -> Quantiser:
        """How codes are made discrete."""
        return self.encoder.quantiser


def _length(vector: Tensor, dim: int) -> Tensor:
    """Euclidean length with a finite gradient at zero; `Tensor.norm` is many times slower along a short axis."""
    return vector.square().sum(dim, keepdim=True).add(1e-8).sqrt()


def _cells(blocks: Float[Tensor, "B C4 H2 W2"]) -> Float[Tensor, "B C H W"]:
    """`F.pixel_shuffle` by 2 of what lies channels last, in half of its time."""
    b, c, h, w = blocks.shape
    split = blocks.permute(0, 2, 3, 1).reshape(b, h, w, c // 4, 2, 2)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, 2 * h, 2 * w)


def _turned(vector: Tensor, along: Tensor) -> Tensor:
    """Components along and across the direction of travel."""
    ax, ay = along.unbind(-1)
    x, y = vector.unbind(-1)
    return torch.stack([ax * x + ay * y, ax * y - ay * x], dim=-1)
