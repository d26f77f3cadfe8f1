"""What each policy is worth on the road and in each world model, over many scenes, and how well both orders agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from experiments.ope.closed_loop import by_road, in_model, judged, on_road
from wmplan.contracts import Grid, WorldModel
from wmplan.errors import InputError
from wmplan.raster import STRIDE, rasterize
from wmplan.scene import STEP_S, Future, Scene
from wmplan.simulator.drivers import ORIGINAL, Shift
from wmplan.simulator.live import LiveScene, live
from wmplan.simulator.policies.protocol import Policy
from wmplan.start import start_of
from wmplan.statistics import kendall_tau_b, mmrv, pearson, regret_at_k, spearman
from wmplan.statistics.policies import Agreed, Metric, agreement

LONG_STEPS = 80
"""What really happened is known for 8 s, and for each model's horizon."""
METRICS: dict[str, Metric] = {
    "spearman": spearman,
    "pearson": pearson,
    "kendall": kendall_tau_b,
    "mmrv": mmrv,
    "regret_at_1": partial(regret_at_k, k=1),
}

ModelOf = Callable[[LiveScene], WorldModel]


@dataclass(frozen=True)
class Compared:
    """A row for each scene, side, policy and draw; scenes that failed, and why. A side is a model's name, or
    `road_3s` and `road_8s`: what really happened within so many seconds."""

    rows: pd.DataFrame
    failed: dict[str, str]

    def table(self, side: str, score: str) -> pd.DataFrame:
        """The mean score over draws: a row for each policy, a column for each scene."""
        mine = self.rows[self.rows["side"] == side]
        if mine.empty:
            raise InputError(f"side {side!r}, expected one of {', '.join(sorted(set(self.rows['side'])))}")
        return mine.pivot_table(index="policy", columns="scene_id", values=score, aggfunc="mean")


def compare(
    scenes: Iterable[tuple[Scene, Future]],
    models: Mapping[str, ModelOf],
    policies: Mapping[str, Policy],
    grid: Grid,
    draws: int,
    seed: int,
    drivers: Shift = ORIGINAL,
) -> Compared:
    """Every policy from every scene's t0: on the road for 8 s and for each model's horizon, and inside each model.

    `drivers` may be another population on the road than the one that drove in the logs. A scene that cannot be a road,
    or a model that fails in it, puts the whole scene on the list of failures: sides always have the same scenes.

    """
    parts: list[pd.DataFrame] = []
    failed: dict[str, str] = {}
    for scene, future in scenes:
        try:
            parts.append(_of_scene(scene, future, models, policies, grid, draws, seed, drivers))
        except InputError as error:
            failed[scene.scene_id] = str(error)
    return Compared(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), failed)


def agreements(
    compared: Compared, side: str, score: str, groups: Mapping[str, str], seed: int, truth: str
) -> tuple[Agreed, ...]:
    """Each metric of the order of policies that `side` gives against that of `truth`, over scenes and over policies;
    `groups` names the group of each scene."""
    estimate, real = compared.table(side, score), compared.table(truth, score)
    names = [groups[str(scene)] for scene in real.columns]
    return tuple(
        agreement(
            metric,
            figure=name,
            estimate=estimate.loc[real.index, real.columns].to_numpy(np.float64),
            real=real.to_numpy(np.float64),
            scenes=names,
            seed=seed,
        )
        for name, metric in METRICS.items()
    )


def road_side(steps: int) -> str:
    """The side of what really happened within so many steps."""
    return f"road_{steps * STEP_S:g}s"


def _of_scene(
    scene: Scene,
    future: Future,
    models: Mapping[str, ModelOf],
    policies: Mapping[str, Policy],
    grid: Grid,
    draws: int,
    seed: int,
    drivers: Shift,
) -> pd.DataFrame:
    alive = live(scene, future, drivers=drivers)
    start, judge = start_of(scene), by_road(alive)
    found: list[pd.DataFrame] = []
    steps = [LONG_STEPS]
    rasters = {grid: rasterize(scene, grid)}
    for name, model_of in models.items():
        model = model_of(alive)
        if model.grid not in rasters:
            rasters[model.grid] = rasterize(scene, model.grid)
        drives = in_model(alive, scene, rasters[model.grid], model, policies, draws, seed)
        found.append(judged(drives, judge, start).assign(side=name, crowded=drives.crowded))
        steps.append(STRIDE * model.horizon)
    driven = on_road(alive, policies, max(steps), draws, seed)
    for count in sorted(set(steps)):
        true = judged(driven.until(count), judge, start)
        found.append(true.assign(side=road_side(count), crowded=0))
    return pd.concat(found, ignore_index=True)
