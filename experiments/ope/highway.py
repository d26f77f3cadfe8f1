"""highway-env as the road: scenes of its traffic, and policies closed-loop among its vehicles, which no one here wrote.

`logs='highway:n=60,seed=7000,kind=mixed'`: scene i is the moment at which the ego can be told what to do, in the i-th
world of a kind; what followed is what highway-env's own driver did. Policies see highway-env's vehicles through the
functions that they see imagined ones through: by place, heading and speed, on the routes that the scene's road has.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from experiments.ope import driving
from experiments.ope.closed_loop import Drives, executed_of
from experiments.ope.fleet import Fleet
from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.scene import FUTURE_STEPS, Future, Scene
from wmplan.simulator.highway import KINDS, HighwayRoad, HighwayState
from wmplan.simulator.highway_drives import Drive, gone_on
from wmplan.simulator.highway_seen import Seen
from wmplan.simulator.live import LiveScene
from wmplan.simulator.scene_road import scene_road
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Moment
from wmplan.windows import WindowConfig, cut

PREFIX = "highway"
MIXED = "mixed"
CAR_M = 5.0, 2.0
"""Length and width of highway-env's cars."""
AWAY_M = 1e4
"""Where rows stand that nobody has."""


@dataclass(frozen=True)
class Worlds:
    """Which of highway-env's worlds."""

    n: int = 60
    """number of worlds"""
    seed: int = 0
    kind: str = MIXED
    """highway, merge, intersection, roundabout, or mixed: each in turn"""

    @staticmethod
    def parse(text: str) -> Worlds:
        """The worlds written as `highway:n=60,seed=0,kind=mixed`; every field may be left out.

        Raises:
            InputError: an unknown field or a value that cannot be.
        """
        values: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in text.partition(":")[2].split(","))):
            name, _, value = part.partition("=")
            values[name] = value
        known = [field.name for field in fields(Worlds)]
        for name, value in values.items():
            if name not in known:
                raise InputError(f"{text}: field {name!r}, expected one of {', '.join(known)}")
            if name != "kind" and not value.isdecimal():
                raise InputError(f"{text}: {name} is {value!r}, expected a whole number of 0 or more")
        kind = values.get("kind", MIXED)
        if kind not in (*KINDS, MIXED):
            raise InputError(f"{text}: kind is {kind!r}, expected {', '.join(KINDS)} or {MIXED}")
        return Worlds(int(values.get("n", Worlds.n)), int(values.get("seed", Worlds.seed)), kind)

    def road(self, number: int) -> HighwayRoad:
        """The road of a world.

        Raises:
            InputError: highway-env isn't installed.
        """
        return HighwayRoad(KINDS[number % len(KINDS)] if self.kind == MIXED else self.kind)


@lru_cache(maxsize=2)
def start(text: str, number: int) -> tuple[HighwayRoad, HighwayState]:
    """The road of a world, and its state at t0."""
    worlds = Worlds.parse(text)
    road = worlds.road(number)
    return road, road.reset(fold_in(worlds.seed, "highway for ope", number) % 2**32)


def moment_of(text: str, number: int) -> tuple[Scene, Future]:
    """The scene of a world, and what followed."""
    road, state = start(text, number)
    return next(cut(gone_on(road, state, FUTURE_STEPS), WindowConfig()))


def on_highway(
    text: str, number: int, scene: Scene, future: Future, alive: LiveScene, fleet: Fleet, steps: int, seed: int
) -> Drives:
    """What really happens: every policy of the fleet among highway-env's vehicles, each drive in a world of its own.

    `alive` is the scene as a road of ours: of it the map and the routes count, on which policies see who drives where.
    """
    road, state = start(text, number)
    ids = scene_road(scene, future).start.ids
    count = len(fleet) * fleet.draws
    drives = [Drive(road, state) for _ in range(count)]
    rows = [_Rows(ids, len(alive.state.kind)) for _ in range(count)]
    first = _usual(driving.known(alive.network, alive.state, jnp.asarray(alive.state.active)))
    worlds = driving.several(first, count)
    keys, held = fleet.keys(alive.name, seed), driving.nothing_held(worlds)
    moments = [jax.device_get(driving.present(worlds))]
    broken = np.zeros(count, dtype=bool)
    for step in range(steps):
        decided, held = driving.decide(alive.network, worlds, fleet, keys, jnp.int32(step), held)
        actions = np.asarray(decided, np.float64)
        broken |= ~np.isfinite(actions).all(axis=1)
        seen = [drive.step(action) for drive, action in zip(drives, np.nan_to_num(actions))]
        places = np.stack([mine.places(now, scene) for mine, now in zip(rows, seen)])
        places[broken, 0, :5] = np.nan  # an action that is no number makes a drive that is none
        there = jnp.asarray(places[..., 5] > 0.5)
        worlds = driving.put(alive.network, worlds, jnp.asarray(places[..., :5], jnp.float32), there)
        moments.append(jax.device_get(driving.present(worlds)))
    whole = _kept(jax.tree.map(lambda *parts: np.stack(parts), *moments))
    return Drives(alive.name, fleet.names, fleet.draws, executed_of(whole, first, alive.anchor))


def _kept(whole: Moment) -> Moment:
    """The moments with whoever is not there yet, or no longer, where they come or were last: nobody leaps."""
    places: dict[str, Any] = {name: np.array(getattr(whole, name)) for name in ("x", "y", "cos", "sin", "speed")}
    there = np.asarray(whole.active)
    for values in places.values():
        for step in range(len(there) - 2, -1, -1):
            values[step] = np.where(there[step], values[step], values[step + 1])
        known = there[0].copy()
        for step in range(1, len(there)):
            values[step] = np.where(known & ~there[step], values[step - 1], values[step])
            known |= there[step]
    return whole._replace(**places)


def _usual(state: State) -> State:
    """The state with highway-env's size of a car in the rows that nobody has yet."""
    long, wide = CAR_M
    return state._replace(
        length=jnp.where(state.active, state.length, long), width=jnp.where(state.active, state.width, wide)
    )


class _Rows:
    """Which row of the world each of highway-env's vehicles has in one drive; who comes later takes a free one."""

    def __init__(self, ids: tuple[str, ...], count: int) -> None:
        self._rows, self._count = {name: row for row, name in enumerate(ids)}, count

    def places(self, seen: Seen, scene: Scene) -> Float64[ndarray, "A 6"]:
        """x, y, cos, sin, speed and 1 for who is there, [A, 6], in the frame of the scene."""
        found = np.zeros((self._count, 6))
        found[:, :3] = AWAY_M, AWAY_M, 1.0
        for name, (x, y, yaw, speed) in zip(seen.labels, seen.states):
            row = self._rows.get(name)
            if row is None and len(self._rows) < self._count:
                row = self._rows.setdefault(name, len(self._rows))
            if row is not None:
                place, turned = scene.anchor.to_local(np.array([x, y])), yaw - scene.anchor.yaw
                found[row] = *place, np.cos(turned), np.sin(turned), max(speed, 0.0), 1.0
        return found
