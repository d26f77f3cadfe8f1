"""From the raw columns of a file to the parts of a `Log`: what every reader has to do in the same way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int8
from numpy import ndarray

from wmplan.frames import wrap_angle
from wmplan.readers.checks import ABSURD_M, ABSURD_MPS, ABSURD_SIZE_M, check_numbers, fail
from wmplan.scene import Feature, Kind, Light, Lights, Log, RoadMap, Tracks

SPAN_M = 2.0e4
"""No recording reaches further from its first ego position than this, metres: filler marked as valid would."""
ASSUMED_SIZES = {
    Kind.VEHICLE: (4.6, 2.0),
    Kind.PEDESTRIAN: (0.7, 0.7),
    Kind.CYCLIST: (1.8, 0.7),
    Kind.OTHER: (0.6, 0.6),
}
"""Length and width where a file has none, metres."""
POLYGONS = (Feature.LANE_AREA, Feature.DRIVABLE, Feature.CROSSWALK, Feature.SPEED_BUMP)
"""Features that are closed polygons; their last point is never a copy of the first."""
UNEVEN = 0.5
"""Largest deviation of one time step from the median, as a part of it."""


@dataclass(frozen=True)
class RawTracks:
    """Road users as a file has them: its own frame, anything where `valid` is False, sizes 0 where unknown.

    `names` says how the file calls each row ("objects[3]"), for error lines. Where `trusted` is False the velocity is
    not read but differentiated.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    kinds: Int8[ndarray, "A"]
    sizes: Float[ndarray, "A 2"]
    xy: Float[ndarray, "A T 2"]
    yaw: Float[ndarray, "A T"]
    velocity: Float[ndarray, "A T 2"]
    valid: Bool[ndarray, "A T"]
    trusted: bool = True


@dataclass(frozen=True)
class RawLight:
    """A light of a lane over time; `point` is where traffic stops, None where the file does not say."""

    lane: str
    point: Float[ndarray, "2"] | None
    states: Int8[ndarray, "T"]


def make_tracks(where: str, raw: RawTracks, dt_s: float) -> Tracks:
    """Checked tracks, still in the file's frame: angles wrapped, zeros where invalid, those never valid left out.

    A box of length or width 0 has no known size (Waymo's converters write 0 so): it gets `ASSUMED_SIZES` of its kind.

    Raises:
        InputError: if a valid number is not finite or absurd, two tracks share an id, or no track is ever valid.
    """
    if len(set(raw.ids)) != len(raw.ids):
        twice = next(name for name in raw.ids if raw.ids.count(name) > 1)
        fail(f"{where}: tracks", f"hold the id {twice!r} twice", "one track an id")
    seen = np.flatnonzero(raw.valid.any(axis=1))
    if not len(seen):
        fail(f"{where}: tracks", f"hold {len(raw.ids)} of which none is ever valid", "at least one")
    for i in seen:
        at = raw.valid[i]
        check_numbers(np.where(at[:, None], raw.xy[i], 0.0), f"{where}: {raw.names[i]}.position", ABSURD_M, "m")
        check_numbers(np.where(at, raw.yaw[i], 0.0), f"{where}: {raw.names[i]}.heading", 1e5, "rad")
        if raw.trusted:
            name = f"{where}: {raw.names[i]}.velocity"
            check_numbers(np.where(at[:, None], raw.velocity[i], 0.0), name, ABSURD_MPS, "m/s")
        check_numbers(raw.sizes[i], f"{where}: {raw.names[i]}.size", ABSURD_SIZE_M, "m")
        if (raw.sizes[i] < 0).any():
            fail(f"{where}: {raw.names[i]}.size", f"is {raw.sizes[i].tolist()}", "no negative length or width")
    valid = raw.valid[seen]
    xy = np.where(valid[..., None], raw.xy[seen], 0.0)
    velocity = np.where(valid[..., None], raw.velocity[seen], 0.0) if raw.trusted else differentiate(xy, valid, dt_s)
    yaw = np.where(valid, wrap_angle(np.where(valid, raw.yaw[seen], 0.0)), 0.0)
    assumed = np.array([ASSUMED_SIZES[Kind(kind)] for kind in raw.kinds[seen]])
    sizes = np.where((raw.sizes[seen] > 0).all(axis=1, keepdims=True), raw.sizes[seen], assumed)
    states = np.concatenate([xy, yaw[..., None], velocity], axis=-1)
    return Tracks(tuple(raw.ids[i] for i in seen), raw.kinds[seen], sizes.astype(np.float32), states, valid)


def differentiate(xy: Float[ndarray, "A T 2"], valid: Bool[ndarray, "A T"], dt_s: float) -> Float[ndarray, "A T 2"]:
    """Velocities from positions, m/s: central differences, one-sided at the ends of a gap, 0 for a lone step."""
    step = np.diff(xy, axis=1) / dt_s
    both = valid[:, 1:] & valid[:, :-1]
    total = np.zeros(xy.shape)
    count = np.zeros(valid.shape)
    for side in (slice(1, None), slice(None, -1)):
        total[:, side] += np.where(both[..., None], step, 0.0)
        count[:, side] += both
    return total / np.maximum(count, 1.0)[..., None]


def make_map(
    where: str, features: list[tuple[Feature, str, Float[ndarray, "_N 2"]]], links: list[tuple[str, str]]
) -> RoadMap:
    """Checked map, still in the file's frame. `links` are (lane, lane that follows), in any order, repeats allowed.

    Points that repeat the one before are merged. What then is no line (one point) or no area (two) has no geometry:
    it is left out, and lanes that met in it are linked directly.

    Raises:
        InputError: if a coordinate is not finite or absurd, or the map is empty.
    """
    kept, dropped = [], set()
    for kind, name, points in features:
        check_numbers(points, f"{where}: map feature {name} ({kind.name.lower()})", ABSURD_M, "m")
        points = _distinct(points, closed=kind in POLYGONS)
        if len(points) >= (1 if kind == Feature.STOP_SIGN else 3 if kind in POLYGONS else 2):
            kept.append((kind, name, points))
        elif kind == Feature.LANE:
            dropped.add(name)
    if not kept:
        fail(
            f"{where}: map", f"has {len(features)} features and none with any extent", "at least one lane or road edge"
        )
    for name in sorted(dropped):
        into = [a for a, b in links if b == name and a != name]
        out = [b for a, b in links if a == name and b != name]
        links = [pair for pair in links if name not in pair] + [(a, b) for a in into for b in out]
    return RoadMap.build(kept, list(dict.fromkeys(links)))


def make_lights(where: str, lights: list[RawLight], steps: int) -> Lights:
    """Checked lights, still in the file's frame; those without a place are left out.

    Raises:
        InputError: if a coordinate is not finite or absurd.
    """
    placed = [(light, light.point) for light in lights if light.point is not None]
    if not placed:
        return Lights.none(steps)
    points = np.stack([point for _, point in placed])
    for (light, _), point in zip(placed, points):
        check_numbers(point, f"{where}: traffic light of lane {light.lane}", ABSURD_M, "m")
    return Lights(points, tuple(light.lane for light, _ in placed), np.stack([light.states for light, _ in placed]))


def recentre(log: Log, where: str) -> Log:
    """The log in metres from near its first ego position (first track without an ego): whole metres off, in float64.

    Raises:
        InputError: if a track or the map lies absurdly far from there.
    """
    row = log.tracks.ids.index(log.recorded_ego) if log.recorded_ego in log.tracks.ids else 0
    states, valid = log.tracks.states.copy(), log.tracks.valid
    origin = np.round(states[row, np.argmax(valid[row]), :2])
    states[..., :2] = np.where(valid[..., None], states[..., :2] - origin, 0.0)
    for i, name in enumerate(log.tracks.ids):
        check_numbers(states[i, :, :2], f"{where}: distance of track {name} from the ego", SPAN_M, "m")
    points = log.road_map.points - origin
    check_numbers(points, f"{where}: distance of map points from the ego", SPAN_M, "m")
    lights = log.lights.points - origin
    check_numbers(lights, f"{where}: distance of traffic lights from the ego", SPAN_M, "m")
    return replace(
        log,
        tracks=replace(log.tracks, states=states),
        road_map=replace(log.road_map, points=points),
        lights=replace(log.lights, points=lights),
    )


def time_step(times: Float[ndarray, "T"], where: str) -> float:
    """The step of these times in seconds, to a tenth of a millisecond.

    Raises:
        InputError: if there are fewer than two, they do not increase, or one step is far from the others.
    """
    if len(times) < 2:
        fail(where, f"has {len(times)} values", "at least 2")
    check_numbers(times, where, 1e12, "s")
    steps = np.diff(times)
    typical = float(np.median(steps))
    backward, uneven = np.flatnonzero(steps <= 0), np.flatnonzero(np.abs(steps - typical) > UNEVEN * typical)
    for wrong, expected in ((backward, "growing times"), (uneven, f"even steps, about {typical:g} s")):
        if len(wrong):
            fail(f"{where}[{wrong[0] + 1}]", f"comes {steps[wrong[0]]:g} s after the one before", expected)
    return round(typical, 4)


WAYMO_LIGHTS: Int8[ndarray, "9"] = np.array(
    [Light.UNKNOWN] + 2 * [Light.RED, Light.YELLOW, Light.GREEN] + 2 * [Light.UNKNOWN], dtype=np.int8
)
"""Light by Waymo's number: 0 unknown, 1-3 arrow stop, caution, go, 4-6 the same round, 7-8 flashing stop, caution.

Flashing lights count as UNKNOWN: flashing red is a stop sign, not a light that will turn green."""
WAYMO_LIGHT_NAMES = (
    "unknown", "arrow_stop", "arrow_caution", "arrow_go", "stop", "caution", "go", "flashing_stop", "flashing_caution",
)  # fmt: skip
"""Waymo's numbers in words."""


def _distinct(points: Float[ndarray, "N 2"], closed: bool) -> Float[ndarray, "M 2"]:
    """The points without those that repeat the one before (in a polygon, the last before the first)."""
    keep = np.ones(len(points), dtype=bool)
    keep[1:] = np.any(points[1:] != points[:-1], axis=1)
    points = points[keep]
    return points[:-1] if closed and len(points) > 1 and (points[0] == points[-1]).all() else points
