"""`wmplan bench forecast`: a model against constant velocity and persistence on validation scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.bench.rows import Rows
from experiments.results import FOLDER


@dataclass(frozen=True)
class ForecastBench:
    """What to measure."""

    model: str
    """A checkpoint folder."""
    store: str
    """A store with validation scenes."""
    scenes: int = 400
    """At most so many validation scenes, a fixed random choice; 0 = all."""
    label: str = ""
    """Words that tell this model from others, put into the names of the figures."""
    results: str = str(FOLDER)
    """Folder of the results."""


def run(config: ForecastBench) -> int:
    """IoU with paired intervals, recorded; the exit status."""
    from experiments.forecasting import forecasts
    from wmplan.forecast import compare, summary, table

    frame = table(forecasts(Path(config.store), config.model, most=config.scenes))
    learned = next(name for name in frame["model"].unique() if name not in ("cv", "persistence"))
    command = f"wmplan bench forecast model={Path(config.model).name} store={Path(config.store).name}"
    rows = Rows(2, command, config.results, config.label)
    for row in _of_iou(summary(frame, 0)):
        figure = f"forecast IoU at {row['seconds']:g} s, {row['model']}"
        rows.write(figure, row["value"], interval=(row["low"], row["high"]), n=row["scenes"])
    for other in ("cv", "persistence"):
        for row in _of_iou(compare(frame, learned, other, 0)):
            near = other == "cv" and row["seconds"] < 1.5
            goal, met = ("not below 0", row["high"] >= 0.0) if near else ("above 0", row["low"] > 0.0)
            figure = f"forecast IoU at {row['seconds']:g} s, {learned} - {other}"
            rows.write(figure, row["value"], goal, met, (row["low"], row["high"]), row["scenes"])
    return 0


def _of_iou(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows for IoU of everybody, averaged over scenes."""
    return frame[(frame["channel"] == "any") & (frame["score"] == "iou")].to_dict("records")  # type: ignore[return-value]
