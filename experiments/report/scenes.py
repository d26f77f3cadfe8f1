"""A scene's section of the report: candidates from above, a film of imagined against real occupancy, the ranking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments import assembly
from experiments.finished import FinishedStudy, plans_of
from experiments.report import tables
from experiments.report.executed import Shown, executed_picture
from experiments.report.pictures import figure, plot_film
from experiments.report.plots import png
from wmplan.contracts import IMAGINED_STEP_S, WorldModel
from wmplan.randomness import NoiseBank, fold_in
from wmplan.raster import footprints, rasterize, rasterize_future
from wmplan.scene import Future, Scene
from wmplan.sealed import SealedFutures
from wmplan.store import SceneStore

COLUMNS = (
    "planner", "label", "rank", "cost", "cost_task", "cost_reward", "cost_probe", "cost_support", "pdms",
    "nuplan_score", "progress", "vista_reward", "probe_error", "support_p", "verdict", "reasons", "chosen",
)  # fmt: skip
"""Columns of the ranking tables; the ledger has them all."""

EXECUTED = 3
"""Scenes whose candidates are shown executed."""


@dataclass(frozen=True)
class Section:
    """What the template shows of one scene."""

    anchor: str
    title: str
    subtitle: str
    picture: str
    has_future: bool
    film: str
    film_caption: str
    executed: Shown
    table: str


class ScenePictures:
    """Draws sections of scenes of one study; imagines again what the films show, with the study's own noise."""

    def __init__(self, study: FinishedStudy, store: Path, model: str) -> None:
        self.study, self.config = study, study.about["config"]
        self.store, self.sealed = SceneStore.open(store), SealedFutures.open(store)
        self.model: WorldModel = assembly.build_model(model, self.config["horizon_s"], self.config["precision"])

    def section(self, scene_id: str, place: int) -> Section:
        """The section of one scene; the first `EXECUTED` places show it executed too, place 0 as a film."""
        scene, future = self.store.scene(scene_id), self.sealed.future(scene_id)
        rows = self.study.ledger[self.study.ledger["scene_id"] == scene_id]
        film, caption = self._film(scene, future, rows)
        return Section(
            anchor=f"scene-{scene_id}",
            title=scene_id,
            subtitle=f"{scene.dataset}; ego {scene.ego_id} at {scene.ego.states[0, -1, 3]:.1f} m/s, "
            f"{int(scene.agents.valid[:, -1].sum())} road users, "
            f"{'route from the map' if scene.route_on_map else 'no lane near the ego: route straight ahead'}",
            picture=self._picture(scene_id),
            has_future=bool(future.ego.valid[0].any()),
            film=film,
            film_caption=caption,
            executed=self._executed(scene, future, rows, place),
            table=tables.ranking(rows, COLUMNS) if len(rows) else "",
        )

    def _executed(self, scene: Scene, future: Future, rows: pd.DataFrame, place: int) -> Shown:
        """Candidates with their controls, executed; nothing beyond the first few scenes."""
        planners = sorted(rows["planner"].unique())
        if place >= EXECUTED or not planners:
            return Shown("", "", "")
        parts = [self.study.candidates(scene.scene_id, name).assign(planner=name) for name in planners]
        full = pd.concat(parts, ignore_index=True)
        return executed_picture(scene, future, full, moves=place == 0)

    def _picture(self, scene_id: str) -> str:
        """All candidates of each optimizer side by side."""
        names = sorted(self.config["optimizers"])
        fig, axes = figure(4.9 * len(names), 4.0, columns=len(names))
        for ax, name in zip(axes[0], names):
            self.study.plot(scene_id, name, ax)
        return png(fig)

    def _film(self, scene: Scene, future: Future, rows: pd.DataFrame) -> tuple[str, str]:
        """Imagined mean and one sample against the real future, under the plan that cost least of all planners'."""
        chosen = rows[rows["chosen"]].sort_values(["cost", "planner"], kind="stable")
        if not len(chosen):
            return "", ""
        best = chosen.iloc[0]
        raster = rasterize(scene, self.model.grid)
        mine = self.study.candidates(scene.scene_id, best["planner"])
        plans = plans_of(mine[mine["chosen"]], raster.start.speed)
        noise = NoiseBank(fold_in(self.config["seed"], scene.scene_id, "imagine"), self.config["samples"])
        imagined = self.model.imagine(self.model.encode(raster), plans, noise)
        steps = imagined.occupancy.shape[2]
        real = rasterize_future(scene, future, self.model.grid, steps)[:, :2].numpy()
        strips = [
            ("imagined, mean", imagined.occupancy[0].mean(dim=0).numpy()),
            ("imagined, sample 1", imagined.occupancy[0, 0].numpy()),
            ("real", real),
        ]
        feet = footprints(plans, raster.start, self.model.grid)[0, 1:].numpy()
        fig, _ = plot_film(strips, feet, self.model.grid, IMAGINED_STEP_S)
        caption = (
            f"Occupancy over time under the plan of {best['planner']}: imagined (mean of {noise.samples} samples, and "
            "one of them) against what the log recorded under the ego's <i>own</i> action. Dark blue: vehicles; "
            "magenta: pedestrians and cyclists; orange: the ego's footprint. The frame stays at the ego's pose at t0."
        )
        return png(fig), caption
