"""Gates before dynamics: does the tokenizer keep what a decision looks at? Measured on held-out training groups.

A rollout by the codes of the truth is compared with the truth. What the tokenizer loses here no dynamics can predict;
a missed gate is written on the card and said, and training goes on.

References:
    `reference/world_models.md` 4.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wmplan.contracts import RASTER_HISTORY, Critic, Imagined, SceneRaster
from wmplan.models.quantisers import perplexity
from wmplan.models.rollout import Network, advance, anchor_of, begin
from wmplan.models.tokenizer import busy
from wmplan.models.training.data import Batch, Examples
from wmplan.plans import ROUTE_POINTS, Plans, Start
from wmplan.validation.decision_relevant import ACCELS_MPS2, SIDEWAYS_M, measure_flips
from wmplan.validation.layers import Gate

THRESHOLD = 0.5
BATCH = 16
MOST_SCENES = 200
AHEAD = np.stack([1.5 * np.arange(ROUTE_POINTS), np.zeros(ROUTE_POINTS)], axis=1).astype(np.float32)
"""A route, which examples do not hold and no collision verdict looks at."""
VEHICLE_IOU = Gate(at_least=0.85)
VRU_IOU = Gate(at_least=0.6)
PERPLEXITY = Gate(at_least=0.3)
FLIPS = Gate(at_most=0.01)


@dataclass(frozen=True)
class Gated:
    """A gate's figure: its value (NaN where nothing could be measured), what it counts, the goal, whether it is met."""

    name: str
    value: float
    count: int
    of: str
    goal: str
    met: bool | None

    def __str__(self) -> str:
        if self.met is None:
            return f"{self.name}: not measured, there are no {self.of}"
        verdict = "met" if self.met else "MISSED"
        return f"{self.name} {self.value:.3f} over {self.count} {self.of}, {self.goal}: {verdict}"


@dataclass(frozen=True)
class Reconstructed:
    """Frames by the codes of the truth, and the words that were used in patches with somebody in them, by codebook."""

    frames: Float[Tensor, "B T 4 H W"]
    words: Int[Tensor, "N G"]


def reconstruct(network: Network, batch: Batch, horizon: int) -> Reconstructed:
    """A rollout of the tokenizer of a network of the family `ar`, each code taken at the state that the last led to."""
    tokenizer = network.tokenizer
    state = begin(network, batch.static, batch.frames[:, :RASTER_HISTORY], remember=False)
    frames, words = [], []
    for t in range(horizon):
        truth, anchor = batch.frames[:, RASTER_HISTORY + t], anchor_of(state, network.preset)
        raw = tokenizer.encoder.raw(truth[:, :4], anchor, state.scene)
        told = busy(torch.cat([truth[:, :2], anchor[:, :2]], dim=1), network.preset.patch)
        words.append(tokenizer.quantiser.words(tokenizer.quantiser.digits(raw[told])))
        codes = tokenizer.quantiser.quantise(raw)
        state, decoded = advance(network, state, codes, False, batch.ego[:, t : t + 2])
        frames.append(decoded.frame)
    return Reconstructed(torch.stack(frames, dim=1), torch.cat(words))


@torch.no_grad()
def tokenizer_gates(
    network: Any,
    examples: Examples,
    horizon: int,
    critic: Critic,
    rebuild: Callable[[Any, Batch, int], Reconstructed] = reconstruct,
) -> tuple[Gated, ...]:
    """The four gates on these examples. `critic` gives the collision verdicts; `rebuild` is the family's."""
    if len(examples) > MOST_SCENES:
        examples = examples.select(np.unique(np.linspace(0, len(examples) - 1, MOST_SCENES).astype(int)))
    both, either = np.zeros(2), np.zeros(2)
    words, flipped, judged = [], 0, 0
    for first in range(0, len(examples), BATCH):
        rows = np.arange(first, min(first + BATCH, len(examples)))
        batch = examples.batch(rows)
        rebuilt = rebuild(network, batch, horizon)
        words.append(rebuilt.words)
        truth = batch.frames[:, RASTER_HISTORY : RASTER_HISTORY + horizon]
        observed = truth[:, :, 4:] > 0.5
        a, b = _occupied(rebuilt.frames, observed), _occupied(truth, observed)
        both += (a & b).sum((0, 1, 3, 4)).numpy()
        either += (a | b).sum((0, 1, 3, 4)).numpy()
        for raster, pool, frames in _asked(examples, batch, rows, rebuilt.frames, truth):
            flips = measure_flips(raster, pool, *frames, critic)
            flipped, judged = flipped + flips.missed + flips.invented, judged + flips.candidates
    used = torch.cat(words)
    books = network.tokenizer.quantiser.books
    shares = [perplexity(used[:, i], size) / size for i, size in enumerate(books)] if len(used) else []
    iou = np.divide(both, either, out=np.full(2, np.nan), where=either > 0)
    return (
        _gated("vehicle_iou", iou[0], int(either[0]), "cells", VEHICLE_IOU),
        _gated("vru_iou", iou[1], int(either[1]), "cells", VRU_IOU),
        _gated("codebook_perplexity_share", min(shares, default=np.nan), len(used), "codes", PERPLEXITY),
        _gated("verdicts_flipped", flipped / judged if judged else np.nan, judged, "scenes x candidates", FLIPS),
    )


def to_json(gates: Sequence[Gated]) -> str:
    """The gates as text, for a training that goes on later."""
    return json.dumps([asdict(gate) for gate in gates], indent=1) + "\n"


def from_json(text: str) -> tuple[Gated, ...]:
    """The inverse of `to_json`."""
    return tuple(Gated(**row) for row in json.loads(text))


def _gated(name: str, value: float, count: int, of: str, gate: Gate) -> Gated:
    return Gated(name, float(value), count, of, str(gate), gate.cleared(float(value)))


def _occupied(frames: Float[Tensor, "B T C H W"], observed: Bool[Tensor, "B T 1 H W"]) -> Bool[Tensor, "B T 2 H W"]:
    return (frames[:, :, :2] > THRESHOLD) & observed


def _asked(
    examples: Examples, batch: Batch, rows: np.ndarray, rebuilt: Tensor, truth: Tensor
) -> Iterator[tuple[SceneRaster, Plans, tuple[Imagined, Imagined]]]:
    """Of each scene: the raster, what the ego might do, and both futures as each of those candidates would see them."""
    for i, row in enumerate(rows):
        speed = float(batch.ego[i, 0, 3])
        length, width = (float(x) for x in examples.ego_size[row])
        start = Start(speed, 0.0, 0.0, length, width, max(speed, 1.0), AHEAD)
        name = examples.scene_ids[row]
        raster = SceneRaster(name, name, examples.grid, batch.static[i], batch.frames[i, :RASTER_HISTORY], start)
        pool = _pool(speed, truth.shape[1])
        futures = tuple(
            Imagined(
                frames[i, None, None, :, :2].expand(len(pool), -1, -1, -1, -1, -1),
                frames[i, None, None, :, 2:4].expand(len(pool), -1, -1, -1, -1, -1),
                frames.new_zeros(len(pool), 1, truth.shape[1], 1),
                examples.grid,
            )
            for frames in (rebuilt, truth)
        )
        yield raster, pool, (futures[0], futures[1])


def _pool(speed: float, frames: int) -> Plans:
    """Twelve candidates: the accelerations and places to the side of the instrument, from a straight drive."""
    steps = 5 * frames
    way = max(speed * 0.1 * steps, 5.0)
    controls = np.array([[a, np.clip(2.0 * y / way**2, -0.1, 0.1)] for a in ACCELS_MPS2 for y in SIDEWAYS_M])
    return Plans.from_controls(np.repeat(controls[:, None], steps, axis=1), speed)
