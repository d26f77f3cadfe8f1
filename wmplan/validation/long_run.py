"""How long does it last? Imagination chained for 45 s: is anybody still there, and do they still react?

A model imagines 3 s; its last frames, moved to where the ego then is, are the history of the next 3 s (`free`), or the
true frames are every `REGROUND` chunks (`regrounded`). Permanence: whoever was an instance at the beginning and is, in
truth, inside the moving window ever since, has to be found again in every frame. Reaction: in every chunk the ego also
brakes; the imagined displacement of those who truly react, against that without braking, is held against the true one.
One who is lost has not reacted.

References:
    `reference/seed_inventory.md`, 1.4 ("show me object permanence and a closed-loop reaction at second 45").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, RASTER_HISTORY, SceneRaster, WorldModel
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank, fold_in
from wmplan.statistics import Measure
from wmplan.validation.instances import READ_OUT, Instances, follow, match, read
from wmplan.validation.interventions import FIND_M
from wmplan.validation.later import carried
from wmplan.validation.layers import Gate, share_of
from wmplan.validation.long_truth import CHUNK_STEPS, CHUNKS, LongTruth
from wmplan.validation.reaction import CAUSAL_M

Mode = Literal["free", "regrounded"]
MODES: tuple[Mode, ...] = ("free", "regrounded")
REGROUND = 2
"""Chunks between two looks at the true frames: 6 s."""
AT_S = (3.0, 10.0, 20.0, 45.0)
SPANS = ((0, 9), (9, 21), (21, 45))
"""Seconds between which reactions are put together."""
KEPT = Gate(at_least=0.9)
Imagine = Callable[[int, SceneRaster, Plans], Float[Tensor, "2 T 4 H W"]]
"""Frames of a chunk under both of its plans, from the scene as it stands when the chunk begins."""


@dataclass(frozen=True)
class SceneLongRun:
    """One scene: road users eligible and still there at each imagined step; sums over those who truly react in each
    chunk, of true x imagined and of true x true reactions (m2), and how many they are."""

    scene_id: str
    group: str
    model: str
    mode: Mode
    eligible: Float64[ndarray, "T"]
    kept: Float64[ndarray, "T"]
    answered: Float64[ndarray, "G"]
    reacted: Float64[ndarray, "G"]
    causal: Float64[ndarray, "G"]


def imagining(model: WorldModel, seed: int) -> Imagine:
    """A model as it imagines chunks: one sample, another noise in each."""

    def imagine(chunk: int, raster: SceneRaster, plans: Plans) -> Float[Tensor, "2 T 4 H W"]:
        noise = NoiseBank(fold_in(seed, raster.scene_id, "long run"), 1)
        found = model.imagine(model.encode(raster), plans, noise)
        return torch.cat([found.occupancy[:, 0, :CHUNK_STEPS], found.velocity[:, 0, :CHUNK_STEPS]], dim=2)

    return imagine


def run_long(scene_id: str, group: str, name: str, imagine: Imagine, truth: LongTruth, mode: Mode) -> SceneLongRun:
    """One scene for as many chunks as its truth has; chunk 0 only gives the history."""
    eligible, kept = np.zeros((2, (CHUNKS - 1) * CHUNK_STEPS))
    answered, reacted, causal = np.zeros((3, CHUNKS - 1))
    if truth.chunks < 2:
        return SceneLongRun(scene_id, group, name, mode, eligible, kept, answered, reacted, causal)
    raster = truth.raster(1)
    first = _present(raster)
    place, inside = truth.places(1, 0)
    stays = inside[0].copy()
    tracked = np.where(stays, match(place[0], first.position, FIND_M, truth.kind[:, None] == first.kind[None]), -1)
    stays &= tracked >= 0
    for chunk in range(1, truth.chunks):
        with torch.no_grad():
            frames = imagine(chunk, raster, truth.pair(chunk))
        paths = [follow(first, [_read(frame, raster) for frame in branch]) for branch in frames]
        place, inside = truth.places(chunk, 0)
        braked, still_inside = truth.places(chunk, 1 + chunk)
        delta = braked[-1] - place[-1]
        moves = stays & inside.all(0) & still_inside[-1] & (np.linalg.norm(delta, axis=-1) > CAUSAL_M)
        at = chunk - 1
        causal[at], reacted[at] = moves.sum(), (delta[moves] ** 2).sum()
        both = moves & _seen(paths[0].seen[:, -1], tracked) & _seen(paths[1].seen[:, -1], tracked)
        imagined = paths[1].position[tracked[both], -1] - paths[0].position[tracked[both], -1]
        answered[at] = (imagined * delta[both]).sum()
        for k in range(1, CHUNK_STEPS + 1):
            stays &= inside[k]
            now = at * CHUNK_STEPS + k - 1
            eligible[now] = stays.sum()
            kept[now] = (stays & _seen(paths[0].seen[:, k], tracked)).sum()
        if chunk + 1 == truth.chunks:
            break
        true_frames = mode == "regrounded" and chunk % REGROUND == 0
        raster = _next(truth, chunk, None if true_frames else frames[0])
        here = _present(raster)
        if true_frames:
            where = truth.places(chunk + 1, 0)[0][0]
            known = np.ones(len(tracked), dtype=bool)
        else:
            where = np.zeros((len(tracked), 2))
            known = _seen(paths[0].seen[:, -1], tracked)
            where[known] = truth.moved(chunk).to_local(paths[0].position[tracked[known], -1])
        found = np.full(len(tracked), -1)
        found[known] = match(where[known], here.position, FIND_M, truth.kind[known, None] == here.kind[None])
        first, tracked = here, found
    return SceneLongRun(scene_id, group, name, mode, eligible, kept, answered, reacted, causal)


def summarise(rows: Sequence[SceneLongRun], seed: int) -> list[Measure]:
    """Permanence at some times, and the slope of imagined on true reactions up to 10, 20 and 45 s."""
    measures = []
    for at in AT_S:
        step = round(at / IMAGINED_STEP_S) - 1
        kept, eligible = ([float(getattr(row, name)[step]) for row in rows] for name in ("kept", "eligible"))
        gate = KEPT if at == 10.0 else None
        measures.append(share_of(f"still there after {at:g} s", kept, eligible, rows, seed, gate))
    for low, high in SPANS:
        answered, reacted = (
            [float(getattr(row, name)[low // 3 : high // 3].sum()) for row in rows] for name in ("answered", "reacted")
        )
        measures.append(share_of(f"reaction slope from {low} to {high} s", answered, reacted, rows, seed))
    return measures


def curves(rows: Sequence[SceneLongRun]) -> tuple[Float64[ndarray, "T"], Float64[ndarray, "G"]]:
    """The share of eligible road users that are still there at each step, and the slope in each chunk; NaN without."""
    kept, eligible, answered, reacted = (
        np.sum([getattr(row, name) for row in rows], axis=0) for name in ("kept", "eligible", "answered", "reacted")
    )
    return _over(kept, eligible), _over(answered, reacted)


# ------------------------------------------------------------------------------------------------------ details


def _next(truth: LongTruth, chunk: int, frames: Float[Tensor, "T 4 H W"] | None) -> SceneRaster:
    """The scene when the next chunk begins, on the last imagined frames or on the true ones."""
    if frames is None:
        return truth.raster(chunk + 1)
    return truth.raster(chunk + 1, carried(frames[-RASTER_HISTORY:], truth.grid, truth.moved(chunk))[:, :4])


def _present(raster: SceneRaster) -> Instances:
    return _read(raster.history[-1], raster)


def _read(frame: Float[Tensor, "C H W"], raster: SceneRaster) -> Instances:
    values = frame.numpy()
    return read(values[:2], values[2:4], raster.grid, READ_OUT)


def _seen(seen: Bool[ndarray, "N"], tracked: Int[ndarray, "A"]) -> Bool[ndarray, "A"]:
    """Whether each road user's instance is seen; one without an instance is not."""
    return np.append(seen, False)[tracked] & (tracked >= 0)


def _over(part: ndarray, whole: ndarray) -> ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0.0)
