"""Training of learned world models: examples in memory, losses, the stages, a loop that can be killed and goes on.

`Examples` holds a store's scenes as states; `train` fits a network to them by `Settings`; `measure` compares forecasts
with constant velocity and persistence.
"""

from __future__ import annotations

from wmplan.models.training.calibrate import calibrate, held_out
from wmplan.models.training.data import Batch, Examples
from wmplan.models.training.loop import Progress, TrainingStopped, train
from wmplan.models.training.measure import Measured, measure
from wmplan.models.training.settings import Settings

__all__ = [
    "Batch", "Examples", "Measured", "Progress", "Settings", "TrainingStopped", "calibrate", "held_out", "measure",
    "train",
]  # fmt: skip
