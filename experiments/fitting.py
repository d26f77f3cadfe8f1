"""Critics that learn from logs, fitted beside a trained model: support density and inverse-control probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from critics import FitConfig, FittedCritics, LoggedAction, fit_critics
from experiments.processes import in_order, run_tasks
from experiments.progress import say, track
from experiments.train import TrainConfig, train
from wmplan.contracts import Grid
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
    most_scenes: int = 2000
    """At most so many scenes, a fixed random choice where the store has more."""
    workers: int = 2
    """Single-threaded processes; the result does not depend on their number."""
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
    fitted = fit_critics(model, logged_actions(groups, model.grid, config), config.fit)
    fitted.save(folder)
    return fitted


def logged_actions(groups: frozenset[str], grid: Grid, config: FitCommand) -> Iterator[LoggedAction]:
    """What the egos of these groups did, scene by scene in the order of the store, worked out by all workers.

    Scenes that do not show it are left out, and so are those that fail, which are said.
    """
    index = SceneStore.open(config.store).index()
    ids = index.loc[index["group"].isin(groups), "scene_id"].tolist()
    if len(ids) > config.most_scenes:
        chosen = set(sorted(ids, key=lambda name: fold_in(0, "chosen for fitting", name))[: config.most_scenes])
        ids = [name for name in ids if name in chosen]
    settings = Acting(Path(config.store), grid, round(config.horizon_s / STEP_S))
    outcomes = in_order(run_tasks("experiments.fitting:acting", settings, ids, config.workers), ids)
    for done in track(outcomes, "fitting critics", len(ids)):
        if done.error:
            say(f"scene {done.task}: left out, {done.error}")
        elif done.result is not None:
            yield done.result


@dataclass(frozen=True)
class Acting:
    """What every process that works out logged actions is told."""

    store: Path
    grid: Grid
    steps: int


def acting(settings: Acting) -> Callable[[str], LoggedAction | None]:
    """A function that gives what a scene's ego did; None where the log does not show it."""
    store, futures = SceneStore.open(settings.store), SealedFutures.open(settings.store)

    def act(scene_id: str) -> LoggedAction | None:
        scene = store.scene(scene_id)
        plan = executed_plan(scene, futures.future(scene_id), start_of(scene), settings.steps)
        return None if plan is None else LoggedAction(rasterize(scene, settings.grid), plan, scene.group)

    return act


def _line(fitted: FittedCritics) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(fitted.summary).items())
