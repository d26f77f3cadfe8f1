"""The road itself as a world model: what calibrates the instrument. With it, agreement has to be near one."""

from __future__ import annotations

from dataclasses import dataclass

from wmplan.contracts import Context, Grid, Imagined, SceneRaster
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.simulator.live import LiveScene
from wmplan.validation.interventions import act


@dataclass(frozen=True)
class RoadAsModel:
    """Imagines what truly happens on one scene's road, drawn as occupancy; every sample is the same."""

    alive: LiveScene
    grid: Grid
    horizon: int
    name: str = "road"

    @property
    def digest(self) -> str:
        """The scene's name: the road is all there is."""
        return f"road:{self.alive.name}"

    def encode(self, raster: SceneRaster) -> Context:
        """Nothing to encode."""
        return Context(raster, None)

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """The truth, drawn."""
        true = act(self.alive, plans, self.grid).imagined()
        shape = (len(plans), noise.samples)
        return Imagined(
            true.occupancy.expand(*shape, *true.occupancy.shape[2:]),
            true.velocity.expand(*shape, *true.velocity.shape[2:]),
            true.latents.expand(*shape, *true.latents.shape[2:]),
            self.grid,
        )
