"""CommonRoad scenarios in XML: 2018b (`obstacle`) and 2020a (`dynamicObstacle`, `staticObstacle`), plain or compressed.

The recording's own ego, where it is known, is in a solution file beside the scenario. Data sets need care of their own:
`commonroad_sets` has what is known of NGSIM and SinD.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from jaxtyping import Float
from numpy import ndarray

from wmplan.readers.assembly import RawLight, RawTracks, make_lights, make_map, make_tracks, recentre
from wmplan.readers.checks import fail
from wmplan.readers.commonroad_road import lanelets, traffic_lights
from wmplan.readers.commonroad_sets import about
from wmplan.readers.files import bare_name, first_bytes, list_files, read_bytes
from wmplan.scene import Kind, Log

KINDS = {
    "car": Kind.VEHICLE, "truck": Kind.VEHICLE, "bus": Kind.VEHICLE, "taxi": Kind.VEHICLE, "train": Kind.VEHICLE,
    "priorityVehicle": Kind.VEHICLE, "parkedVehicle": Kind.VEHICLE, "vehicle": Kind.VEHICLE,
    "motorcycle": Kind.CYCLIST, "bicycle": Kind.CYCLIST, "pedestrian": Kind.PEDESTRIAN,
}  # fmt: skip
"""Kind by CommonRoad's type; every other type is something solid that is no road user. Motorcycles count as cyclists:
on their occupancy and their vulnerability, not on their engine."""
MOST_STEPS = 100_000
"""More time steps than this are damage."""


class CommonRoadReader:
    """Reads one scenario a file. The ego is the trajectory of `<name>.solution.xml`, where there is one.

    The planning problem's car is not in the scenario, so that without a solution no ego is marked: use `ego=any`.
    """

    name = "commonroad"

    def paths(self, source: Path) -> list[Path]:
        """XML files whose root is `commonRoad`; files that cannot be judged count, so that they fail by name."""
        return list_files(source, _is_scenario)

    def read(self, path: Path) -> Iterator[Log]:
        """The one scenario of the file.

        Raises:
            InputError: if the XML is damaged or declares entities, or a field is missing, mistyped or absurd.
        """
        where = path.name
        root = _parse(path)
        if root.tag != "commonRoad":
            fail(f"{where}: the root element", f"is <{root.tag}>", "<commonRoad>")
        scenario = root.get("benchmarkID") or bare_name(path).removesuffix(".xml").removesuffix(".cr")
        where = f"{where}: {scenario}"
        header_dt_s = _number(root.get("timeStepSize"), f"{where}: timeStepSize")
        if not 0.001 <= header_dt_s <= 10.0:
            fail(f"{where}: timeStepSize", f"is {header_dt_s:g}", "0.001 to 10 s")
        movers = [_Mover.of(item, where) for item in root if item.tag in OBSTACLES]
        ego = _solution(path, where)
        if ego is not None:
            movers = [ego, *(mover for mover in movers if mover.id != ego.id)]
        if not movers:
            fail(f"{where}: obstacles", "are none", "at least one")
        steps = 1 + max(int(mover.times.max()) for mover in movers)
        if steps > MOST_STEPS:
            fail(f"{where}: time", f"reaches step {steps - 1}", f"at most {MOST_STEPS}")
        raw = _raw(movers, steps)
        known = about(root, scenario, header_dt_s, raw)
        features, links, rules = lanelets(root, where)
        lights: list[RawLight] = traffic_lights(root, rules, steps, where)
        log = Log(
            log_id=f"{self.name}-{scenario}",
            group=known.group,
            dataset=known.dataset,
            file=path.name,
            dt_s=known.dt_s,
            tracks=make_tracks(where, raw, known.dt_s),
            road_map=make_map(where, features, links),
            lights=make_lights(where, lights, steps),
            recorded_ego=ego.id if ego is not None else None,
            recorded=known.recorded,
            labels_reliable=known.labels_reliable,
        )
        yield recentre(log, where)


OBSTACLES = ("obstacle", "dynamicObstacle", "staticObstacle")


class _Mover:
    """An obstacle or the ego: its states at the steps it is seen; a static one is seen always."""

    def __init__(self, id: str, kind: Kind, size: Float[ndarray, "2"], static: bool = False) -> None:
        self.id, self.kind, self.size, self.static = id, kind, size, static
        self.times: ndarray = np.zeros(0, dtype=np.int64)
        self.states: ndarray = np.zeros((0, 4))  # x, y, yaw, speed along yaw; NaN where the file gives no speed

    @staticmethod
    def of(item: Element, where: str) -> _Mover:
        name = item.get("id") or ""
        where = f"{where}: {item.tag} {name}"
        if not name:
            fail(f"{where}.id", "is missing", "a number")
        static = item.tag == "staticObstacle" or item.findtext("role") == "static"
        kind = KINDS.get(item.findtext("type") or "", Kind.OTHER)
        size, centre, turn = _shape(item.find("shape"), where)
        mover = _Mover(name, kind, size, static)
        first = item.find("initialState")
        if first is None:
            fail(f"{where}.initialState", "is missing", "a state")
        states = [first, *item.iterfind("trajectory/state")]
        rows = np.array([_state(state, f"{where}: state {i}") for i, state in enumerate(states)])
        mover.times = _steps(rows[:, 0], where)
        mover.states = rows[:, 1:]
        if centre.any() or turn:  # a shape may lie off the state's position
            c, s = np.cos(mover.states[:, 2]), np.sin(mover.states[:, 2])
            mover.states[:, 0] += c * centre[0] - s * centre[1]
            mover.states[:, 1] += s * centre[0] + c * centre[1]
            mover.states[:, 2] += turn
        return mover


def _raw(movers: list[_Mover], steps: int) -> RawTracks:
    """All of them as arrays over the scenario's steps."""
    states = np.zeros((len(movers), steps, 4))
    valid = np.zeros((len(movers), steps), dtype=bool)
    for row, mover in enumerate(movers):
        at = slice(None) if mover.static else mover.times
        states[row, at] = mover.states[:1] if mover.static else mover.states
        valid[row, at] = True
    yaw, speed = states[..., 2], states[..., 3]
    return RawTracks(
        ids=tuple(mover.id for mover in movers),
        names=tuple(f"obstacle {mover.id}" for mover in movers),
        kinds=np.array([mover.kind for mover in movers], dtype=np.int8),
        sizes=np.array([mover.size for mover in movers]),
        xy=states[..., :2],
        yaw=yaw,
        velocity=np.stack([speed * np.cos(yaw), speed * np.sin(yaw)], axis=-1),
        valid=valid,
        trusted=not np.isnan(speed).any(),
    )


def _solution(path: Path, where: str) -> _Mover | None:
    """The ego of the solution file beside the scenario, None where there is none. Its size is not told: 0."""
    stem = bare_name(path).removesuffix(".xml").removesuffix(".cr")
    found = [path.with_name(f"{stem}.solution.xml{suffix}") for suffix in ("", ".xz", ".gz")]
    file = next((candidate for candidate in found if candidate.is_file()), None)
    if file is None:
        return None
    root = _parse(file)
    trajectory = root.find("ksTrajectory")
    where = f"{where}: {file.name}"
    if trajectory is None or trajectory.get("planningProblem") is None:
        fail(f"{where}: ksTrajectory", "is missing", "one with a planningProblem")
    ego = _Mover(str(trajectory.get("planningProblem")), Kind.VEHICLE, np.zeros(2))
    names = ("time", "x", "y", "orientation", "velocity")
    rows = [
        [_number(state.findtext(name), f"{where}: ksState {i}.{name}") for name in names]
        for i, state in enumerate(trajectory.iterfind("ksState"))
    ]
    if not rows:
        fail(f"{where}: ksTrajectory", "has no ksState", "at least one")
    ego.times = _steps(np.array(rows)[:, 0], f"{where}: ksState")
    ego.states = np.array(rows)[:, 1:]
    return ego


def _state(state: Element, where: str) -> list[float]:
    """Time, x, y, yaw, speed of a state; all exact. Speed is NaN where it is not given."""
    point = state.find("position/point")
    if point is None:
        fail(f"{where}.position", "is no point", "position/point (uncertain positions are not logs)")
    exact = {name: state.findtext(f"{name}/exact") for name in ("time", "orientation", "velocity")}
    return [
        _number(exact["time"], f"{where}.time.exact"),
        _number(point.findtext("x"), f"{where}.position.x"),
        _number(point.findtext("y"), f"{where}.position.y"),
        _number(exact["orientation"], f"{where}.orientation.exact"),
        np.nan if state.find("velocity") is None else _number(exact["velocity"], f"{where}.velocity.exact"),
    ]


def _shape(shape: Element | None, where: str) -> tuple[Float[ndarray, "2"], Float[ndarray, "2"], float]:
    """Length and width, the centre in the obstacle's frame, and the turn. Circles and polygons get their box."""
    where = f"{where}.shape"
    if shape is None or len(shape) != 1:
        fail(where, "is missing" if shape is None else f"has {len(shape)} parts", "one rectangle, circle or polygon")
    form = shape[0]
    centre = np.array([float(form.findtext(f"center/{axis}") or 0.0) for axis in ("x", "y")])
    if form.tag == "rectangle":
        size = [_number(form.findtext(name), f"{where}.rectangle.{name}") for name in ("length", "width")]
        return np.array(size), centre, float(form.findtext("orientation") or 0.0)
    if form.tag == "circle":
        return np.full(2, 2.0 * _number(form.findtext("radius"), f"{where}.circle.radius")), centre, 0.0
    if form.tag == "polygon" and form.find("point") is not None:
        corners = points_of(form, where)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return high - low, (low + high) / 2.0, 0.0
    fail(where, f"is <{form.tag}>", "a rectangle, circle or polygon")


def points_of(item: Element, where: str) -> Float[ndarray, "N 2"]:
    """The `point` children as coordinates."""
    rows = [
        [_number(point.findtext(axis), f"{where}: point {i}.{axis}") for axis in ("x", "y")]
        for i, point in enumerate(item.iterfind("point"))
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _steps(times: Float[ndarray, "N"], where: str) -> ndarray:
    """Whole, increasing time steps from 0 up."""
    whole = np.round(times).astype(np.int64)
    if (whole != times).any() or whole[0] < 0 or (np.diff(whole) <= 0).any():
        fail(f"{where}.time", f"is {times[:3].tolist()}...", "whole steps from 0 up, each later than the one before")
    return whole


def _number(text: str | None, where: str) -> float:
    """The finite number that is written there."""
    if text is None:
        fail(where, "is missing", "a number")
    try:
        value = float(text)
    except ValueError:
        fail(where, f"is {text[:40]!r}", "a number")
    if not np.isfinite(value):
        fail(where, f"is {value}", "a finite number")
    return value


def _parse(path: Path) -> Element:
    try:
        root: Element = fromstring(read_bytes(path))
    except ParseError as error:
        _damaged(path, str(error))
    except DefusedXmlException as error:
        _damaged(path, f"it declares entities: {type(error).__name__}")
    except (ValueError, LookupError) as error:  # an encoding that does not exist
        _damaged(path, str(error))
    return root


def _damaged(path: Path, why: str) -> NoReturn:
    fail(f"{path.name}:", f"cannot be parsed ({why})", "a CommonRoad XML file")


def _is_scenario(path: Path) -> bool:
    if not bare_name(path).endswith(".xml"):
        return False
    head = first_bytes(path, 4096)
    if head is None or not head:
        return ".solution." not in path.name
    return re.search(rb"<commonRoad[\s>]", head) is not None
