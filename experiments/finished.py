"""A finished study, opened from its folder: tables as DataFrames, plans and pictures on demand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from experiments.agreement import AGREEMENT, OUTCOMES
from experiments.ledger import LEDGER, PER_SCENE, TIMINGS, shard_path
from experiments.prepared import IRRELEVANT, stored_config
from wmplan.errors import InputError
from wmplan.plans import Plans

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.report.imagined import ImaginedScene
    from wmplan.contracts import WorldModel
    from wmplan.scene import Future, Scene

CONTROLS = ("accel", "curvature")


@dataclass(frozen=True)
class FinishedStudy:
    """What a run folder holds.

    Example:
        study = FinishedStudy.open("runs/study-0123456789abcdef")
        study.ledger.query("chosen")[["scene_id", "planner", "cost", "pdms", "verdict"]]
        study.plot(study.scene_ids[0], "cem")
    """

    folder: Path

    @staticmethod
    def open(folder: str | Path) -> FinishedStudy:
        """The study in this folder.

        Raises:
            InputError: there is none, or it is not finished.
        """
        folder = Path(folder)
        missing = [name for name in (LEDGER, PER_SCENE, OUTCOMES, AGREEMENT) if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder}: no {', '.join(missing)} there, expected the folder of a finished study")
        return FinishedStudy(folder)

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """Resolved config, digests of data, model and critics, commit. A field that is younger than the study has its
        default, which is what the study did."""
        from experiments.study import StudyConfig

        about = stored_config(self.folder)
        return {**about, "config": {**asdict(StudyConfig()), **about["config"]}}

    @cached_property
    def agreement(self) -> Mapping[str, Any]:
        """The figures of the pass that compares with real outcomes."""
        return json.loads((self.folder / AGREEMENT).read_text())

    @cached_property
    def ledger(self) -> pd.DataFrame:
        """One row a candidate, without its controls (`plans` has them)."""
        names = [name for name in pq.read_schema(self.folder / LEDGER).names if name not in CONTROLS]
        return pd.read_parquet(self.folder / LEDGER, columns=names)

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """One row a scene and planner: status, counts, the chosen row."""
        return pd.read_parquet(self.folder / PER_SCENE)

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """One row a compared plan: imagined cost and real outcome."""
        return pd.read_parquet(self.folder / OUTCOMES)

    @cached_property
    def timings(self) -> pd.DataFrame:
        """Seconds, imagined and cached candidates of each decision; these differ from run to run."""
        return pd.read_parquet(self.folder / TIMINGS)

    @property
    def scene_ids(self) -> list[str]:
        """Scenes of the study, sorted."""
        return sorted(self.decisions["scene_id"].unique())

    def candidates(self, scene_id: str, planner: str) -> pd.DataFrame:
        """The rows of one decision in the order of proposal, controls included; empty where there are none."""
        path = shard_path(self.folder, scene_id)
        names = ["row", *CONTROLS, "label", "cost", "verdict", "eligible", "chosen"]
        if not path.exists():
            return pd.DataFrame(columns=names)
        rows = pq.read_table(path, columns=["planner", *names], filters=[("planner", "=", planner)]).to_pandas()
        return rows.drop(columns="planner").reset_index(drop=True)

    def plot(self, scene_id: str, planner: str, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """The scene from above with this planner's candidates coloured by cost, and what the ego really did."""
        from experiments.report.pictures import plot_scene
        from wmplan.sealed import SealedFutures
        from wmplan.start import start_of
        from wmplan.store import SceneStore

        scene = SceneStore.open(Path(self.about["store"])).scene(scene_id)
        future = SealedFutures.open(Path(self.about["store"])).future(scene_id)
        rows = self.candidates(scene_id, planner)
        if not len(rows):
            return plot_scene(scene, future=future, title=f"{planner}: no candidates", ax=ax)
        chosen = np.flatnonzero(rows["chosen"])
        costs = np.where(rows["eligible"], rows["cost"], np.inf)
        plans = plans_of(rows, start_of(scene).speed)
        return plot_scene(scene, plans, costs, int(chosen[0]) if len(chosen) else None, future, planner, ax)

    def imagined(self, scene_id: str, planner: str) -> ImaginedScene:
        """What the study's model imagines under the plan that this planner chose, as pictures: `.film()` beside what
        was real, `.reaction()` beside hard braking, `.solids()` in 3-D, `.gif()` moving.

        Raises:
            InputError: the planner chose no plan there.
        """
        from experiments.assembly import build_model
        from wmplan.sealed import SealedFutures
        from wmplan.store import SceneStore

        store, config = Path(self.about["store"]), self.about["config"]
        scene, future = SceneStore.open(store).scene(scene_id), SealedFutures.open(store).future(scene_id)
        model = build_model(self.about["model"], config["horizon_s"], config["precision"])
        return self.imagine(scene, future, model, planner)

    def imagine(self, scene: Scene, future: Future, model: WorldModel, planner: str) -> ImaginedScene:
        """`imagined` for who has scene and model at hand."""
        from experiments.report.imagined import imagine_scene
        from wmplan.randomness import NoiseBank, fold_in
        from wmplan.start import start_of

        rows = self.candidates(scene.scene_id, planner)
        if not rows["chosen"].any():
            raise InputError(f"scene {scene.scene_id}: {planner} chose no plan there, expected one to imagine")
        plan = plans_of(rows[rows["chosen"]], start_of(scene).speed)
        config = self.about["config"]
        noise = NoiseBank(fold_in(config["seed"], scene.scene_id, "imagine"), config["samples"])
        return imagine_scene(model, scene, future, plan, planner, noise)


def provenance(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` says of a study but for what cannot change a result, such as where it was written."""
    shown = {name: value for name, value in about["config"].items() if name == "name" or name not in IRRELEVANT}
    return {**about, "config": shown}


def plans_of(rows: pd.DataFrame, speed: float) -> Plans:
    """The plans of ledger rows that have their controls; `speed` is the ego's at t0."""
    controls = np.stack([np.stack(list(rows["accel"])), np.stack(list(rows["curvature"]))], axis=-1)
    return Plans.from_controls(controls.astype(np.float64), speed)
