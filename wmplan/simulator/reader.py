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
from jaxtyping import Array, Bool, Float, Int
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.scene import STEP_S, Kind, Lights, Log, Tracks
from wmplan.simulator import behaviour, maps
from wmplan.simulator.network import Network, pack, stack
from wmplan.simulator.populate import WARM_UP_STEPS, place
from wmplan.simulator.signals import light_states
from wmplan.simulator.traffic import VEHICLES, State, advance, look, reactions

LOG_STEPS = 121
"""States of a log: 12 s."""
CHUNK = 16
"""Worlds simulated together. Log i is always made in the chunk i // CHUNK, whatever is asked for, so that it has the
same bytes however many others are made."""
PREFIX = "simulator:"


@dataclass(frozen=True)
class Source:
    """What to simulate."""

    n: int = 200
    """number of logs"""
    seed: int = 0
    """log i of a seed is always the same"""
    map: str = "mixed"
    """straight, crossing, or mixed: half and half, by chance"""

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
    """What one simulated world did: T steps."""

    boxes: Float[Array, "T A 4"]
    active: Bool[Array, "T A"]
    lights: Int[Array, "T G"]
    size: Float[Array, "A 2"]


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
    indices = range(chunk * CHUNK, (chunk + 1) * CHUNK)
    seeds = [fold_in(seed, "simulator", kind, i) for i in indices]
    names = list(maps.MAPS)
    roads = [maps.MAPS[names[(s >> 8) % len(names)] if kind == "mixed" else kind](s) for s in seeds]
    keys = jnp.asarray([[s >> 32, s & 0xFFFFFFFF] for s in seeds], dtype=jnp.uint32)
    recording = jax.device_get(_record_all(keys, stack([pack(road) for road in roads]), LOG_STEPS))
    return [
        to_log(road, jax.tree.map(lambda x, row=row: x[row], recording), f"sim-{kind}-{seed}-{index}")
        for row, (road, index) in enumerate(zip(roads, indices))
    ]


def record(key: Array, network: Network, steps: int) -> Recording:
    """One world with the behaviour policy at the wheel, `steps` states long."""
    start, mind = jax.random.split(key)

    def one(state: State, now: behaviour.Schedule) -> tuple[State, tuple[Array, Array, Array]]:
        view = look(state)
        wanted = reactions(state, view)
        seen = (state.box, state.active, light_states(state.network, state.time))
        return advance(state, wanted, behaviour.act(state, view, wanted, now)), seen

    # The warm-up of `populate.reset` and the log in one loop: compiling the world twice takes twice as long.
    first = place(start, network)
    parts = behaviour.plain(WARM_UP_STEPS), behaviour.schedule(mind, steps)
    _, seen = jax.lax.scan(one, first, jax.tree.map(lambda *x: jnp.concatenate(x), *parts))
    boxes, active, lights = jax.tree.map(lambda x: x[WARM_UP_STEPS:], seen)
    return Recording(boxes, active, lights, first.size)


@partial(jax.jit, static_argnames="steps")
def _record_all(keys: Array, networks: Network, steps: int) -> Recording:
    return jax.vmap(lambda key, network: record(jax.random.wrap_key_data(key), network, steps))(keys, networks)


def to_log(road: maps.SimMap, recording: Recording, log_id: str) -> Log:
    """The recording as a log; rows that were never active are left out, the ego is track `ego`."""
    valid = np.asarray(recording.active).T
    rows = np.flatnonzero(valid.any(axis=1))
    boxes = np.asarray(recording.boxes, dtype=np.float64).transpose(1, 0, 2)[rows]
    yaw, speed = boxes[..., 2], boxes[..., 3]
    states = np.stack([boxes[..., 0], boxes[..., 1], yaw, speed * np.cos(yaw), speed * np.sin(yaw)], axis=-1)
    kinds = np.where(rows < VEHICLES, Kind.VEHICLE, Kind.PEDESTRIAN).astype(np.int8)
    tracks = Tracks(
        ids=tuple("ego" if row == 0 else str(row) for row in rows),
        kinds=kinds,
        sizes=np.asarray(recording.size, dtype=np.float32)[rows],
        states=np.where(valid[rows][..., None], states, 0.0),
        valid=valid[rows],
    )
    return Log(
        log_id=log_id,
        group=log_id,
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
