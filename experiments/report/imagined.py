"""What a model imagined of a scene, as pictures: a plan's future beside the real one, beside hard braking's, in 3-D."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from experiments.report.films import Strip, film_gif, plot_film, plot_reaction
from experiments.report.plots import png
from experiments.report.solids import plot_solids
from wmplan.contracts import IMAGINED_STEP_S, Grid, WorldModel
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import footprints, rasterize, rasterize_future
from wmplan.scene import Future, Scene

BRAKING_MPS2 = 5.0
"""Deceleration of the plan that the chosen one is compared with."""


@dataclass(frozen=True)
class ImaginedScene:
    """Futures of one scene: imagined under a plan [0] and under hard braking [1] with the same noise, and the real one,
    which followed the ego's own action."""

    planner: str
    grid: Grid
    samples: Float[ndarray, "2 M T C H W"]
    footprints: Float[ndarray, "2 T H W"]
    real: Float[ndarray, "T C H W"]

    @property
    def mean(self) -> Float[ndarray, "2 T C H W"]:
        """Mean of the samples."""
        return self.samples.mean(axis=1)

    @property
    def strips(self) -> list[Strip]:
        """Imagined mean, one sample, real."""
        return [("imagined, mean", self.mean[0]), ("imagined, sample 1", self.samples[0, 0]), ("real", self.real)]

    def film(self) -> Figure:
        """Imagined against real, step by step."""
        return plot_film(self.strips, self.footprints[0], self.grid, IMAGINED_STEP_S)[0]

    def gif(self) -> bytes:
        """The same, moving."""
        return film_gif([self.strips[0], self.strips[2]], self.footprints[0], self.grid, IMAGINED_STEP_S)

    def reaction(self) -> Figure:
        """What hard braking would change for the others."""
        names = self.planner, "hard braking"
        mean, feet = self.mean, self.footprints
        return plot_reaction(names, (mean[0], mean[1]), (feet[0], feet[1]), self.grid, IMAGINED_STEP_S)[0]

    def solids(self) -> Figure:
        """The last step in 3-D."""
        feet = self.footprints[0, -1]
        return plot_solids([("imagined", self.mean[0, -1], feet), ("real", self.real[-1], feet)], self.grid)[0]


@dataclass(frozen=True)
class Picture:
    """Base64 of a picture, its kind (png, gif), and what it shows (HTML)."""

    content: str
    kind: str
    caption: str


def imagine_scene(
    model: WorldModel, scene: Scene, future: Future, plan: Plans, planner: str, noise: NoiseBank
) -> ImaginedScene:
    """The futures of the only one of these plans and of hard braking in its place, steered alike."""
    raster = rasterize(scene, model.grid)
    braking = plan.controls.astype(np.float64).copy()
    braking[..., 0] = -BRAKING_MPS2
    both = Plans.from_controls(np.concatenate([plan.controls.astype(np.float64), braking]), raster.start.speed)
    imagined = model.imagine(model.encode(raster), both, noise).occupancy.numpy()
    steps = imagined.shape[2]
    feet = footprints(both, raster.start, model.grid)[:, 1 : steps + 1].numpy()
    real = rasterize_future(scene, future, model.grid, steps)[:, :2].numpy()
    return ImaginedScene(planner, model.grid, imagined, feet, real)


def imagined_pictures(imagined: ImaginedScene, more: bool) -> tuple[Picture, ...]:
    """The film and the reaction, for the report; `more` adds the film moving, and its end in 3-D."""
    planner, (count, steps) = imagined.planner, imagined.samples.shape[1:3]
    found = [
        Picture(
            png(imagined.film()),
            "png",
            f"Occupancy over time under the plan of {planner}: imagined (mean of {count} samples, and one of them) "
            "against what the log recorded under the ego's <i>own</i> action. Dark blue: vehicles; magenta: "
            "pedestrians and cyclists; orange: the ego's footprint. The frame stays at the ego's pose at t0.",
        ),
        Picture(
            png(imagined.reaction()),
            "png",
            f"The reaction: what is imagined under the plan of {planner}, what if the ego brakes with {BRAKING_MPS2:g} "
            "m/s² instead, and the change. Blue: somebody is there only if the ego brakes; red: only if it does not. "
            "White everywhere means that nobody is thought to react within the horizon.",
        ),
    ]
    if more:
        moving = base64.b64encode(imagined.gif()).decode()
        ends = f"{steps * IMAGINED_STEP_S:g} s"
        found += [
            Picture(moving, "gif", "The same film, moving: imagined mean and real."),
            Picture(
                png(imagined.solids()),
                "png",
                f"The end of the film in 3-D: cells more than half occupied after {ends}, as blocks. Logs and rasters "
                "know no heights: cars are drawn 1.5 m high, people 1.8 m.",
            ),
        ]
    return tuple(found)
