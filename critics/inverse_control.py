"""The inverse-control probe: can the ego's command be read off the imagined response of the others?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from critics.contact import occupied_cells
from critics.storage import content_digest, load_fitted, save_fitted
from wmplan.contracts import IMAGINED_STEP_S, Context, Grid, Imagined, SceneRaster, Terms, WorldModel
from wmplan.errors import InputError
from wmplan.plans import Plans, Start
from wmplan.randomness import NoiseBank

SCHEMA = "wmplan.probe/1"
ZONES_X = (-48.0, -20.0, -3.0, 8.0, 20.0, 48.0)
"""Borders, in metres ahead of the ego at t0, of where the others' response is pooled."""
ZONES_Y = (-9.0, -2.0, 2.0, 9.0)
"""Borders to the side: right, own lane, left."""
SIGNALS = 3
"""Per zone and time: occupied area, its momentum along x, and its first moment along x."""


@dataclass(frozen=True)
class ProbeConfig:
    """How the probe is fitted."""

    accel_low: float = -4.0
    """Hardest braking of the sweep, m/s2."""
    accel_high: float = 2.0
    """Hardest acceleration of the sweep, m/s2."""
    levels: int = 7
    """Commands of the sweep in each scene."""
    ridges: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0, 1000.0)
    """Ridge penalties tried (per example, whitened features); the best by cross-validation over scenes is kept."""
    folds: int = 5
    """Folds of that cross-validation."""


@dataclass(frozen=True)
class ProbeExamples:
    """Pooled responses to commands: one row a scene and command (mean acceleration, m/s2)."""

    features: Float64[ndarray, "N D"]
    commands: Float64[ndarray, "N"]
    scenes: tuple[str, ...]

    @staticmethod
    def concatenate(parts: list[ProbeExamples]) -> ProbeExamples:
        """All examples, in order.

        Raises:
            InputError: no part.
        """
        if not parts:
            raise InputError("probe: no scenes, expected at least one")
        return ProbeExamples(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.commands for part in parts]),
            tuple(scene for part in parts for scene in part.scenes),
        )


class InverseControlProbe:
    """Ridge regression from the imagined change of the *others* to the ego's mean acceleration.

    No ego footprint enters: features are the difference between the imagined futures and the scene's own constant
    velocity extrapolation, pooled in zones fixed at t0. In a model that ignores the ego's action, or where nobody is
    near enough to react, the command cannot be recovered: `probe_error` = |recovered - commanded| is then large for
    every command away from the middle. `probe_accel` is the recovered command (m/s2), clipped to the sweep's range.
    """

    name = "probe"
    columns: tuple[str, ...] = ("probe_accel", "probe_error")

    def __init__(self, arrays: dict[str, ndarray], notes: dict[str, str]) -> None:
        self._arrays, self._notes = arrays, notes
        self.digest = content_digest(SCHEMA, arrays, notes)

    @staticmethod
    def fit(examples: ProbeExamples, config: ProbeConfig | None = None) -> InverseControlProbe:
        """The probe, closed form; the penalty is chosen by cross-validation that keeps scenes whole.

        Raises:
            InputError: fewer scenes than folds, or non-finite features.
        """
        config = config or ProbeConfig()
        names = sorted(set(examples.scenes))
        if len(names) < config.folds:
            raise InputError(f"probe: {len(names)} scenes, expected at least {config.folds}")
        if not (np.isfinite(examples.features).all() and np.isfinite(examples.commands).all()):
            raise InputError("probe: a feature or command is not finite, expected finite numbers")
        fold = np.array([names.index(scene) % config.folds for scene in examples.scenes])
        errors = []
        for ridge in config.ridges:
            error = 0.0
            for f in range(config.folds):
                fitted = _ridge(examples.features[fold != f], examples.commands[fold != f], ridge)
                guess = _predict(fitted, examples.features[fold == f])
                error += float(((guess - examples.commands[fold == f]) ** 2).sum())
            errors.append(error)
        best = config.ridges[int(np.argmin(errors))]
        arrays = _ridge(examples.features, examples.commands, best)
        arrays["range"] = np.array([examples.commands.min(), examples.commands.max()])
        notes = {
            "scenes": str(len(names)),
            "ridge": repr(best),
            "rmse": repr(float(np.sqrt(min(errors) / len(fold)))),
            "config": json.dumps(asdict(config), sort_keys=True),
        }
        return InverseControlProbe(arrays, notes)

    def recover(self, features: Float64[ndarray, "K D"]) -> Float64[ndarray, "K"]:
        """The recovered mean acceleration, m/s2, within the fitted range; NaN where a feature is not finite."""
        low, high = self._arrays["range"]
        raw = _predict(self._arrays, features)
        return np.where(np.isfinite(raw), np.clip(raw, low, high), np.nan)

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        """The two columns of each candidate."""
        with np.errstate(invalid="ignore", over="ignore"):  # non-finite imaginations become non-finite terms
            recovered = self.recover(probe_features(context.raster, imagined))
            error = np.abs(recovered - mean_accel(plans))
        return Terms(self.columns, np.stack([recovered, error], axis=1).astype(np.float32))

    def save(self, path: Path) -> None:
        """Write to `path` (safetensors)."""
        save_fitted(path, SCHEMA, self._arrays, self._notes)

    @staticmethod
    def load(path: Path) -> InverseControlProbe:
        """Read what `save` wrote.

        Raises:
            InputError: missing, damaged, or not a probe.
        """
        return InverseControlProbe(*load_fitted(path, SCHEMA))


def sweep_plans(start: Start, steps: int, config: ProbeConfig | None = None) -> Plans:
    """One plan for each command of the sweep: constant acceleration, the present curvature."""
    config = config or ProbeConfig()
    levels = np.linspace(config.accel_low, config.accel_high, config.levels)
    controls = np.zeros((len(levels), steps, 2))
    controls[:, :, 0] = levels[:, None]
    controls[:, :, 1] = start.curvature
    return Plans.from_controls(controls, start.speed)


def collect_responses(
    model: WorldModel,
    rasters: Iterable[SceneRaster],
    noise: Callable[[str], NoiseBank],
    config: ProbeConfig | None = None,
) -> ProbeExamples:
    """Imagine the sweep in every scene; `noise` gives the noise of a scene by its id.

    Commands are the mean accelerations that the plans reach: a car that has stopped brakes no further.
    """
    parts = []
    for raster in rasters:
        plans = sweep_plans(raster.start, model.horizon * round(IMAGINED_STEP_S / 0.1), config)
        imagined = model.imagine(model.encode(raster), plans, noise(raster.scene_id))
        features = probe_features(raster, imagined)
        parts.append(ProbeExamples(features, mean_accel(plans), (raster.scene_id,) * len(plans)))
    return ProbeExamples.concatenate(parts)


def mean_accel(plans: Plans) -> Float64[ndarray, "K"]:
    """Mean acceleration that each plan reaches, m/s2."""
    return (plans.states[:, -1, 3].astype(np.float64) - plans.states[:, 0, 3]) / plans.horizon_s


def probe_features(raster: SceneRaster, imagined: Imagined) -> Float64[ndarray, "K D"]:
    """Imagined minus constant-velocity response, pooled by zone, at the middle and the last imagined step."""
    grid = imagined.grid
    k, m, steps = imagined.occupancy.shape[:3]
    frames = sorted({(steps - 1) // 2, steps - 1})
    zone, x = _zones(grid)
    parts = []
    for frame in frames:
        occupancy = imagined.occupancy[:, :, frame : frame + 1].detach().numpy()
        velocity = imagined.velocity[:, :, frame].detach().numpy()
        cells = occupied_cells(occupancy)
        here = cells.at(zone[cells.i, cells.j] >= 0)
        key = here.k * _COUNT + zone[here.i, here.j]
        mass = here.value.astype(np.float64) * (grid.cell**2 / m)
        speed = velocity[here.k, here.m, 0, here.i, here.j].astype(np.float64)
        signals = _pool(key, mass, speed, x[here.j], k * _COUNT).reshape(SIGNALS, k, _COUNT)
        usual = _extrapolated(raster, (frame + 1) * IMAGINED_STEP_S)
        parts.append(np.moveaxis(signals - usual[:, None], 0, 1).reshape(k, -1))
    return np.concatenate(parts, axis=1)


_COUNT = (len(ZONES_X) - 1) * (len(ZONES_Y) - 1)


def _zone_of(x: ndarray, y: ndarray) -> ndarray:
    """Number of the zone, -1 outside all."""
    a = np.searchsorted(ZONES_X, x, side="right") - 1
    b = np.searchsorted(ZONES_Y, y, side="right") - 1
    inside = (a >= 0) & (a < len(ZONES_X) - 1) & (b >= 0) & (b < len(ZONES_Y) - 1)
    return np.where(inside, a * (len(ZONES_Y) - 1) + b, -1)


def _zones(grid: Grid) -> tuple[ndarray, ndarray]:
    x = grid.x_min + (np.arange(grid.cols) + 0.5) * grid.cell
    y = grid.y_min + (np.arange(grid.rows) + 0.5) * grid.cell
    return _zone_of(x[None, :], y[:, None]), x


def _extrapolated(raster: SceneRaster, time_s: float) -> Float64[ndarray, "S Z"]:
    """The pooled signals of what is there at t0, moved on at its own velocity."""
    grid = raster.grid
    now = raster.history[-1].detach().numpy()
    cells = occupied_cells(now[None, None, None, :2])
    vx, vy = (now[i, cells.i, cells.j].astype(np.float64) for i in (2, 3))
    x = grid.x_min + (cells.j + 0.5) * grid.cell + vx * time_s
    y = grid.y_min + (cells.i + 0.5) * grid.cell + vy * time_s
    zone = _zone_of(x, y)
    right, top = grid.x_min + grid.cols * grid.cell, grid.y_min + grid.rows * grid.cell
    kept = (zone >= 0) & (x >= grid.x_min) & (x < right) & (y >= grid.y_min) & (y < top)
    mass = cells.value.astype(np.float64) * grid.cell**2
    return _pool(zone[kept], mass[kept], vx[kept], x[kept], _COUNT)


def _pool(key: ndarray, mass: ndarray, speed: ndarray, x: ndarray, size: int) -> Float64[ndarray, "S N"]:
    # bincount adds in the order of the cells, bin by bin, so one candidate's sums do not know of another's.
    sums = [np.bincount(key, weight, size) for weight in (mass, mass * speed, mass * x)]
    return np.stack(sums).astype(np.float64)  # bincount of nothing gives integers


def _ridge(features: ndarray, commands: ndarray, ridge: float) -> dict[str, ndarray]:
    centre, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-3)
    white = (features - centre) / scale
    gram = white.T @ white / len(white) + np.eye(white.shape[1]) * ridge / np.sqrt(len(white))
    offset = commands.mean()
    weights = np.linalg.solve(gram, white.T @ (commands - offset) / len(white))
    return {"centre": centre, "scale": scale, "weights": weights, "offset": np.array([offset])}


def _predict(fitted: dict[str, ndarray], features: Float64[ndarray, "K D"]) -> Float64[ndarray, "K"]:
    total = np.full(len(features), fitted["offset"][0])
    for d in range(features.shape[1]):
        total = total + (features[:, d] - fitted["centre"][d]) / fitted["scale"][d] * fitted["weights"][d]
    return total
