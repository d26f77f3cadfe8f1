"""World models behind one Protocol: baselines by name, learned models from checkpoint folders.

`MODELS` maps a name to what builds the model for a grid and a horizon; `load_model` takes a name, a folder, or several
of them as an ensemble (`ensemble:models/one,models/other,cv`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from wmplan.contracts import GRIDS, Grid, WorldModel
from wmplan.errors import InputError
from wmplan.models.baselines import ConstantVelocity, Persistence

if TYPE_CHECKING:
    from wmplan.models.precision import Precision

MODELS: dict[str, Callable[[Grid, int], WorldModel]] = {
    "persistence": Persistence,
    "cv": ConstantVelocity,
}
"""Models that need no checkpoint: name -> `build(grid, horizon)`."""


ENSEMBLE = "ensemble:"
"""What the name of an ensemble begins with; its members follow, divided by commas."""


def members_of(spec: str | Path) -> tuple[str, ...]:
    """The members that an ensemble's name lists; none if it is not the name of one."""
    text = str(spec)
    return tuple(part.strip() for part in text.removeprefix(ENSEMBLE).split(",")) if text.startswith(ENSEMBLE) else ()


def load_model(
    spec: str | Path, grid: Grid = GRIDS["nano"], horizon: int = 6, precision: Precision = "float32"
) -> WorldModel:
    """The model called `spec`, or the learned one in the checkpoint folder `spec`, or the ensemble of those it lists.

    `grid` and `horizon` shape the baselines; a checkpoint brings its own, and its grid to the baselines that are in an
    ensemble with it. `precision` is that of learned models (`wmplan.models.precision`).

    Raises:
        InputError: if `spec` is neither a registered name nor a folder with a readable checkpoint, nor an ensemble of
            such models on one raster.
    """
    if listed := members_of(spec):
        from wmplan.models.ensemble import Ensemble

        learned = {name: load_model(name, precision=precision) for name in listed if name not in MODELS}
        shared = next((model.grid for model in learned.values()), grid)
        members = [learned[name] if name in learned else MODELS[name](shared, horizon) for name in listed]
        return cast(WorldModel, Ensemble(members))
    if str(spec) in MODELS:
        return MODELS[str(spec)](grid, horizon)
    if not Path(spec).is_dir():
        raise InputError(f"model {spec}: not found, expected one of {', '.join(sorted(MODELS))} or a checkpoint folder")
    from wmplan.models.checkpoint import load  # brings the learned model, which imports this package

    return cast(
        WorldModel, load(Path(spec), precision)
    )  # its attributes are read-only, which a Protocol's plain ones forbid


__all__ = ["ENSEMBLE", "MODELS", "ConstantVelocity", "Persistence", "load_model", "members_of"]
