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
    first = chunk * CHUNK // LOGS_PER_MAP
    roads = [_road(seed, kind, first + i) for i in range(CHUNK // LOGS_PER_MAP)]
    keys = _keys(seed, kind, list(range(chunk * CHUNK, (chunk + 1) * CHUNK)))
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


def resume(log_id: str, step: int) -> tuple[maps.SimMap, Network, State]:
    """The map of a log, and the world as it was at one of the log's steps: whoever goes on from there with the logged
    ego's actions drives the rest of the log.

    Raises:
        InputError: not the id of a simulated log, or a step that it has not.
    """
    parts = log_id.rsplit("-", 2)
    if not log_id.startswith("sim-") or len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        raise InputError(f"log {log_id}: expected the id of a simulated log, sim-MAP-SEED-NUMBER")
    if not 0 <= step < LOG_STEPS:
        raise InputError(f"log {log_id}: step {step}, expected 0 to {LOG_STEPS - 1}")
    kind, seed, index = parts[0].removeprefix("sim-"), int(parts[1]), int(parts[2])
    road = _road(seed, kind, index // LOGS_PER_MAP)
    network = pack(road)
    state = _resume(network, jnp.zeros(1, dtype=jnp.int32), _keys(seed, kind, [index]), jnp.int32(step))
    return road, network, jax.tree.map(lambda leaf: leaf[0], state)


def _road(seed: int, kind: str, number: int) -> maps.SimMap:
    """The map that a group of logs shares."""
    drawn, names = fold_in(seed, "simulator map", kind, number), list(maps.MAPS)
    return maps.MAPS[names[(drawn >> 8) % len(names)] if kind == "mixed" else kind](drawn)


def _keys(seed: int, kind: str, indices: list[int]) -> Array:
    drawn = [fold_in(seed, "simulator", kind, index) for index in indices]
    return jnp.asarray([[s >> 32, s & 0xFFFFFFFF] for s in drawn], dtype=jnp.uint32)


def record(network: Network, roads: Int[Array, "B"], keys: Array, steps: int) -> Recording:
    """B worlds with the behaviour policy at the wheel, `steps` states long."""
    first, minds = _begin(network, roads, keys, steps)
    calm = jnp.zeros(roads.shape, dtype=bool)

    def one(worlds: State, now: behaviour.Schedule) -> tuple[State, tuple[Moment, Array]]:
        shown = jax.vmap(lights, in_axes=(None, 0))(network, worlds)
        return _drive(network, worlds, now), (moment(worlds, worlds, calm), shown)

    _, (moments, states) = jax.lax.scan(one, first, minds)
    moments, states = jax.tree.map(lambda x: x[WARM_UP_STEPS:], (moments, states))
    return Recording(moments, states, first.length, first.width, first.kind)


def _begin(network: Network, roads: Array, keys: Array, steps: int) -> tuple[State, behaviour.Schedule]:
    """The worlds as drawn, and what the egos have in mind at each step: the warm-up of `populate.reset`, then the log,
    in one loop, for compiling the world twice takes twice as long."""
    start, mind = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    plain = jax.vmap(lambda _: behaviour.plain(WARM_UP_STEPS))(start)
    parts = plain, jax.vmap(lambda key: behaviour.schedule(key, steps))(mind)
    minds = jax.tree.map(lambda *x: jnp.moveaxis(jnp.concatenate(x, axis=1), 1, 0), *parts)
    return place(network, roads, start), minds


def _drive(network: Network, worlds: State, now: behaviour.Schedule) -> State:
    seen = observe(network, worlds)
    return go_on(network, worlds, seen, behaviour.act_each(network, worlds, seen, now))


@partial(jax.jit, static_argnames="steps")
def _record(network: Network, roads: Array, keys: Array, steps: int) -> Recording:
    return record(network, roads, jax.vmap(jax.random.wrap_key_data)(keys), steps)


@jax.jit
def _resume(network: Network, roads: Array, keys: Array, step: Array) -> State:
    first, minds = _begin(network, roads, jax.vmap(jax.random.wrap_key_data)(keys), LOG_STEPS)

    def one(i: Array, worlds: State) -> State:
        return _drive(network, worlds, jax.tree.map(lambda leaf: leaf[i], minds))

    return jax.lax.fori_loop(0, WARM_UP_STEPS + step, one, first)


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
