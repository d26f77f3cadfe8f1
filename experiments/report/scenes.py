"""A scene's section of the report: candidates from above, a film of imagined against real occupancy, the ranking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments import assembly
from experiments.finished import FinishedStudy
from experiments.report import tables
from experiments.report.executed import Shown, executed_picture
from experiments.report.imagined import Picture, imagined_pictures
from experiments.report.pictures import figure
from experiments.report.plots import png
from wmplan.contracts import WorldModel
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
    imagined: tuple[Picture, ...]
    executed: Shown
    table: str


class ScenePictures:
    """Draws sections of scenes of one study; imagines again what the films show, with the study's own noise."""

    def __init__(self, study: FinishedStudy, store: Path, model: str) -> None:
        self.study, self.config = study, study.about["config"]
        self.store, self.sealed = SceneStore.open(store), SealedFutures.open(store)
        self.model: WorldModel = assembly.build_model(model, self.config["horizon_s"], self.config["precision"])

    def section(self, scene_id: str, place: int) -> Section:
        """The section of one scene; the first `EXECUTED` places show it executed too, place 0 as films."""
        scene, future = self.store.scene(scene_id), self.sealed.future(scene_id)
        rows = self.study.ledger[self.study.ledger["scene_id"] == scene_id]
        return Section(
            anchor=f"scene-{scene_id}",
            title=scene_id,
            subtitle=f"{scene.dataset}; ego {scene.ego_id} at {scene.ego.states[0, -1, 3]:.1f} m/s, "
            f"{int(scene.agents.valid[:, -1].sum())} road users, "
            f"{'route from the map' if scene.route_on_map else 'no lane near the ego: route straight ahead'}",
            picture=self._picture(scene_id),
            has_future=bool(future.ego.valid[0].any()),
            imagined=self._imagined(scene, future, rows, place),
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

    def _imagined(self, scene: Scene, future: Future, rows: pd.DataFrame, place: int) -> tuple[Picture, ...]:
        """What is imagined under the plan that cost least of all planners'; nothing where there is none."""
        chosen = rows[rows["chosen"]].sort_values(["cost", "planner"], kind="stable")
        if not len(chosen):
            return ()
        planner = chosen.iloc[0]["planner"]
        imagined = self.study.imagine(scene, future, self.model, planner)
        return imagined_pictures(imagined, more=place == 0)
