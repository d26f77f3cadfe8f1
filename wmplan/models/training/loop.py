"""The training loop of every family: stages, budgets in minutes or steps, checkpoints that a killed run goes on from.

Every draw of step n of a stage comes from `fold_in(seed, stage, n)`, so the position in the data is the step's number:
a run that is killed and started again sees the same batches as one that is not, and with budgets in steps ends with
the same weights.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wmplan.errors import InputError
from wmplan.models.families import family_of
from wmplan.models.presets import preset_of
from wmplan.models.training.data import Examples
from wmplan.models.training.mixing import Sampler
from wmplan.models.training.objectives import objective_of
from wmplan.models.training.perturbed import perturbed
from wmplan.models.training.settings import Settings
from wmplan.randomness import fold_in

STATE_FILE = "training.pt"
STATE_VERSION = 1
FULL_HORIZON_FROM = 0.3
"""Share of a stage from which all rollouts have the full horizon; before, horizons are drawn at random."""


@dataclass(frozen=True)
class Progress:
    """Where training is: the stage, its step, the running loss, the share of all work done, seconds left."""

    stage: str
    step: int
    loss: float
    done: float
    seconds_left: float


class TrainingStopped(InputError):
    """The loss became NaN or infinite; the last good state is kept."""


def train(
    examples: Examples,
    settings: Settings,
    folder: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    staged: Callable[[str, Any], None] = lambda stage, network: None,
) -> tuple[Any, list[tuple[str, int, float]]]:
    """The trained network (averaged weights) and its loss curve: (stage, step, mean loss).

    Goes on from `folder`'s checkpoint of the same settings and data, if there is one. `staged` is told of each stage
    that was trained in this run, with the averaged network that it left.

    Raises:
        TrainingStopped: if the loss is not finite; says the stage, the step and the scenes.
        InputError: if the checkpoint there belongs to other settings or data, or is damaged.
    """
    torch.set_num_threads(settings.threads)
    if examples.grid != preset_of(settings.preset).grid:
        raise InputError(f"preset {settings.preset}: does not fit the raster {examples.grid} of the training data")
    if examples.horizon < settings.horizon:
        raise InputError(f"horizon is {settings.horizon} steps, expected at most the data's {examples.horizon}")
    run = _Run.start(examples, settings, folder)
    while run.stage < len(run.objective.stages):
        name = run.objective.stages[run.stage]
        run.train_stage(report)
        staged(name, run.result())
    run.save()
    return run.result(), run.curve


class _Run:
    """A training under way: what a checkpoint holds, and the work of one stage."""

    def __init__(self, examples: Examples, settings: Settings, folder: Path) -> None:
        self.examples, self.settings, self.folder = examples, settings, folder
        self.objective = objective_of(settings.family)
        self.shares = settings.shares or self.objective.shares
        self._check_stages()
        self.network = _network(settings)
        self.averaged = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimizer = self._new_optimizer()
        self.stage, self.step, self.elapsed = 0, 0, 0.0
        self.curve: list[tuple[str, int, float]] = []
        self.running: list[float] = []
        weights = None if self.objective.weights is None else self.objective.weights(examples)
        self.sampler = Sampler(examples, settings.batch, settings.pair_share, weights)
        self.identity = f"{settings.digest}/{examples.digest}"

    @staticmethod
    def start(examples: Examples, settings: Settings, folder: Path) -> _Run:
        """A fresh run, or the one that the folder's checkpoint holds."""
        run = _Run(examples, settings, folder)
        path = folder / STATE_FILE
        if path.exists():
            run.load(path)
        return run

    def train_stage(self, report: Callable[[Progress], None]) -> None:
        """The rest of the present stage; leaves the run at the start of the next."""
        name, began, saved = self.objective.stages[self.stage], time.monotonic() - self.elapsed, time.monotonic()
        while (share := self._share_done()) < 1.0:
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * _schedule(share, self.step)
            try:
                loss = self._one_step(name, share)
            except (MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "memory" not in str(error):
                    raise
                raise InputError(
                    f"training: out of memory at stage {name}, step {self.step}, with settings.batch of "
                    f"{self.settings.batch} and {len(self.examples)} examples; lower settings.batch, or most_scenes"
                ) from error
            self.step += 1
            self.elapsed = time.monotonic() - began
            self.running.append(loss)
            if len(self.running) == 50:
                self.curve.append((name, self.step, float(np.mean(self.running))))
                self.running = []
            shown = float(np.mean(self.running)) if self.running else self.curve[-1][2]
            report(Progress(name, self.step, shown, *self._overall()))
            if time.monotonic() - saved > self.settings.checkpoint_s:
                self.save()
                saved = time.monotonic()
        self.stage, self.step, self.elapsed, self.running = self.stage + 1, 0, 0.0, []
        self.optimizer = self._new_optimizer()
        self.save()

    def result(self) -> Any:
        """A network with the averaged weights."""
        network = _network(self.settings)
        network.load_state_dict(self.averaged)
        return network.eval()

    def save(self) -> None:
        """Write the checkpoint; the old one stays until the new one is whole."""
        state = {
            "version": STATE_VERSION,
            "identity": self.identity,
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "position": (self.stage, self.step, self.elapsed),
            "curve": self.curve,
            "running": self.running,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{STATE_FILE}.{os.getpid()}.tmp"
        with temporary.open("wb") as handle:
            torch.save(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, self.folder / STATE_FILE)

    def load(self, path: Path) -> None:
        """Take up a checkpoint.

        Raises:
            InputError: if it is damaged, or of other settings or data.
        """
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            version, identity = state["version"], state["identity"]
        except Exception as error:
            text = " ".join(str(error).split())[:120]
            message = f"{path}: unreadable ({text}), expected a training checkpoint; delete it to start anew"
            raise InputError(message) from error
        if version != STATE_VERSION or identity != self.identity:
            raise InputError(f"{path}: belongs to other settings or data; delete it or choose another folder")
        self.network.load_state_dict(state["network"])
        self.averaged = state["averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.stage, self.step, self.elapsed = state["position"]
        self.curve, self.running = [tuple(row) for row in state["curve"]], state["running"]

    def _one_step(self, name: str, share: float) -> float:
        settings = self.settings
        draw = np.random.default_rng(fold_in(settings.seed, "batch", name, self.step))
        generator = torch.Generator().manual_seed(fold_in(settings.seed, "latents", name, self.step))
        rows, mirror = self.sampler.draw(draw)
        batch = self.examples.batch(rows, mirror)
        sizes = torch.from_numpy(self.examples.ego_size[rows])
        batch = perturbed(batch, self.examples.grid, sizes, settings.perturbed_share, generator)
        first = int(draw.integers(settings.horizon))
        drawn = int(draw.integers(min(2, settings.horizon), settings.horizon + 1))
        horizon = settings.horizon if share > FULL_HORIZON_FROM else drawn
        loss = self.objective.loss(name, self.network, batch, settings, horizon, first, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            scenes = ", ".join(self.examples.scene_ids[i] for i in rows[:3])
            self.save()
            raise TrainingStopped(
                f"training: loss {loss.item()} with gradient norm {norm.item()} at stage {name}, step {self.step} "
                f"(scenes {scenes}, ...); the last good state is in {self.folder / STATE_FILE}"
            )
        self.optimizer.step()
        # The average forgets the start quickly: its decay grows with the steps.
        decay = min(settings.average, (self.step + 1.0) / (self.step + 10.0))
        with torch.no_grad():
            for key, value in self.network.state_dict().items():
                self.averaged[key].lerp_(value, 1.0 - decay)
        return loss.item()

    def _check_stages(self) -> None:
        stages = self.objective.stages
        for name, given in (("steps", self.settings.steps), ("shares", self.settings.shares)):
            if given and len(given) != len(stages):
                raise InputError(
                    f"settings.{name} has {len(given)} numbers, expected one for each stage of family "
                    f"{self.settings.family}: {', '.join(stages)}"
                )

    def _new_optimizer(self) -> torch.optim.Optimizer:
        settings = self.settings
        return torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
        )

    def _share_done(self) -> float:
        """Share of the stage's budget that is spent."""
        if self.settings.steps:
            steps = self.settings.steps[self.stage]
            return self.step / steps if steps else 1.0
        budget = self.shares[self.stage] * self.settings.minutes * 60.0
        return self.elapsed / budget if budget else 1.0

    def _overall(self) -> tuple[float, float]:
        """Share of all work that is done, and seconds left (steps of later stages are taken to last like these)."""
        if self.settings.steps:
            steps = self.settings.steps
            left = sum(steps) - sum(steps[: self.stage]) - self.step
            return 1.0 - left / sum(steps), left * self.elapsed / max(self.step, 1)
        seconds = self.settings.minutes * 60.0
        spent = sum(self.shares[: self.stage]) * seconds + self.elapsed
        return min(spent / seconds, 1.0), max(seconds - spent, 0.0)


def _network(settings: Settings) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold_in(settings.seed, "weights") % 2**62)
        return family_of(settings.family).network(preset_of(settings.preset), asdict(settings))


def _schedule(share: float, step: int) -> float:
    """Cosine from 1 to 0.03 over the stage, after 40 steps of warm-up."""
    return min(1.0, (step + 1) / 40.0) * (0.03 + 0.97 * 0.5 * (1.0 + float(np.cos(np.pi * min(share, 1.0)))))
