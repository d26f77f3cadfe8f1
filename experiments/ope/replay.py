"""Log replay as a world model: others do what the log says they did, whatever the ego does.

It uses the true future of the log, which no estimate may; it stands here because non-reactive simulation, as NAVSIM
does it, is what an estimate has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float

from wmplan.contracts import Context, Grid, Imagined, SceneRaster
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize_future
from wmplan.scene import Future, Scene
from wmplan.validation.interventions import as_imagined


@dataclass(frozen=True)
class LogReplay:
    """Shows the logged future of one scene for every plan and sample; `frames` are its first `horizon` frames."""

    scene_id: str
    frames: Float[torch.Tensor, "T 5 H W"]
    grid: Grid
    name: str = "log-replay"

    @staticmethod
    def of(scene: Scene, future: Future, grid: Grid, horizon: int) -> LogReplay:
        """The replay of a scene."""
        return LogReplay(scene.scene_id, rasterize_future(scene, future, grid, horizon), grid)

    @property
    def horizon(self) -> int:
        """Frames that it knows."""
        return len(self.frames)

    @property
    def digest(self) -> str:
        """The scene's id: the log is all there is."""
        return f"{self.name}:{self.scene_id}"

    def encode(self, raster: SceneRaster) -> Context:
        """Nothing to encode."""
        return Context(raster, None)

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """The logged future, expanded and not copied."""
        true, shape = as_imagined(self.frames[None], self.grid), (len(plans), noise.samples)
        return Imagined(
            true.occupancy.expand(*shape, *true.occupancy.shape[2:]),
            true.velocity.expand(*shape, *true.velocity.shape[2:]),
            true.latents.expand(*shape, *true.latents.shape[2:]),
            self.grid,
        )
