"""L1, accuracy: the scores of `wmplan.forecast` as a layer, and the gate that a model beats both baselines.

The forecast is the mean over samples. A class that is absent in truth and forecast is skipped, not counted as 1; `miou`
is the mean over the classes that remain. NLL is in bits per dynamic cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from wmplan.forecast import CHANNELS, SCORES, SceneForecast, compare, score_frames, table
from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence
from wmplan.validation.layers import Layer, mean_of, share_of

ABOVE = "above 0, interval included"


def measure_accuracy(evidence: Evidence) -> SceneForecast:
    """Counts at 1, 2 and 3 s for vehicles, VRU and both."""
    return score_frames(evidence.model, evidence.raster, evidence.mean, evidence.truth, evidence.group)


def summarise(rows: Sequence[SceneForecast], seed: int) -> list[Measure]:
    """Every score by channel and horizon, means over scenes; `pooled_iou` pools cells of all scenes."""
    if not rows:
        return []
    frame = table(rows)
    measures = []
    for t, seconds in enumerate(rows[0].seconds):
        at = f"{seconds:g} s"
        measures.append(mean_of(f"miou, {at}", _miou(rows, t), rows, seed))
        for c, channel in enumerate(CHANNELS):
            part = frame[(frame["channel"] == channel) & (frame["seconds"] == seconds)]
            for score in SCORES:
                values = part[score].to_numpy(dtype=np.float64)
                measures.append(mean_of(f"{score}, {channel}, {at}", values, rows, seed))
            both, either = ([getattr(row, name)[c, t] for row in rows] for name in ("intersection", "union"))
            measures.append(share_of(f"pooled_iou, {channel}, {at}", both, either, rows, seed))
    return measures


def summarise_against(
    rows: Sequence[SceneForecast], baselines: Sequence[Sequence[SceneForecast]], seed: int
) -> list[Measure]:
    """IoU minus that of each baseline on the scenes of both, by channel and horizon; the gate is above both at each.

    Raises:
        ValueError: a baseline has no rows.
    """
    measures = []
    for other in baselines:
        if not other:
            raise ValueError("summarise_against: a baseline without rows, expected those of the same scenes")
        found = compare(table([*rows, *other]), rows[0].model, other[0].model, seed)
        for one in found[found["score"].isin(["iou", "soft_iou"])].to_dict("records"):
            metric = f"{one['score']}, {one['channel']}, {one['seconds']:g} s, minus {one['second']}"
            value, low, high = (float(one[name]) for name in ("value", "low", "high"))
            cleared = low > 0.0 if np.isfinite(value) else None
            measures.append(Measure(value, int(one["scenes"]), str(one["reason"]), metric, low, high, ABOVE, cleared))
    return measures


LAYER = Layer("L1 accuracy", measure_accuracy, summarise)


def _miou(rows: Sequence[SceneForecast], t: int) -> Float64[ndarray, "S"]:
    both = np.array([row.intersection[:2, t] for row in rows])
    either = np.array([row.union[:2, t] for row in rows])
    iou = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0.0)
    present = (either > 0.0).sum(axis=1)
    total = np.where(either > 0.0, iou, 0.0).sum(axis=1)
    return np.divide(total, present, out=np.full(len(rows), np.nan), where=present > 0)
