"""`wmplan train`: the learned world model, trained on a store's training scenes and measured on the others."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from experiments.counterfactuals import CounterfactualConfig, counterfactual_examples
from experiments.progress import say, track
from experiments.tracked_training import upload_training
from wmplan.errors import InputError
from wmplan.models.checkpoint import save
from wmplan.models.model_card import Card, Row, rows_of
from wmplan.models.presets import preset_of
from wmplan.models.training import Examples, Progress, Settings, held_out, measure
from wmplan.models.training import train as fit
from wmplan.models.training.data import MARK
from wmplan.models.training.gates import from_json, to_json
from wmplan.models.training.objectives import objective_of
from wmplan.randomness import fold_in
from wmplan.scene import Future, Scene
from wmplan.sealed import SealedFutures
from wmplan.store import SceneStore
from wmplan.threads import limit_threads

LINE_EVERY_S = 15.0
GATES_FILE = "gates.json"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is trained on what."""

    store: str
    """folder of the store to train on"""
    out: str
    """folder of the trained model; a training that was killed goes on from here"""
    most_scenes: int = 10000
    """scenes kept in memory (55 kB each), a fixed random choice where the store has more"""
    validate_on: int = 600
    """validation scenes that the model is measured on; 0 = none"""
    held_out: float = 0.1
    """share of the training groups kept out of the training, on which the decoder's gains are fitted"""
    note: str = ""
    """a line for the model card"""
    tracking_uri: str = ""
    """MLflow server or store that gets curves and card, e.g. sqlite:///mlflow.db; empty = none. A training does not
    fail because it cannot be reached"""
    counterfactuals: CounterfactualConfig = field(default_factory=CounterfactualConfig)
    settings: Settings = field(default_factory=Settings)


def train(config: TrainConfig) -> Path:
    """The folder of the trained model: `model.safetensors`, `card.json`, `MODEL_CARD.md`.

    Raises:
        InputError: the store has no training scene, or the folder holds a training of other settings or data.
    """
    limit_threads(1)  # drawing thousands of small rasters: several threads wait for each other; training sets its own
    store, out = SceneStore.open(config.store), Path(config.out)
    index = store.index()
    examples = _examples(store, config, "train", config.most_scenes)
    if config.counterfactuals.source:
        examples = Examples.concatenate([examples, _counterfactuals(index, config)])
    examples, apart = held_out(examples, config.held_out, config.settings.seed)
    with _bar() as show:
        network, curve = fit(examples, config.settings, out, show, partial(_gate, config, apart))
    fitted: dict[str, Any] = _gates(config)
    if apart is not None:
        say(f"fitting gains on {len(set(apart.groups))} held-out training groups")
        fitted |= objective_of(config.settings.family).finish(network, apart, config.settings)
    metrics = _metrics(network, store, config) if (index["split"] == "val").any() and config.validate_on else ()
    groups = tuple(sorted(set(examples.groups) | set(apart.groups if apart else ())))
    data: dict[str, Any] = {
        "store_digest": store.digest,
        "sealed_digest": store.manifest.sealed_digest,
        "examples_digest": examples.digest,
        "datasets": ", ".join(sorted(set(index.loc[index["split"] == "train", "dataset"]))),
        "scenes": len(examples),
        "scenes_held_out": len(apart) if apart else 0,
        "counterfactuals": sum(MARK in name for name in examples.scene_ids),
        "counterfactuals_source": config.counterfactuals.source,
    } | fitted
    settings = asdict(config.settings)
    card = Card(
        kind=config.settings.family,
        preset=config.settings.preset,
        horizon=config.settings.horizon,
        weights_sha256="",
        config={key: value if not isinstance(value, tuple) else list(value) for key, value in settings.items()},
        data=data,
        groups=groups,
        metrics=metrics,
        curve=tuple(curve),
        notes=(config.note,) if config.note else (),
    )
    card = save(out, network, card)
    if config.tracking_uri:
        try:
            say(f"MLflow run {upload_training(out, card, config.tracking_uri)}")
        except ConnectionError as error:
            say(f"not in MLflow at {config.tracking_uri}: {error}; later: wmplan mlflow sync {out}")
    return out


def run(config: TrainConfig) -> int:
    """Train and say where the model is; the exit status."""
    folder = train(config)
    say(f"model: {folder}, card: {folder / 'MODEL_CARD.md'}")
    return 0


def _gate(config: TrainConfig, apart: Examples | None, stage: str, network: nn.Module) -> None:
    """Measure the gates after the tokenizer stage of a family that has some; say them, keep them beside the model."""
    from critics import TaskConfig, TaskCritic

    objective = objective_of(config.settings.family)
    if objective.gates is None or stage != "tokenizer":
        return
    if apart is None:
        say("gates: not measured, no training groups are held out")
        return
    critic = TaskCritic(TaskConfig(horizon=config.settings.horizon))
    found = objective.gates(network, apart, config.settings.horizon, critic)
    for gate in found:
        say(f"gate {gate}")
    (Path(config.out) / GATES_FILE).write_text(to_json(found), encoding="utf-8")


def _gates(config: TrainConfig) -> dict[str, Any]:
    """What the gates found, for the card."""
    path = Path(config.out) / GATES_FILE
    return {f"gate_{gate.name}": str(gate) for gate in from_json(path.read_text("utf-8"))} if path.is_file() else {}


def _examples(store: SceneStore, config: TrainConfig, split: str, most: int) -> Examples:
    index = store.index()
    ids = index.loc[index["split"] == split, "scene_id"].tolist()
    if not ids:
        raise InputError(f"{store.path}: no scene of split {split!r}, expected some")
    if len(ids) > most:
        ids = sorted(ids, key=lambda name: fold_in(0, "chosen for training", name))[:most]
    wanted = set(ids)
    preset = preset_of(config.settings.preset)

    def pairs() -> Iterator[tuple[Scene, Future]]:
        futures = SealedFutures.open(store.path)
        for scene, future in zip(store.scenes(), futures.futures(), strict=True):
            if scene.scene_id in wanted:
                yield scene, future

    return Examples.build(track(pairs(), f"reading {split} scenes", len(wanted)), preset.grid, config.settings.horizon)


def _counterfactuals(index: pd.DataFrame, config: TrainConfig) -> Examples:
    """Those whose group the store does not keep for validation."""
    grid, horizon = preset_of(config.settings.preset).grid, config.settings.horizon
    made = counterfactual_examples(config.counterfactuals, grid, horizon)
    kept = set(index.loc[index["split"] != "train", "group"])
    return made.select(np.flatnonzero([group not in kept for group in made.groups]))


def _metrics(network: nn.Module, store: SceneStore, config: TrainConfig) -> tuple[Row, ...]:
    try:
        examples = _examples(store, config, "val", config.validate_on)
    except InputError as error:
        say(f"not measured: {error}")
        return ()
    forecast = objective_of(config.settings.family).forecast
    measured = measure(network, examples, horizon=config.settings.horizon, forecast=forecast)
    iou = {name: measured.mean(name) for name in measured.models}
    rows = rows_of("val", iou, measured.gain("model", "cv"), measured.seconds, len(examples))
    for row in rows:
        say(
            f"IoU at {row.seconds:g} s: {row.model:.3f}, constant velocity {row.cv:.3f}, "
            f"persistence {row.persistence:.3f}; "
            f"gain {row.gain:+.3f} ({row.gain_low:+.3f} to {row.gain_high:+.3f})"
        )
    return rows


@contextmanager
def _bar() -> Iterator[Any]:
    """A callback that shows stage, step, loss and time left: a bar on a terminal, a line now and then elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
        with Bars(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task("training", total=1.0)
            yield lambda progress: bars.update(task, completed=progress.done, description=_line(progress))
        return
    last = -np.inf

    def line(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > LINE_EVERY_S:
            say(f"{_line(progress)}, {progress.done:.0%}")
            last = time.monotonic()

    yield line


def _line(progress: Progress) -> str:
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return f"{progress.stage} step {progress.step}, loss {progress.loss:.3f}, {minutes}:{seconds:02d} left"
