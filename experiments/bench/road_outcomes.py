"""What the truth of many candidates costs: plans executed in a scene that goes on, judged by both driving scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from experiments.bench.road_crowd import crowded
from experiments.bench.timing import Timed, timed
from wmplan.plans import Plans, Start
from wmplan.scene import STEP_S
from wmplan.simulator.live import LiveScene, live
from wmplan.simulator.maps import MAPS
from wmplan.simulator.reader import SimulatorReader
from wmplan.start import start_of
from wmplan.windows import WindowConfig, cut


@dataclass(frozen=True)
class Truth:
    """The cost of one scene's candidates on a map of this kind: the whole call, and its first part. `exist` of the 32
    rows are somebody at t0."""

    kind: str
    exist: int
    whole: Timed
    executed: Timed


def measure(candidates: int, seconds: float) -> list[Truth]:
    """A scene of every kind of map; compiled once for all."""
    return [_of_scene(kind, *some_scene(kind), candidates, round(seconds / STEP_S)) for kind in MAPS]


def measure_crowd(candidates: int, seconds: float) -> Truth:
    """A motorway on which all 32 rows are somebody."""
    scene, future = crowded(32)
    return _of_scene("crowd", live(scene, future), start_of(scene), candidates, round(seconds / STEP_S))


def _of_scene(kind: str, alive: LiveScene, start: Start, candidates: int, steps: int) -> Truth:
    plans = Plans.from_controls(some_candidates(candidates, steps), start.speed)
    whole = timed(lambda: alive.outcomes(plans, start, float("nan")), ())
    return Truth(kind, int(alive.state.active.sum()), whole, timed(lambda: alive.execute(plans), ()))


def some_scene(kind: str) -> tuple[LiveScene, Start]:
    """The scene of a simulated log on a map of this kind, going on."""
    reader = SimulatorReader()
    for path in reader.paths(Path(f"simulator:n=16,seed=0,map={kind}")):
        for log in reader.read(path):
            for scene, future in cut(log, WindowConfig()):
                return live(scene, future), start_of(scene)
    raise ValueError(f"bench road: no log of {kind} gives a scene")


def some_candidates(count: int, steps: int) -> Float[ndarray, "K T 2"]:
    """Controls that change every second: brake, go on, speed up; straight on or to a side."""
    draw = np.random.default_rng(0)
    blocks = -(-steps // 10)
    accel = draw.uniform(-3.0, 2.0, (count, blocks))
    curvature = draw.normal(0.0, 0.005, (count, blocks))
    return np.repeat(np.stack([accel, curvature], axis=-1), 10, axis=1)[:, :steps]
