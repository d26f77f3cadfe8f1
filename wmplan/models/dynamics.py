"""The frame-autoregressive transformer: which codes come next, given what is imagined so far and what the ego does.

The ego's action enters three ways: its footprints now and next as rasters (a reaction happens where the ego is), an
ego token, and adaLN-zero in every block from bounded Fourier features of its step. What else may differ between
futures is one scene latent z a rollout: given z, the likeliest code of each patch is taken in a single pass. Tokens are
never sampled one by one, which would tear vehicles apart.

References:
    `reference/world_models.md` 4.3; Peebles & Xie (2023), "Scalable diffusion models with transformers" (adaLN-zero).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wmplan.models.presets import Preset
from wmplan.models.quantisers import Quantiser, null_bias
from wmplan.models.tokenizer import patches, scaled

FREQUENCIES = 8
MAX_FREQUENCY = 8.0
"""Bound on the learned Fourier frequencies, so that no action is aliased."""
EGO_FEATURES = 4


class Fourier(nn.Module):
    """Bounded Fourier features of symlog(dx, dy, dpsi, v) of the ego's step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.linspace(-2.0, 2.0, FREQUENCIES))
        self.out = nn.Linear(EGO_FEATURES * (2 * FREQUENCIES + 1), width)

    def forward(self, step: Float[Tensor, "B 4"]) -> Float[Tensor, "B D"]:
        small = torch.sign(step) * torch.log1p(step.abs())
        phase = small[..., None] * (MAX_FREQUENCY * torch.sigmoid(self.raw))
        features = torch.cat([small[..., None], torch.sin(phase), torch.cos(phase)], dim=-1)
        return self.out(features.flatten(1))


class Block(nn.Module):
    """Attention and feed-forward, each scaled, shifted and gated by the condition; the identity at the start.

    Computes in the precision of its weights, whatever that of the tokens, which they keep.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        width = preset.width
        self.heads = preset.heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, preset.mlp), nn.ReLU(inplace=True), nn.Linear(preset.mlp, width))
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, tokens: Float[Tensor, "B S D"], condition: Float[Tensor, "R D"]) -> Float[Tensor, "B S D"]:
        given, own = tokens.dtype, self.qkv.weight.dtype
        tokens, condition = tokens.to(own), condition.to(own)
        changes = self.modulate(condition)[: len(tokens), None]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = changes.chunk(6, dim=-1)
        # One pass over the tokens for each multiply-add.
        asked = torch.addcmul(shift_a, self.norm_attention(tokens), 1.0 + scale_a)
        tokens = torch.addcmul(tokens, gate_a, self._attend(asked))
        asked = torch.addcmul(shift_m, self.norm_mlp(tokens), 1.0 + scale_m)
        return torch.addcmul(tokens, gate_m, self.mlp(asked)).to(given)

    def _attend(self, x: Tensor) -> Tensor:
        b, s, d = x.shape
        q, k, v = self.qkv(x).reshape(b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.project(out.transpose(1, 2).reshape(b, s, d))


class Dynamics(nn.Module):
    """Logits of the next frame's codes. Frames are embedded once and remembered as tokens."""

    def __init__(self, preset: Preset, quantiser: Quantiser) -> None:
        super().__init__()
        self.preset = preset
        width, area = preset.width, preset.patch**2
        count = preset.side[0] * preset.side[1]
        self.embed_frame = nn.Linear(4 * area, width)
        self.embed_anchor = nn.Linear(4 * area, width)
        self.embed_ego = nn.Linear(2 * area, width)
        self.embed_past = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(preset.history - 1))
        self.place = nn.Parameter(0.02 * torch.randn(1, count, width))
        self.action = Fourier(width)
        self.latent = nn.Linear(preset.scene_latents, width, bias=False)
        nn.init.normal_(self.latent.weight, std=0.5)
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.ego_token = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(preset) for _ in range(preset.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, sum(quantiser.splits))
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias.copy_(null_bias(quantiser, 1.0))

    def remember(self, frame: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B S D"]:
        """A frame as the tokens that history keeps of it."""
        return self.embed_frame(patches(scaled(frame), self.preset.patch))

    def ego(self, footprints: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B S D"]:
        """The ego's footprints now and next, as tokens."""
        return self.embed_ego(patches(footprints, self.preset.patch))

    def forward(
        self,
        scene: Float[Tensor, "B S D"],
        past: list[Tensor],
        anchor: Float[Tensor, "B 4 H W"],
        ego: Float[Tensor, "B S D"],
        step: Float[Tensor, "R 4"],
        latent: Float[Tensor, "R Z"],
    ) -> Float[Tensor, "B S L"]:
        """Logits, each digit's values one after another. `past` holds remembered frames, the present last;
        `step` is the ego's dx, dy, dpsi (in its own frame at the step's start) and speed; `latent` is one-hot. Rows of
        both beyond the first B are padding: products of few rows round otherwise than products of many."""
        tokens = scene + past[-1] + self.embed_anchor(patches(scaled(anchor), self.preset.patch)) + ego + self.place
        for back, embed in enumerate(self.embed_past, start=2):
            if back <= len(past):
                tokens = tokens + embed(past[-back])
        condition = self.condition(self.action(step) + self.latent(latent))
        tokens = torch.cat([tokens, self.ego_token(condition)[: len(tokens), None]], dim=1)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self.head(self.norm(tokens[:, :-1]))


class Posterior(nn.Module):
    """Which scene latent explains what really happened; used in training only."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.embed = nn.Linear(8 * preset.patch**2, preset.width)
        self.out = nn.Sequential(nn.GELU(), nn.Linear(preset.width, preset.width), nn.GELU())
        self.head = nn.Linear(preset.width, preset.scene_latents)

    def forward(
        self, target: Float[Tensor, "B 4 H W"], anchor: Float[Tensor, "B 4 H W"], scene: Float[Tensor, "B S D"]
    ) -> Float[Tensor, "B Z"]:
        """Logits over z from the last true frame beside its constant-velocity anchor."""
        pair = torch.cat([scaled(target) - scaled(anchor), scaled(anchor)], dim=1)
        return self.head(self.out(self.embed(patches(pair, self.preset.patch)) + scene).mean(1))
