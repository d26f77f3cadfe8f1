"""L4, reaction error: how others move because of what the ego does, imagined against true.

For plans do(a) and the logged plan (the reference) a road user's reaction is delta(a) = x(do a) - x(do a_log) at 3 s.
True reactions come from the road, imagined ones from instances followed through imagined frames; no true position
enters that read-out, so a model that does not look at the action gets exactly 0 (unlike a read-out in a window that
moves with the true ones). Reactions are compared along the direction of the largest true one.

An instance that the read-out loses has no imagined reaction. Every figure stands in two accountings: `tracked`, over
the road users that were followed under both plans; `all`, where a lost one counts as an imagined reaction of 0.

References:
    `reference/evaluation.md`, section 4, L4; `reference/world_models.md`, section 5 (probe, floor and ceiling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray

from wmplan.statistics import Measure, spearman
from wmplan.validation.interventions import Acted, Futures, Probed, find
from wmplan.validation.layers import Gate, mean_of, share_of, statistic_of

CAUSAL_M = 0.8
"""A road user reacts if some plan moves it by more than this at 3 s."""
STILL_M = 0.1
"""A road user does not react if no plan moves it by as much as this."""
HARDEST = 1
"""Row of the hardest braking among the plans: the first after the logged one."""
SLOPE, SIGN, SPURIOUS = Gate(0.7, 1.3), Gate(at_least=0.9), Gate(at_most=0.2)


@dataclass(frozen=True)
class SceneReaction:
    """One scene and one model: A road users inside the window at t0, K plans of which the first is the reference.

    `true` and `imagined` are reactions in metres (0 for the reference); `true` is NaN where the road user leaves the
    window or the road, `imagined` also where the read-out lost it. `off` is the distance between the imagined and the
    true place at 3 s, an instance that is lost standing where its last velocity would have led (NaN where it was never
    found at t0). `found` tells who was an instance at t0.
    """

    scene_id: str
    group: str
    model: str
    true: Float64[ndarray, "A K 2"]
    imagined: Float64[ndarray, "A K 2"]
    off: Float64[ndarray, "A K"]
    found: Bool[ndarray, "A"]

    @property
    def size(self) -> Float64[ndarray, "A"]:
        """The largest true reaction of each road user, metres; 0 where none is known."""
        sizes: Float64[ndarray, "A"] = np.nan_to_num(np.linalg.norm(self.true, axis=-1)).max(axis=1, initial=0.0)
        return sizes

    @property
    def causal(self) -> Bool[ndarray, "A"]:
        """Who truly reacts."""
        return self.size > CAUSAL_M

    def along(self, rows: Int[ndarray, "N"]) -> tuple[Float64[ndarray, "N P"], Float64[ndarray, "N P"]]:
        """True and imagined reactions of these road users along their largest true one, reference left out."""
        true, imagined = self.true[rows], self.imagined[rows]
        largest = np.nan_to_num(np.linalg.norm(true, axis=-1)).argmax(axis=1)
        vector = true[np.arange(len(rows)), largest]
        unit = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
        return (true @ unit[..., None])[:, 1:, 0], (imagined @ unit[..., None])[:, 1:, 0]


def react(model: str, futures: Futures, probed: Probed, step: int = 6) -> SceneReaction:
    """The reactions of one scene as this model imagines them, read at imagined step `step`, beside the true ones.

    `futures` are those of the probe's plans. Reactions are means over the imagined samples in which the road user was
    followed.
    """
    acted = probed.acted
    users, true, there = _true(acted, step)
    found = find(acted, probed.first)[users]
    place, known = futures.at(found, step)  # K M A 2
    pair = np.isfinite(true[..., 0])
    true_place = acted.place[:, step][:, users]
    both = known & known[:1]
    reaction = np.where(both[..., None], place - place[:1], np.nan)
    off = np.linalg.norm(place - true_place[:, None], axis=-1)
    off = np.where((found >= 0) & np.moveaxis(there, 0, 1)[:, None], off, np.nan)
    return SceneReaction(
        probed.scene_id,
        probed.group,
        model,
        true,
        np.where(pair[..., None], np.moveaxis(_mean(reaction, axis=1), 0, 1), np.nan),
        _mean(off, axis=1).T,
        found >= 0,
    )


def how_many_react(acted: Acted, step: int = 6) -> int:
    """How many road users some of the plans truly move by more than `CAUSAL_M`, against the first plan."""
    true = _true(acted, step)[1]
    return int((np.nan_to_num(np.linalg.norm(true, axis=-1)).max(axis=1, initial=0.0) > CAUSAL_M).sum())


def summarise(rows: Sequence[SceneReaction], seed: int) -> list[Measure]:
    """The figures of one model over scenes. Coverage is the share of (road user, plan) that the read-out followed."""
    causal = [np.flatnonzero(row.causal) for row in rows]
    still = [np.flatnonzero((row.size < STILL_M) & np.isfinite(row.true[:, :, 0]).all(1)) for row in rows]
    along = [row.along(who) for row, who in zip(rows, causal)]
    followed = [(float(np.isfinite(i[np.isfinite(t)]).sum()), float(np.isfinite(t).sum())) for t, i in along]
    measures = [share_of("reaction coverage", *_columns(followed), rows, seed)]
    for counted in ("tracked", "all"):
        pairs = [_pairs(true, imagined, counted == "all") for true, imagined in along]
        slope, error, sign = (_columns([of(t, i) for t, i in pairs]) for of in (_slope, _error, _signs))
        ranks = [_rank(true, imagined, counted == "all") for true, imagined in along]
        measures += [
            share_of(f"reaction slope, {counted}", *slope, rows, seed, SLOPE),
            mean_of(f"reaction Spearman, {counted}", ranks, rows, seed),
            share_of(f"reaction sign right, {counted}", *sign, rows, seed, SIGN),
            share_of(f"reaction error, {counted}, m", *error, rows, seed),
        ]
    effects = _columns([_sum(np.linalg.norm(row.imagined[who, 1:], axis=-1)) for row, who in zip(rows, still)])
    places = _columns([_sum(row.off[who, HARDEST]) for row, who in zip(rows, causal)])
    return [
        *measures,
        share_of("spurious effect, m", *effects, rows, seed, SPURIOUS),
        share_of("place of who reacts at the hardest braking, m", *places, rows, seed),
    ]


def slope_over_ceiling(rows: Sequence[SceneReaction], ceiling: Sequence[SceneReaction], seed: int) -> Measure:
    """The slope (all) over that of the ceiling on the same scenes, drawn together.

    Raises:
        ValueError: other scenes.
    """
    if [row.scene_id for row in rows] != [row.scene_id for row in ceiling]:
        raise ValueError("slope_over_ceiling: the ceiling is of other scenes, expected the same in the same order")
    sums = []
    for row, best in zip(rows, ceiling):
        who = np.flatnonzero(row.causal)
        sums.append([_slope(*_pairs(*one.along(who), True))[0] for one in (row, best)])
    return statistic_of("reaction slope over the ceiling's", np.array(sums).reshape(-1, 2), _quotient, rows, seed)


# ------------------------------------------------------------------------------------------------------ details


def _true(acted: Acted, step: int) -> tuple[Int[ndarray, "A"], Float64[ndarray, "A K 2"], Bool[ndarray, "A K"]]:
    """Who is inside the window at t0, their true reactions (NaN where they leave it), where they are still there."""
    users = np.flatnonzero(acted.inside[0, 0])
    place = np.moveaxis(acted.place[:, step][:, users], 0, 1)
    there = acted.inside[:, step][:, users].T
    return users, np.where((there & there[:, :1])[..., None], place - place[:, :1], np.nan), there


def _pairs(true: ndarray, imagined: ndarray, filled: bool) -> tuple[ndarray, ndarray]:
    """True and imagined reactions as two lists, lost ones left out or as 0."""
    known = np.isfinite(true) & (filled | np.isfinite(imagined))
    return true[known], np.nan_to_num(imagined[known])


def _slope(true: ndarray, imagined: ndarray) -> tuple[float, float]:
    return float(true @ imagined), float(true @ true)


def _error(true: ndarray, imagined: ndarray) -> tuple[float, float]:
    return float(np.abs(true - imagined).sum()), float(len(true))


def _signs(true: ndarray, imagined: ndarray) -> tuple[float, float]:
    """How many reactions of more than `STILL_M` have the right sign, and how many there are."""
    moves = np.abs(true) > STILL_M
    return float((true * imagined > 0.0)[moves].sum()), float(moves.sum())


def _rank(true: ndarray, imagined: ndarray, filled: bool) -> float:
    """Rank correlation over the plans (the reference among them) of each road user, averaged; NaN without any.

    One whose imagined reactions are all the same has no order; it is left out, or counts as 0 where `filled`.
    """
    values = []
    for one, other in zip(true, imagined):
        a, b = _pairs(one, other, filled)
        found = float(spearman(estimate=np.append(b, 0.0), real=np.append(a, 0.0))) if len(a) > 1 else np.nan
        values.append(0.0 if filled and len(a) > 1 and np.isnan(found) else found)
    kept = np.array(values)[~np.isnan(values)] if values else np.zeros(0)
    return float(kept.mean()) if len(kept) else float("nan")


def _quotient(sums: Float64[ndarray, "R 2"]) -> Float64[ndarray, "R"]:
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] != 0.0)


def _sum(values: ndarray) -> tuple[float, float]:
    """The sum of what is a number, and how many are."""
    known = values[np.isfinite(values)]
    return float(known.sum()), float(len(known))


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [float(a) for a, _ in pairs], [float(b) for _, b in pairs]


def _mean(values: ndarray, axis: int) -> ndarray:
    """The mean of what is a number; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
