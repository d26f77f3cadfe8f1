"""What one process does with a scene: drives in world models, or what is true, or a policy's trial.

Estimating processes cannot open the truth. They do need the scene as a road, and with it (for a recorded scene) the
routes that others took; see docs/ope.md.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import jax
import numpy as np
import pandas as pd

from experiments.assembly import build_model, use_compilation_cache
from experiments.ope import driving, shards
from experiments.ope.closed_loop import Drives, by_road, in_model, judged, on_road
from experiments.ope.entrants import at_the_wheel, check_shape
from experiments.ope.fleet import Fleet
from experiments.ope.listing import is_highway, loaded
from experiments.ope.logged import decisions_of
from experiments.ope.oracle import RoadAsModel
from experiments.ope.replay import LogReplay
from experiments.ope.settings import ORACLE, Settings
from experiments.processes import one_line
from experiments.validate.contenders import RANDOM, untrained
from wmplan.contracts import GRIDS, Grid, WorldModel
from wmplan.errors import InputError
from wmplan.models import MODELS
from wmplan.raster import STRIDE, rasterize
from wmplan.scene import STEP_S, Future, Scene
from wmplan.simulator.drivers import TWIN
from wmplan.simulator.ego_view import see
from wmplan.simulator.live import LiveScene, live
from wmplan.simulator.policies.protocol import Policy, Situation
from wmplan.simulator.traffic import observe
from wmplan.start import start_of

LONG_S = 8.0
"""What really happened is known so long."""
PATH = ("path_x", "path_y")
"""Where an ego went in the constant-velocity model, every half second, scene frame: its open-loop plan."""
OPEN_LOOP = "cv"
KNOWING = ("log-replay", ORACLE)
"""Estimators that use what truly happens: they run beside the truth."""
TRIED_STEPS = 10


@dataclass(frozen=True)
class Desk:
    """What a process needs for every scene."""

    settings: Settings
    policies: Mapping[str, Policy]
    fleet: Fleet
    models: Mapping[str, WorldModel]

    @property
    def steps(self) -> int:
        """Steps of a drive."""
        return round(self.settings.command.horizon_s / STEP_S)

    @property
    def grid(self) -> Grid:
        """The raster that others than world models work on: the first model's."""
        return next(iter(self.models.values())).grid if self.models else GRIDS["nano"]


def road_side(seconds: float) -> str:
    """The side of what really happened within so many seconds."""
    return f"road_{seconds:g}s"


def estimating(settings: Settings) -> Callable[[str], str]:
    """Drives of a scene inside every world model, into its shard.

    Raises:
        RuntimeError: this process could open the truth.
    """
    _require_sealed(settings.out)
    return partial(_shard, _desk(settings), _estimate, shards.ESTIMATES)


def truing(settings: Settings) -> Callable[[str], str]:
    """Drives of a scene on its road, and what needs the log's future, into their shards."""
    return partial(_shard, _desk(settings), _true, shards.ROAD)


def trying(settings: Settings) -> Callable[[str], str]:
    """A policy's first steps in the first scene; the process ends where they take too long."""
    use_compilation_cache(Path(settings.command.cache).resolve() if settings.command.cache else None)

    def one(name: str) -> str:
        alive = live(*loaded(settings.command, settings.scenes[0]))
        worlds = driving.several(alive.state, settings.command.draws)
        observed = observe(alive.network, worlds)
        situation = Situation(alive.network, worlds, observed, see(alive.network, worlds, observed))
        # The signal's default action ends the process, even one that is deep in compiled code.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, settings.command.timeout_s)
        try:
            return _try(name, situation, settings, alive)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    return one


def _try(name: str, situation: Situation, settings: Settings, alive: LiveScene) -> str:
    policy = at_the_wheel((name,))[name]
    check_shape(policy, situation)
    fleet = Fleet.of({name: policy}, settings.command.draws)
    moments = driving.on_road(alive.network, situation.worlds, fleet, fleet.keys(alive.name, 0), TRIED_STEPS)
    if not np.isfinite(np.asarray(jax.device_get(moments.x))[:, :, 0]).all():
        raise InputError("its actions are not finite numbers")
    return ""


def _desk(settings: Settings) -> Desk:
    command = settings.command
    use_compilation_cache(Path(command.cache).resolve() if command.cache else None)
    policies = at_the_wheel(settings.policies)
    return Desk(settings, policies, Fleet.of(policies, command.draws), models_of(settings))


def models_of(settings: Settings) -> dict[str, WorldModel]:
    """The world models by name: those asked for, then baselines on the first one's grid, then that one untrained."""
    command = settings.command
    found = {name: build_model(spec, command.horizon_s) for name, spec in settings.specs}
    first = next(iter(found.values()))
    steps = round(command.horizon_s / (STRIDE * STEP_S))
    baselines = {OPEN_LOOP} if "open-loop" in command.beside else set()
    for name in MODELS:
        if name in command.beside or name in baselines:
            found.setdefault(name, MODELS[name](first.grid, steps))
    folder = Path(settings.specs[0][1])
    if RANDOM in command.beside and folder.is_dir():
        found[RANDOM] = untrained(folder)
    return found


def _shard(desk: Desk, make: Callable[[Desk, Scene, Future], None], part: str, scene_id: str) -> str:
    """Makes a scene's shards; a scene that cannot be done is noted, and why is returned."""
    settings = desk.settings
    try:
        make(desk, *loaded(settings.command, settings.scene(scene_id)))
    except InputError as error:
        reason = str(error)
        shards.write_failure(settings.out, part, scene_id, reason)
        return reason
    except Exception as error:  # a defect of one scene must not end the run; it is tried again in the next
        return f"{one_line(error)} (not kept)"
    return ""


def _estimate(desk: Desk, scene: Scene, future: Future) -> None:
    alive = live(scene, future)
    tables = [_inside(desk, name, model, scene, alive) for name, model in desk.models.items()]
    shards.write(desk.settings.out, shards.ESTIMATES, scene.scene_id, pd.concat(tables, ignore_index=True))


def _true(desk: Desk, scene: Scene, future: Future) -> None:
    command, out = desk.settings.command, desk.settings.out
    alive = live(scene, future)
    road = live(scene, future, drivers=TWIN) if command.road == "twin" else alive
    long = round(LONG_S / STEP_S)
    if is_highway(command):
        from experiments.ope.highway import on_highway

        item = int(desk.settings.scene(scene.scene_id).item)
        driven = on_highway(command.logs, item, scene, future, road, desk.fleet, long, command.seed)
    else:
        driven = on_road(road, desk.fleet, long, command.draws, command.seed)
    start, judge = start_of(scene), by_road(road)
    tables = [
        judged(driven.until(steps), judge, start).assign(side=road_side(steps * STEP_S), crowded=0)
        for steps in sorted({desk.steps, long})
    ]
    shards.write(out, shards.EGO, scene.scene_id, _ego(scene, future))
    known = _knowing(desk, scene, future, alive)
    if known:
        tables_of = [_inside(desk, name, model, scene, alive) for name, model in known.items()]
        shards.write(out, shards.REPLAY, scene.scene_id, pd.concat(tables_of, ignore_index=True))
    rows = decisions_of(scene, future, alive, driven, desk.policies, command.seed)
    if rows is not None:
        shards.write(out, shards.DECISIONS, scene.scene_id, rows)
    # Last: a scene with this shard is done.
    shards.write(out, shards.ROAD, scene.scene_id, pd.concat(tables, ignore_index=True))


def _knowing(desk: Desk, scene: Scene, future: Future, alive: LiveScene) -> dict[str, WorldModel]:
    """Those of the estimators asked for that use what truly happens, so that they run beside the truth."""
    beside, horizon = desk.settings.command.beside, desk.steps // STRIDE
    found: dict[str, WorldModel] = {}
    if "log-replay" in beside:
        found["log-replay"] = cast(WorldModel, LogReplay.of(scene, future, desk.grid, horizon))
    if ORACLE in beside:
        found[ORACLE] = cast(WorldModel, RoadAsModel(alive, desk.grid, horizon))
    return found


def _inside(desk: Desk, name: str, model: WorldModel, scene: Scene, alive: LiveScene) -> pd.DataFrame:
    command = desk.settings.command
    raster = rasterize(scene, model.grid)
    drives = in_model(alive, scene, raster, model, desk.fleet, command.draws, command.seed).until(desk.steps)
    rows = judged(drives, by_road(alive), start_of(scene)).assign(side=name, crowded=drives.crowded)
    return _with_paths(rows, drives) if name == OPEN_LOOP else rows.assign(**dict.fromkeys(PATH, None))


def _with_paths(rows: pd.DataFrame, drives: Drives) -> pd.DataFrame:
    places = drives.executed.ego[:, STRIDE::STRIDE, :2]
    return rows.assign(**{name: list(places[:, :, axis]) for axis, name in enumerate(PATH)})


def _ego(scene: Scene, future: Future) -> pd.DataFrame:
    """Where the log's ego was every half second."""
    rows = np.arange(STRIDE - 1, future.ego.states.shape[1], STRIDE)
    states, there = future.ego.states[0, rows], future.ego.valid[0, rows]
    return pd.DataFrame(
        {
            "scene_id": scene.scene_id,
            "seconds": (rows + 1) * STEP_S,
            "x": np.where(there, states[:, 0], np.nan),
            "y": np.where(there, states[:, 1], np.nan),
        }
    )


def _require_sealed(out: Path) -> None:
    try:
        shards.marker(out).read_bytes()
    except PermissionError:
        return
    raise RuntimeError("an estimating process can open the truth, expected that it is forbidden to")
