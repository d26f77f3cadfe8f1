"""All probes of L4 in one scene: one set of plans, imagined once, read once, measured by every probe."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.contracts import Imagined, WorldModel
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank, fold_in
from wmplan.scene import STEP_S, Future, Scene
from wmplan.simulator.live import LiveScene
from wmplan.validation.action_use import SceneUse, use, variants
from wmplan.validation.controllability import SceneControl, Sweep, control
from wmplan.validation.foreseeable import foreseen
from wmplan.validation.interventions import (
    ACCELS_MPS2,
    HORIZON_STEPS,
    Acted,
    Futures,
    Probed,
    interventions,
    read_futures,
)
from wmplan.validation.reaction import SceneReaction, react

CEILING, FLOOR, FORESEEN = "oracle", "action-blind", "drivers-unknown"
"""The true future; that of the logged plan whatever the plan is; that of the same road with drivers drawn anew: each
read as if imagined."""


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
    """What the probes found in one scene of one model. `control` and `use` are None where nobody truly reacts; `twin`
    is the same imagined reaction held against what drivers with other parameters truly do."""

    reaction: SceneReaction
    control: SceneControl | None = None
    use: SceneUse | None = None
    twin: SceneReaction | None = None


def measure(
    name: str,
    model: WorldModel,
    probed: Probed,
    battery: Battery,
    seed: int,
    samples: int,
    twin: Probed | None = None,
    whole: bool = True,
) -> SceneProbes:
    """The model on a scene that was probed with the battery's plans; the reaction error alone unless `whole`."""
    context = model.encode(probed.raster)
    noise, other = (
        NoiseBank(fold_in(seed, probed.scene_id, purpose), samples) for purpose in ("imagine", "imagine again")
    )
    plans = probed.acted.plans
    if whole:
        again = model.imagine(context, plans.select(battery.targets), other)
        return of_imagined(name, model.imagine(context, plans, noise), again, probed, battery, twin)
    imagined = model.imagine(context, plans.select(battery.reaction), noise)
    return _reactions(name, read_futures(imagined, probed.first), probed, battery, twin)


def measure_truth(
    probed: Probed, battery: Battery, twin: Probed | None = None, whole: bool = True
) -> dict[str, SceneProbes]:
    """The ceiling and the floor on a scene that was probed with the battery's plans; each truth has its own."""
    found = {}
    for name, of in ((CEILING, Acted.imagined), (FLOOR, Acted.blind)):
        imagined = of(probed.acted)
        if whole:
            one = of_imagined(name, imagined, _rows(imagined, battery.targets), probed, battery)
        else:
            futures = read_futures(_rows(imagined, battery.reaction), probed.first)
            one = SceneProbes(react(name, futures, probed.only(battery.reaction)))
        if twin is not None:
            other = read_futures(of(twin.acted.select(battery.reaction)), twin.first)
            one = replace(one, twin=react(name, other, twin.only(battery.reaction)))
        found[name] = one
    return found


def measure_foreseen(probed: Probed, battery: Battery, alive: LiveScene) -> SceneProbes:
    """The reaction error of somebody who knows the road and everything but its drivers."""
    asked = probed.only(battery.reaction)
    return SceneProbes(react(FORESEEN, read_futures(foreseen(asked, alive), probed.first), asked))


def of_imagined(
    name: str, imagined: Imagined, again: Imagined, probed: Probed, battery: Battery, twin: Probed | None = None
) -> SceneProbes:
    """Every probe from the futures of all plans, and from those of the targets under another noise."""
    futures = read_futures(imagined, probed.first)
    found = _reactions(name, futures.select(battery.reaction), probed, battery, twin)
    if not found.reaction.causal.any():
        return found
    swept = react(name, futures.select(battery.swept), probed.only(battery.swept))
    targets = react(name, read_futures(again, probed.first), probed.only(battery.targets))
    changes = use(probed.scene_id, probed.group, name, _rows(imagined, battery.use), again)
    return replace(found, control=control(swept, targets, battery.sweep), use=changes)


def commands(scene: Scene, future: Future) -> Float[ndarray, "N"]:
    """The ego's accelerations (m/s2) in each half second of the horizon; none where the log does not show it."""
    valid = future.ego.valid[0, :HORIZON_STEPS]
    states = future.ego.states[0, :HORIZON_STEPS]
    speed = np.hypot(states[:, 3], states[:, 4]).astype(np.float64)
    step = 5
    both = valid[step:] & valid[:-step]
    return ((speed[step:] - speed[:-step]) / (step * STEP_S))[both][::step]


# ------------------------------------------------------------------------------------------------------ details


def _reactions(name: str, futures: Futures, probed: Probed, battery: Battery, twin: Probed | None) -> SceneProbes:
    reaction = react(name, futures, probed.only(battery.reaction))
    other = None if twin is None else react(name, futures, twin.only(battery.reaction))
    return SceneProbes(reaction, twin=other)


def _rows(imagined: Imagined, rows: list[int]) -> Imagined:
    return Imagined(imagined.occupancy[rows], imagined.velocity[rows], imagined.latents[rows], imagined.grid)
