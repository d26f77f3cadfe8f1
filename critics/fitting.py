"""Fit the learned critics beside a model, and load all critics of a model as one composite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from critics.composite import Composite, CostWeights
from critics.inverse_control import InverseControlProbe, ProbeConfig, collect_responses
from critics.recovery import ProbeSummary, probe_summary
from critics.support import SupportConfig, SupportDensity
from critics.support_features import SupportExamples
from critics.support_neighbours import NeighboursConfig, SupportNeighbours
from critics.task import TaskConfig, TaskCritic
from critics.vista import VistaConfig, VistaCritic
from wmplan.contracts import Critic, SceneRaster, WorldModel
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank, fold_in

SUPPORT_FILE, NEIGHBOURS_FILE, PROBE_FILE = "support.safetensors", "neighbours.safetensors", "probe.safetensors"


@dataclass(frozen=True)
class FitConfig:
    """How the fitted critics of a model are made."""

    calibration_share: float = 0.4
    """Share of the groups (recordings) kept from fitting: they calibrate the support and judge the probe."""
    probe_scenes: int = 96
    """At most so many scenes are imagined to fit the probe, and half as many to judge it."""
    samples: int = 2
    """Imagined samples a command in those scenes."""
    seed: int = 0
    """Seed of the split and of the imagination's noise."""
    support: SupportConfig = field(default_factory=SupportConfig)
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)


@dataclass(frozen=True)
class LoggedAction:
    """A training scene as critics see it, and what its ego did (one plan; `wmplan.executed`)."""

    raster: SceneRaster
    plan: Plans
    group: str


@dataclass(frozen=True)
class FittedCritics:
    """What `fit_critics` gives; `summary` judges the model by the probe on the calibration groups."""

    support: SupportDensity
    neighbours: SupportNeighbours
    probe: InverseControlProbe
    summary: ProbeSummary

    def save(self, model_dir: Path) -> None:
        """Write each critic beside the model, in a file of its own."""
        self.support.save(model_dir / SUPPORT_FILE)
        self.neighbours.save(model_dir / NEIGHBOURS_FILE)
        self.probe.save(model_dir / PROBE_FILE)


def fit_critics(model: WorldModel, logged: Iterable[LoggedAction], config: FitConfig | None = None) -> FittedCritics:
    """Support and probe from logged actions of the *training* split; groups are split by a hash of their names.

    Memory: features of all scenes are kept, rasters only of those that the probe uses.

    Raises:
        InputError: too few scenes or groups for a calibration.
    """
    config = config or FitConfig()
    train: list[SupportExamples] = []
    calibration: list[SupportExamples] = []
    fit_on: list[SceneRaster] = []
    judge_on: list[SceneRaster] = []
    for action in logged:
        held_out = calibrates(action.group, config)
        (calibration if held_out else train).append(SupportExamples.of(action.raster, action.plan, action.group))
        rasters, most = (judge_on, config.probe_scenes // 2) if held_out else (fit_on, config.probe_scenes)
        if len(rasters) < most:
            rasters.append(action.raster)
    if not train or not calibration:
        raise InputError(
            f"fit_critics: {len(train)} training and {len(calibration)} calibration scenes, expected some of both; "
            "use more recordings"
        )
    examples = SupportExamples.concatenate(train), SupportExamples.concatenate(calibration)
    support = SupportDensity.fit(*examples, config.support)
    neighbours = SupportNeighbours.fit(*examples, config.neighbours)

    def noise(scene_id: str) -> NoiseBank:
        return NoiseBank(fold_in(config.seed, scene_id, "probe"), config.samples)

    probe = InverseControlProbe.fit(collect_responses(model, fit_on, noise, config.probe), config.probe)
    summary = probe_summary(probe, collect_responses(model, judge_on, noise, config.probe), seed=config.seed)
    return FittedCritics(support, neighbours, probe, summary)


def calibrates(group: str, config: FitConfig) -> bool:
    """Whether a group belongs to the calibration side; depends on nothing but its name, the seed and the share."""
    return fold_in(config.seed, "calibration", group) / 2.0**63 < config.calibration_share


def default_critics(
    fitted: Path | FittedCritics,
    weights: CostWeights | None = None,
    task: TaskConfig | None = None,
    vista: VistaConfig | None = None,
) -> Composite:
    """All critics of a model as one: from the folder in which `FittedCritics.save` put them, or from the objects.

    Raises:
        InputError: the folder holds no fitted critics, or damaged ones.
    """
    if isinstance(fitted, Path):
        learned: list[Critic] = [
            SupportDensity.load(fitted / SUPPORT_FILE),
            SupportNeighbours.load(fitted / NEIGHBOURS_FILE),
            InverseControlProbe.load(fitted / PROBE_FILE),
        ]
    else:
        learned = [fitted.support, fitted.neighbours, fitted.probe]
    return Composite([TaskCritic(task), VistaCritic(vista), *learned], weights)
