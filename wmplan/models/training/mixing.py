"""Which examples make a batch: logs, and pairs of counterfactuals that began in one scene, by their shares."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from wmplan.contracts import RASTER_HISTORY
from wmplan.models.training.data import MARK, Examples, scene_of

SORTED_BATCHES = 4
REACTING_M = 0.5
"""A scene reacts if somebody in the window is so far elsewhere in the end under another of its plans."""
REACTING_WEIGHT = 8.0
"""Scenes that react are drawn so many times as often as the others: they are the rarer ones."""
SAME_M = 1e-3


class Sampler:
    """Draws batches. Counterfactuals come two by two: rows 2i and 2i + 1 began in one scene and are mirrored alike, so
    that a loss can compare them. `share` of the batch are such pairs, where there are any; the others are logs, drawn
    alike or by `weights`.

    Examples of a batch are alike in how much they hold, since particles are padded to the fullest: of several batches'
    worth, ordered by their contents, one batch is taken.
    """

    def __init__(self, examples: Examples, size: int, share: float, weights: Float[ndarray, "S"] | None = None) -> None:
        self._fullness = examples.fullness
        marked = np.array([MARK in name for name in examples.scene_ids], dtype=bool)
        self._logs = np.flatnonzero(~marked)
        self._chances = None if weights is None else weights[self._logs] / weights[self._logs].sum()
        self._scenes = families(examples, np.flatnonzero(marked))
        share = 0.0 if not self._scenes else share if len(self._logs) else 1.0
        self._pairs = round(0.5 * share * size)
        self._singles = size - 2 * self._pairs if len(self._logs) else 0
        if self._scenes:
            moved = np.array([reaction(examples, rows) for rows in self._scenes])
            often = np.where(moved > REACTING_M, REACTING_WEIGHT, 1.0)
            self._often = often / often.sum()

    def draw(self, draw: np.random.Generator) -> tuple[Int[ndarray, "B"], Bool[ndarray, "B"]]:
        """Rows of a batch, pairs first, and which of them are mirrored."""
        part = int(draw.integers(SORTED_BATCHES))
        rows: list[int] = []
        mirror: list[bool] = []
        if self._pairs:
            drawn = draw.choice(len(self._scenes), SORTED_BATCHES * self._pairs, p=self._often)
            firsts = np.array([self._scenes[i][0] for i in drawn])
            for i in self._part(drawn, firsts, part):
                rows.extend(draw.choice(self._scenes[i], 2, replace=False))
                mirror.extend(2 * [draw.random() < 0.5])
        if self._singles:
            chosen = draw.choice(self._logs, SORTED_BATCHES * self._singles, p=self._chances)
            rows.extend(self._part(chosen, chosen, part))
            mirror.extend(draw.random(self._singles) < 0.5)
        return np.array(rows), np.array(mirror, dtype=bool)

    def _part(self, drawn: Int[ndarray, "N"], rows: Int[ndarray, "N"], part: int) -> Int[ndarray, "P"]:
        ordered = drawn[np.argsort(self._fullness[rows], kind="stable")]
        return ordered.reshape(SORTED_BATCHES, -1)[part]


def families(examples: Examples, rows: Int[ndarray, "N"]) -> list[Int[ndarray, "_N"]]:
    """Those of the rows that began in one scene, scene by scene, where there are at least two."""
    members: dict[str, list[int]] = {}
    for row in rows:
        members.setdefault(scene_of(examples.scene_ids[row]), []).append(int(row))
    return [np.array(group) for group in members.values() if len(group) > 1]


def reaction(examples: Examples, rows: Int[ndarray, "K"]) -> float:
    """How far apart, in metres, the end of the horizon finds anybody under two plans of one scene, of those who are in
    the window at t0 and in the end: who comes in later has no particles that could be taught anything."""
    now, grid = RASTER_HISTORY - 1, examples.grid
    states, valid = examples.states[rows], examples.valid[rows]
    extent = grid.cell * np.array([grid.cols, grid.rows])
    share = (states[..., :2] - [grid.x_min, grid.y_min]) / extent
    known = valid & ((share > 0.0) & (share < 1.0)).all(-1)
    known = known[:, now] & known[:, -1]
    most = 0.0
    for other in range(1, len(rows)):
        # Agents are kept in the order of their distance, which the plan may change: who is who, the present tells.
        away = np.abs(states[0, now, :, None, :2] - states[other, now, None, :, :2]).max(-1)
        same = (away < SAME_M) & known[0][:, None] & known[other][None]
        moved = np.hypot(*np.moveaxis(states[0, -1, :, None, :2] - states[other, -1, None, :, :2], -1, 0))
        most = max(most, float(np.where(same, moved, 0.0).max()))
    return most
