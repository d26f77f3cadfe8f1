"""All probes of L4 in one scene: one set of plans, imagined once, read once, measured by every probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.contracts import Imagined, WorldModel
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank, fold_in
from wmplan.scene import STEP_S, Future, Scene
from wmplan.validation.action_use import SceneUse, use, variants
from wmplan.validation.controllability import SceneControl, Sweep, control
from wmplan.validation.interventions import ACCELS_MPS2, HORIZON_STEPS, Probed, interventions, read_futures
from wmplan.validation.reaction import SceneReaction, react

CEILING, FLOOR = "oracle", "action-blind"
"""The true future, and the true future of the logged plan whatever the plan is, read as if imagined."""


@dataclass(frozen=True)
class Battery:
    """The plans of a scene, by row: the logged one; do(a) for the reaction error; the commands of the sweep, its
    targets; the two variants of the logged one for action use."""

    sweep: Sweep
    accels: tuple[float, ...] = ACCELS_MPS2
    seed: int = 0

    @property
    def reaction(self) -> list[int]:
        """Rows of the reaction error, the logged plan first."""
        return list(range(1 + len(self.accels)))

    @property
    def swept(self) -> list[int]:
        """Rows of the sweep, the logged plan first."""
        return [0, *range(1 + len(self.accels), 1 + len(self.accels) + len(self.sweep.grid))]

    @property
    def targets(self) -> list[int]:
        """Rows of the sweep's targets, the logged plan first."""
        first = 1 + len(self.accels) + len(self.sweep.grid)
        return [0, *range(first, first + len(self.sweep.targets))]

    @property
    def use(self) -> list[int]:
        """Rows of action use, the logged plan first."""
        first = 1 + len(self.accels) + len(self.sweep.grid) + len(self.sweep.targets)
        return [0, first, first + 1]

    def plans(self, logged: Plans) -> Plans:
        """All of them, from the logged plan (one row, at least as long as the horizon)."""
        accels = (*self.accels, *self.sweep.grid, *self.sweep.targets)
        held = interventions(logged, accels)
        changed = variants(held.select([0]), self.sweep.high - self.sweep.low, self.seed)
        return Plans.concatenate([held, changed])


@dataclass(frozen=True)
class SceneProbes:
    """What the probes found in one scene of one model. `control` and `use` are None where nobody truly reacts."""

    reaction: SceneReaction
    control: SceneControl | None
    use: SceneUse | None


def measure(
    model: WorldModel, probed: Probed, battery: Battery, seed: int, samples: int, sweep: bool = True
) -> SceneProbes:
    """The model on a scene that was probed with the battery's plans; the reaction error alone unless `sweep`."""
    context = model.encode(probed.raster)
    noise, other = (
        NoiseBank(fold_in(seed, probed.scene_id, purpose), samples) for purpose in ("imagine", "imagine again")
    )
    plans = probed.acted.plans
    if not sweep:
        imagined = model.imagine(context, plans.select(battery.reaction), noise)
        futures = read_futures(imagined, probed.first)
        return SceneProbes(react(model.name, futures, probed.only(battery.reaction)), None, None)
    again = model.imagine(context, plans.select(battery.targets), other)
    return of_imagined(model.name, model.imagine(context, plans, noise), again, probed, battery)


def measure_truth(probed: Probed, battery: Battery) -> list[SceneProbes]:
    """The ceiling and the floor on a scene that was probed with the battery's plans."""
    acted = probed.acted
    return [
        of_imagined(name, imagined, _rows(imagined, battery.targets), probed, battery)
        for name, imagined in ((CEILING, acted.imagined()), (FLOOR, acted.blind()))
    ]


def of_imagined(name: str, imagined: Imagined, again: Imagined, probed: Probed, battery: Battery) -> SceneProbes:
    """Every probe from the futures of all plans, and from those of the targets under another noise."""
    futures = read_futures(imagined, probed.first)
    reaction = react(name, futures.select(battery.reaction), probed.only(battery.reaction))
    swept = react(name, futures.select(battery.swept), probed.only(battery.swept))
    targets = react(name, read_futures(again, probed.first), probed.only(battery.targets))
    answer = control(swept, targets, battery.sweep)
    if not reaction.causal.any():
        return SceneProbes(reaction, answer, None)
    chosen = _rows(imagined, battery.use)
    return SceneProbes(reaction, answer, use(probed.scene_id, probed.group, name, chosen, again))


def commands(scene: Scene, future: Future) -> Float[ndarray, "N"]:
    """The ego's accelerations (m/s2) in each half second of the horizon; none where the log does not show it."""
    valid = future.ego.valid[0, :HORIZON_STEPS]
    states = future.ego.states[0, :HORIZON_STEPS]
    speed = np.hypot(states[:, 3], states[:, 4]).astype(np.float64)
    step = 5
    both = valid[step:] & valid[:-step]
    return ((speed[step:] - speed[:-step]) / (step * STEP_S))[both][::step]


# ------------------------------------------------------------------------------------------------------ details


def _rows(imagined: Imagined, rows: list[int]) -> Imagined:
    return Imagined(imagined.occupancy[rows], imagined.velocity[rows], imagined.latents[rows], imagined.grid)
