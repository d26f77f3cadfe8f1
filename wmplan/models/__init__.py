"""World models behind one Protocol: baselines by name, learned models from checkpoint folders.

`MODELS` maps a name to what builds the model for a grid and a horizon; `load_model` takes a name or a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from wmplan.contracts import GRIDS, Grid, WorldModel
from wmplan.errors import InputError
from wmplan.models.baselines import ConstantVelocity, Persistence

MODELS: dict[str, Callable[[Grid, int], WorldModel]] = {
    "persistence": Persistence,
    "cv": ConstantVelocity,
}
"""Models that need no checkpoint: name -> `build(grid, horizon)`."""


def load_model(spec: str | Path, grid: Grid = GRIDS["nano"], horizon: int = 6) -> WorldModel:
    """The model called `spec`, or the learned one in the checkpoint folder `spec`.

    `grid` and `horizon` shape the baselines; a checkpoint brings its own.

    Raises:
        InputError: if `spec` is neither a registered name nor a folder with a readable checkpoint.
    """
    if str(spec) in MODELS:
        return MODELS[str(spec)](grid, horizon)
    if not Path(spec).is_dir():
        raise InputError(f"model {spec}: not found, expected one of {', '.join(sorted(MODELS))} or a checkpoint folder")
    from wmplan.models.checkpoint import load  # brings the learned model, which imports this package

    return cast(WorldModel, load(Path(spec)))  # its attributes are read-only, which a Protocol's plain ones forbid


__all__ = ["MODELS", "ConstantVelocity", "Persistence", "load_model"]
