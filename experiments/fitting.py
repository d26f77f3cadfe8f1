"""Critics that learn from logs, fitted beside a trained model: support density and inverse-control probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from critics import FitConfig, FittedCritics, LoggedAction, fit_critics
from experiments.progress import say, track
from experiments.train import TrainConfig, train
from wmplan.contracts import WorldModel
from wmplan.executed import executed_plan
from wmplan.models import load_model
from wmplan.models.checkpoint import read_card
from wmplan.randomness import fold_in
from wmplan.raster import rasterize
from wmplan.scene import STEP_S
from wmplan.sealed import SealedFutures
from wmplan.start import start_of
from wmplan.store import SceneStore


@dataclass(frozen=True)
class FitCommand:
    """Which model's critics are fitted, on what."""

    model: str
    """Checkpoint folder that wmplan train wrote; the critics are put beside the weights."""
    store: str
    """Store whose training scenes they are fitted on."""
    most_scenes: int = 4000
    """At most so many scenes, a fixed random choice where the store has more."""
    horizon_s: float = 3.0
    """Length of the logged actions in seconds."""
    fit: FitConfig = field(default_factory=FitConfig)


def run(config: FitCommand) -> int:
    """`wmplan fit`: the exit status."""
    fitted = fit(config)
    say(f"critics: {Path(config.model)}; probe: {_line(fitted)}")
    return 0


def run_train(config: TrainConfig) -> int:
    """`wmplan train`: the model, then the critics that are fitted beside it; the exit status."""
    folder = train(config)
    fitted = fit(FitCommand(model=str(folder), store=config.store, horizon_s=config.settings.horizon / 2.0))
    say(f"model: {folder}, card: {folder / 'MODEL_CARD.md'}; probe: {_line(fitted)}")
    return 0


def fit(config: FitCommand) -> FittedCritics:
    """The critics, after they were saved beside the model.

    Raises:
        InputError: no model or store there, or too few scenes whose log shows what the ego did.
    """
    folder = Path(config.model)
    model, groups = load_model(folder), frozenset(read_card(folder).groups)
    actions = logged_actions(SceneStore.open(config.store), model, groups, config)
    fitted = fit_critics(model, actions, config.fit)
    fitted.save(folder)
    return fitted


def logged_actions(
    store: SceneStore, model: WorldModel, groups: frozenset[str], config: FitCommand
) -> Iterator[LoggedAction]:
    """What the egos of the model's training groups did, scene by scene; scenes that do not show it are left out."""
    index = store.index()
    ids = index.loc[index["group"].isin(groups), "scene_id"].tolist()
    if len(ids) > config.most_scenes:
        ids = sorted(ids, key=lambda name: fold_in(0, "chosen for fitting", name))[: config.most_scenes]
    wanted = frozenset(ids)
    futures = SealedFutures.open(store.path)
    steps = round(config.horizon_s / STEP_S)
    scenes = (scene for scene in store.scenes() if scene.scene_id in wanted)
    for scene in track(scenes, "fitting critics", len(wanted)):
        plan = executed_plan(scene, futures.future(scene.scene_id), start_of(scene), steps)
        if plan is not None:
            yield LoggedAction(rasterize(scene, model.grid), plan, scene.group)


def _line(fitted: FittedCritics) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(fitted.summary).items())
