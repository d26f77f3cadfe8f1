"""The simulator as a source of logs: `simulator:n=200,seed=0,map=mixed,behaviour=explore`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.scene import STEP_S, Driven, Lights, Log, Tracks
from wmplan.simulator import maps
from wmplan.simulator.network import Network
from wmplan.simulator.propensities import driven
from wmplan.simulator.recording import EXPLORE, LOG_STEPS, LOGS_PER_MAP, Recorded
from wmplan.simulator.source import PREFIX, Source
from wmplan.simulator.state import State


class SimulatorReader:
    """A `LogReader` that needs no file: every pseudo path is one simulated log."""

    name = "simulator"

    def paths(self, source: Path) -> list[Path]:
        """One pseudo path a log; none if `source` does not begin with `simulator:`."""
        text = str(source)
        if text != self.name and not text.startswith(PREFIX):
            return []
        wanted = Source.parse(text)
        how = "" if wanted.behaviour == EXPLORE else f",behaviour={wanted.behaviour}"
        return [Path(f"{PREFIX}seed={wanted.seed},map={wanted.map}{how},log={i}") for i in range(wanted.n)]

    def read(self, path: Path) -> Iterator[Log]:
        """The log of one of `paths`; the chunk that it was made in is kept, so reading in order is fast.

        Raises:
            InputError: not a path that `paths` gives.
        """
        head, _, number = str(path).rpartition(",log=")
        if not head.startswith(PREFIX) or not number.isdecimal():
            raise InputError(f"{path}: expected {PREFIX}seed=S,map=M,log=I")
        yield log(Source.parse(head), int(number))


def log(source: Source, index: int) -> Log:
    """The log of this number."""
    chunk, row = source.world(index)
    return to_log(
        chunk.roads[row // LOGS_PER_MAP],
        chunk.world(row),
        driven(chunk, row),
        source.log_id(index),
        f"sim-{source.map}-{source.seed}-map{index // LOGS_PER_MAP}",
    )


def resume(log_id: str, step: int) -> tuple[maps.SimMap, Network, State]:
    """The map of a log, and the world as it was at one of the log's steps: whoever goes on from there with the logged
    ego's actions drives the rest of the log.

    Raises:
        InputError: not the id of a simulated log, or a step that it has not.
    """
    source, index = Source.of_log(log_id)
    if not 0 <= step < LOG_STEPS:
        raise InputError(f"log {log_id}: step {step}, expected 0 to {LOG_STEPS - 1}")
    chunk, row = source.world(index)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[step]), chunk.world(row).states)
    return chunk.roads[row // LOGS_PER_MAP], chunk.networks[row // LOGS_PER_MAP], state


def to_log(road: maps.SimMap, recorded: Recorded, how: Driven | None, log_id: str, group: str) -> Log:
    """One recorded world as a log; rows that were never active are left out, the ego is track `ego`."""
    seen = recorded.states
    valid = np.asarray(seen.active).T
    rows = np.flatnonzero(valid.any(axis=1))
    x, y, cos, sin, speed = (
        np.asarray(field, np.float64).T[rows] for field in (seen.x, seen.y, seen.cos, seen.sin, seen.speed)
    )
    states = np.stack([x, y, np.arctan2(sin, cos), speed * cos, speed * sin], axis=-1)
    tracks = Tracks(
        ids=tuple("ego" if row == 0 else str(row) for row in rows),
        kinds=np.asarray(seen.kind)[0, rows].astype(np.int8),
        sizes=np.stack([seen.length[0], seen.width[0]], axis=-1).astype(np.float32)[rows],
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
        lights=_lights(road, np.asarray(recorded.lights)),
        recorded_ego="ego",
        recorded=False,
        driven=how,
    )


def _lights(road: maps.SimMap, states: Int[ndarray, "T G"]) -> Lights:
    if not road.stop_points:
        return Lights.none(len(states))
    return Lights(
        points=np.concatenate([stop.point for stop in road.stop_points]),
        lanes=tuple(stop.lane for stop in road.stop_points),
        states=np.stack([states[:, stop.group] for stop in road.stop_points]).astype(np.int8),
    )
