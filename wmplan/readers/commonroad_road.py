"""Lanelets and traffic lights of a CommonRoad scenario."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.readers.assembly import RawLight
from wmplan.readers.checks import fail
from wmplan.scene import Feature, Light

COLOURS = {
    "red": Light.RED, "redYellow": Light.RED, "yellow": Light.YELLOW, "green": Light.GREEN, "inactive": Light.UNKNOWN,
}  # fmt: skip
NOT_FOR_CARS = {"sidewalk", "bicycleLane", "busStop"}
"""Types of lanelets that no car follows."""
CARS = {"car", "vehicle", "truck", "bus", "taxi", "priorityVehicle"}
"""Users for whom a lanelet is a lane."""


@dataclass(frozen=True)
class Rule:
    """A light that rules a lane, and where its traffic stops."""

    light: str
    lane: str
    point: Float[ndarray, "2"]


def lanelets(
    root: Element, where: str
) -> tuple[list[tuple[Feature, str, Float[ndarray, "_N 2"]]], list[tuple[str, str]], list[Rule]]:
    """Map features, which lane follows which, and the lights' rules.

    A lanelet is a lane (its centreline is the mean of its bounds at equal shares of their lengths) and the area between
    the bounds. Crosswalks are areas; ways for pedestrians and bicycles alone are left out.
    """
    from wmplan.readers.commonroad import points_of

    features: list[tuple[Feature, str, Float[ndarray, "_N 2"]]] = []
    links: list[tuple[str, str]] = []
    rules: list[Rule] = []
    for item in root.iterfind("lanelet"):
        name = item.get("id") or ""
        at = f"{where}: lanelet {name}"
        bounds = []
        for side in ("leftBound", "rightBound"):
            bound = item.find(side)
            points = points_of(bound, f"{at}.{side}") if bound is not None else np.zeros((0, 2))
            if len(points) < 2:
                fail(f"{at}.{side}", f"has {len(points)} points", "at least 2")
            bounds.append(points)
        left, right = bounds
        area = np.concatenate([left, right[::-1]])
        kinds = {kind.text for kind in item.iterfind("laneletType")}
        users = {user.text for tag in ("userOneWay", "userBidirectional") for user in item.iterfind(tag)}
        if "crosswalk" in kinds:
            features.append((Feature.CROSSWALK, f"{name}-area", area))
            continue
        if kinds & NOT_FOR_CARS or (users and not users & CARS):
            continue
        centre = middle(left, right)
        features.append((Feature.LANE, name, centre))
        features.append((Feature.LANE_AREA, f"{name}-area", area))
        links += [(name, str(link.get("ref"))) for link in item.iterfind("successor")]
        line = item.find("stopLine")
        ends = points_of(line, f"{at}.stopLine") if line is not None else np.zeros((0, 2))
        stop = ends.mean(axis=0) if len(ends) else centre[-1]
        lights = {str(ref.get("ref")) for ref in item.iterfind("trafficLightRef")}
        rules += [Rule(light, name, stop) for light in sorted(lights)]
    return features, links, rules


def middle(left: Float[ndarray, "N 2"], right: Float[ndarray, "M 2"]) -> Float[ndarray, "P 2"]:
    """The line between two bounds: the mean of both at equal shares of their lengths."""
    if len(left) == len(right):
        return (left + right) / 2.0  # the format wants them to correspond point by point
    shares = np.linspace(0.0, 1.0, max(len(left), len(right)))
    sides = []
    for bound in (left, right):
        reached = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(bound, axis=0).T))])
        sides.append(np.stack([np.interp(shares * reached[-1], reached, bound[:, axis]) for axis in (0, 1)], axis=1))
    return (sides[0] + sides[1]) / 2.0


def traffic_lights(root: Element, rules: list[Rule], steps: int, where: str) -> list[RawLight]:
    """The lights of all rules over the scenario's steps."""
    states: dict[str, ndarray] = {}
    for item in root.iterfind("trafficLight"):
        name = item.get("id") or ""
        states[name] = _states(item, steps, f"{where}: trafficLight {name}")
    return [RawLight(rule.lane, rule.point, states[rule.light]) for rule in rules if rule.light in states]


def _states(item: Element, steps: int, where: str) -> ndarray:
    """The state at every step: the cycle from its offset on, repeated; durations are in steps."""
    cycle = [(part.findtext("duration"), part.findtext("color")) for part in item.iterfind("cycle/cycleElement")]
    if (item.findtext("active") or "true").strip() == "false" or not cycle:
        return np.full(steps, Light.UNKNOWN, dtype=np.int8)
    colours: list[Light] = []
    for i, (duration, colour) in enumerate(cycle):
        if duration is None or not duration.strip().isdecimal() or int(duration) > 100_000:
            fail(f"{where}: cycleElement {i}.duration", f"is {duration!r}", "a whole number of steps")
        if colour not in COLOURS:
            fail(f"{where}: cycleElement {i}.color", f"is {colour!r}", "one of " + ", ".join(COLOURS))
        colours += int(duration) * [COLOURS[colour]]
    if not colours:
        fail(f"{where}: cycle", "lasts 0 steps", "at least one")
    offset = (item.findtext("cycle/timeOffset") or "0").strip()
    if not offset.lstrip("-").isdecimal():
        fail(f"{where}: cycle.timeOffset", f"is {offset!r}", "a whole number of steps")
    return np.array(colours, dtype=np.int8)[(np.arange(steps) - int(offset)) % len(colours)]
