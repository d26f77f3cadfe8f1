"""The simulator as a source of logs: `simulator:n=200,seed=0,map=mixed`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.scene import STEP_S, Lights, Log, Tracks
from wmplan.simulator import behaviour, maps
from wmplan.simulator.network import Network, stack
from wmplan.simulator.packing import pack
from wmplan.simulator.perception import lights
from wmplan.simulator.populate import WARM_UP_STEPS, place
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Moment, go_on, moment, observe

LOG_STEPS = 121
"""States of a log: 12 s."""
CHUNK = 32
"""Worlds simulated together. Log i is always made in the chunk i // CHUNK, whatever is asked for, so that it has the
same bytes however many others are made."""
LOGS_PER_MAP = 4
"""Logs that share a map (and are one group, so that a split never parts them): a map costs more than a log."""
PREFIX = "simulator:"


@dataclass(frozen=True)
class Source:
    """What to simulate."""

    n: int = 200
    """number of logs"""
    seed: int = 0
    """log i of a seed is always the same"""
    map: str = "mixed"
    """straight, merge, crossing, t_junction, roundabout, or mixed: each as often, by chance"""

    @staticmethod
    def parse(text: str) -> Source:
        """The source written as `simulator:n=200,seed=0,map=mixed`; every field may be left out.

        Raises:
            InputError: an unknown field or a value that cannot be.
        """
        body = text.removeprefix(PREFIX.rstrip(":")).removeprefix(":")
        known = {f.name for f in fields(Source)}
        values: dict[str, str] = {}
        for part in filter(None, (p.strip() for p in body.split(","))):
            name, _, value = part.partition("=")
            if name not in known:
                raise InputError(f"{text}: field {name!r}, expected one of {', '.join(sorted(known))}")
            values[name] = value
        numbers = {}
        for name in ("n", "seed"):
            value = values.get(name, str(getattr(Source(), name)))
            if not value.isdecimal():
                raise InputError(f"{text}: {name} is {value!r}, expected a whole number of 0 or more")
            numbers[name] = int(value)
        kind = values.get("map", "mixed")
        if kind not in (*maps.MAPS, "mixed"):
            raise InputError(f"{text}: map is {kind!r}, expected {', '.join(maps.MAPS)} or mixed")
        return Source(numbers["n"], numbers["seed"], kind)


class Recording(NamedTuple):
    """What B simulated worlds did: T steps."""

    moments: Moment
    lights: Int[Array, "T B G"]
    length: Float[Array, "B A"]
    width: Float[Array, "B A"]
    kind: Int[Array, "B A"]


class SimulatorReader:
    """A `LogReader` that needs no file: every pseudo path is one simulated log."""

    name = "simulator"

    def __init__(self) -> None:
        self._chunk: tuple[tuple[int, str, int], list[Log]] | None = None

    def paths(self, source: Path) -> list[Path]:
        """One pseudo path a log; none if `source` does not begin with `simulator:`."""
        text = str(source)
        if text != self.name and not text.startswith(PREFIX):
            return []
        wanted = Source.parse(text)
        return [Path(f"{PREFIX}seed={wanted.seed},map={wanted.map},log={i}") for i in range(wanted.n)]

    def read(self, path: Path) -> Iterator[Log]:
        """The log of one of `paths`; the chunk that it was made in is kept, so reading in order is fast.

        Raises:
            InputError: not a path that `paths` gives.
        """
        head, _, number = str(path).rpartition(",log=")
        if not head.startswith(PREFIX) or not number.isdecimal():
            raise InputError(f"{path}: expected {PREFIX}seed=S,map=M,log=I")
        source, index = Source.parse(head), int(number)
        chunk = (source.seed, source.map, index // CHUNK)
        if self._chunk is None or self._chunk[0] != chunk:
            self._chunk = (chunk, simulate_chunk(*chunk))
        yield self._chunk[1][index % CHUNK]


def simulate_chunk(seed: int, kind: str, chunk: int) -> list[Log]:
    """Logs `chunk * CHUNK` to `chunk * CHUNK + CHUNK - 1` of a seed."""
    names = list(maps.MAPS)
    first = chunk * CHUNK // LOGS_PER_MAP
    seeds = [fold_in(seed, "simulator map", kind, first + i) for i in range(CHUNK // LOGS_PER_MAP)]
    roads = [maps.MAPS[names[(s >> 8) % len(names)] if kind == "mixed" else kind](s) for s in seeds]
    draws = [fold_in(seed, "simulator", kind, chunk * CHUNK + i) for i in range(CHUNK)]
    keys = jnp.asarray([[s >> 32, s & 0xFFFFFFFF] for s in draws], dtype=jnp.uint32)
    which = jnp.arange(CHUNK, dtype=jnp.int32) // LOGS_PER_MAP
    recording = jax.device_get(_record(stack([pack(road) for road in roads]), which, keys, LOG_STEPS))
    return [
        to_log(
            roads[row // LOGS_PER_MAP],
            _of_world(recording, row),
            f"sim-{kind}-{seed}-{chunk * CHUNK + row}",
            f"sim-{kind}-{seed}-map{first + row // LOGS_PER_MAP}",
        )
        for row in range(CHUNK)
    ]


def record(network: Network, roads: Int[Array, "B"], keys: Array, steps: int) -> Recording:
    """B worlds with the behaviour policy at the wheel, `steps` states long."""
    start, mind = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    first = place(network, roads, start)
    # The warm-up of `populate.reset` and the log in one loop: compiling the world twice takes twice as long.
    plain = jax.vmap(lambda _: behaviour.plain(WARM_UP_STEPS))(start)
    parts = plain, jax.vmap(lambda key: behaviour.schedule(key, steps))(mind)
    minds = jax.tree.map(lambda *x: jnp.moveaxis(jnp.concatenate(x, axis=1), 1, 0), *parts)
    group_lights = jax.vmap(lights, in_axes=(None, 0))
    calm = jnp.zeros(roads.shape, dtype=bool)

    def one(worlds: State, now: behaviour.Schedule) -> tuple[State, tuple[Moment, Array]]:
        seen = observe(network, worlds)
        after = go_on(network, worlds, seen, behaviour.act_each(network, worlds, seen, now))
        return after, (moment(worlds, worlds, calm), group_lights(network, worlds))

    _, (moments, states) = jax.lax.scan(one, first, minds)
    moments, states = jax.tree.map(lambda x: x[WARM_UP_STEPS:], (moments, states))
    return Recording(moments, states, first.length, first.width, first.kind)


@partial(jax.jit, static_argnames="steps")
def _record(network: Network, roads: Array, keys: Array, steps: int) -> Recording:
    return record(network, roads, jax.vmap(jax.random.wrap_key_data)(keys), steps)


def _of_world(recording: Recording, row: int) -> Recording:
    """One world of a recording, without the axis B."""
    moments, states = jax.tree.map(lambda x: x[:, row], (recording.moments, recording.lights))
    return Recording(moments, states, recording.length[row], recording.width[row], recording.kind[row])


def to_log(road: maps.SimMap, recording: Recording, log_id: str, group: str) -> Log:
    """The recording of one world as a log; rows that were never active are left out, the ego is track `ego`."""
    seen = recording.moments
    valid = np.asarray(seen.active).T
    rows = np.flatnonzero(valid.any(axis=1))
    x, y, cos, sin, speed = (np.asarray(field, dtype=np.float64).T[rows] for field in seen[:5])
    states = np.stack([x, y, np.arctan2(sin, cos), speed * cos, speed * sin], axis=-1)
    tracks = Tracks(
        ids=tuple("ego" if row == 0 else str(row) for row in rows),
        kinds=np.asarray(recording.kind)[rows].astype(np.int8),
        sizes=np.stack([recording.length, recording.width], axis=-1).astype(np.float32)[rows],
        states=np.where(valid[rows][..., None], states, 0.0),
        valid=valid[rows],
    )
    return Log(
        log_id=log_id,
        group=group,
        dataset="simulator",
        file=PREFIX + log_id,
        dt_s=STEP_S,
        tracks=tracks,
        road_map=road.road_map,
        lights=_lights(road, np.asarray(recording.lights)),
        recorded_ego="ego",
        recorded=False,
    )


def _lights(road: maps.SimMap, states: Int[ndarray, "T G"]) -> Lights:
    if not road.stop_points:
        return Lights.none(len(states))
    return Lights(
        points=np.concatenate([stop.point for stop in road.stop_points]),
        lanes=tuple(stop.lane for stop in road.stop_points),
        states=np.stack([states[:, stop.group] for stop in road.stop_points]).astype(np.int8),
    )
