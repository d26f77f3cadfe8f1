"""Scores of executed candidates: scenes that can be drawn by hand, the log scorer on the same traffic, and laws.

`driving_scenes/executed.json`: the ego starts at the origin, heading +x, 4.8 x 2.0 m, and holds one acceleration (and
curvature) for 3 s; others keep their velocity; the route is the x axis. Metres and m/s.
"""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmplan import bicycle
from wmplan.along import along_route
from wmplan.frames import Pose
from wmplan.plans import Plans
from wmplan.real_road import RealRoad
from wmplan.rules import worst_against
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, STEP_S, Feature, Future, Kind, Lights, RoadMap, Scene, Tracks
from wmplan.scores import expert_progress, real_outcome
from wmplan.simulator import encounters
from wmplan.simulator.executed import Executed
from wmplan.simulator.layout import Route, Signal, SimMap, strip
from wmplan.simulator.maps import MAPS
from wmplan.simulator.outcome import COLUMNS, Before, Course, outcomes_of, progress_of_set
from wmplan.simulator.road_geometry import RoadGeometry
from wmplan.start import start_of
from wmplan.traffic_contacts import ego_boxes

DRAWN = json.loads((Path(__file__).parent / "driving_scenes" / "executed.json").read_text())
KINDS = {"vehicle": Kind.VEHICLE, "pedestrian": Kind.PEDESTRIAN, "cyclist": Kind.CYCLIST, "other": Kind.OTHER}
K, T, OTHERS = 48, 80, 20


def execution(ego: np.ndarray, others: np.ndarray, sizes: np.ndarray, kinds: np.ndarray, s: np.ndarray) -> Executed:
    """Executed egos (K S 4) among others (A S 4: x, y, yaw, speed) that do the same whatever the ego does."""
    rows = np.concatenate([ego[:, None], np.broadcast_to(others, (len(ego), *others.shape))], axis=1)
    x, y, yaw, speed = rows.transpose(3, 2, 0, 1).astype(np.float32)
    nothing = np.zeros(s.T.shape, dtype=np.float32)
    return Executed(
        x, y, np.cos(yaw), np.sin(yaw), speed, np.ones(x.shape, dtype=bool), *sizes.T.astype(np.float32),
        kinds.astype(np.int32), nothing.astype(np.int32), s.T.astype(np.float32), nothing, nothing > 0.0,
    )  # fmt: skip


def build(drawn: dict) -> tuple[Executed, Course, Before]:
    ego, agents = {"accel": 0.0, "curvature": 0.0, **drawn["ego"]}, drawn.get("agents", [])
    steps = round(drawn.get("seconds", 3.0) / STEP_S)
    controls = np.broadcast_to(np.array([ego["accel"], ego["curvature"]]), (1, steps, 2))
    states = bicycle.forward(np.array([[0.0, 0.0, 0.0, ego["speed"]]]), controls, STEP_S)
    times = STEP_S * np.arange(steps + 1)
    others = np.zeros((len(agents), steps + 1, 4))
    for row, agent in zip(others, agents):
        yaw = np.deg2rad(agent["yaw_deg"])
        row[:] = np.array([agent["x"], agent["y"], yaw, agent["speed"]])
        row[:, :2] += agent["speed"] * times[:, None] * np.array([np.cos(yaw), np.sin(yaw)])
    sizes = np.array([[4.8, 2.0]] + [[a["length"], a["width"]] for a in agents])
    kinds = np.array([Kind.VEHICLE] + [KINDS[a["kind"]] for a in agents])
    executed = execution(states, others, sizes, kinds, states[:, :, 0])
    for row, agent in enumerate(agents, start=1):
        executed.active[:, :, row] = not agent.get("gone", False)
    off = drawn.get("off_centre", {"m": 0.0, "from_s": 0.0, "to_s": 0.0})
    executed.lateral[(times > off["from_s"] - 1e-6) & (times < off["to_s"] + 1e-6)] = off["m"]
    if "red_s" in drawn:
        executed.red[round(drawn["red_s"] / STEP_S)] = True
    drawn_route, shapes = {"speed": 99.0, "at": 500.0, **drawn.get("route", {})}, drawn.get("map", {})
    route = Route(
        np.array([[0.0, 0.0], [drawn_route["at"], 0.0], [1000.0, 0.0]]),
        np.array([drawn_route["speed"], drawn_route.get("then", drawn_route["speed"]), 99.0]),
        stop=float(drawn_route.get("stop", 0.0)),
        clear=float(drawn_route.get("clear", 0.0)),
    )
    features = [
        (kind, f"{kind.name}{i}", np.array(points, dtype=np.float64))
        for name, kind in (("drivable", Feature.DRIVABLE), ("lanes", Feature.LANE), ("edges", Feature.ROAD_EDGE))
        for i, points in enumerate(shapes.get(name, []))
    ]
    road = SimMap("drawn", RoadMap.build(features), (route,), (), Signal.none(), (), 3.7)
    wanted = drawn.get("expert_m", 20.0)
    before = Before(float(ego["accel"]), ego["curvature"], np.nan if wanted is None else float(wanted))
    return executed, Course.of(road), before


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda scene: scene["name"])
def test_drawn_scene(drawn):
    out = outcomes_of(*build(drawn))
    found = {name: float(out.column(name)[0]) for name in drawn["expect"]}
    assert found == pytest.approx(drawn["expect"], abs=1e-3)


class Street:
    """K random candidates on a simulated road among recorded traffic, for both scorers."""

    def __init__(self, name: str, seed: int):
        draw = np.random.default_rng(seed)
        road = MAPS[name](seed)
        here, yaw = placed(road.routes[0].points, np.array([150.0]))
        self.pose = Pose(*here[0], float(yaw[0]))
        self.road_map = road.road_map.seen_from(self.pose)
        controls = draw.normal(size=(K, T // 20, 2)).repeat(20, axis=1) * [1.2, 0.004]
        self.plans = Plans.from_controls(controls, 10.0)
        cars = [route for route in road.routes if route.kind == Kind.VEHICLE]
        times = STEP_S * np.arange(-HISTORY_STEPS, FUTURE_STEPS + 1)
        others = np.zeros((OTHERS, len(times), 5))
        for row in others:
            points = cars[draw.integers(len(cars))].points
            speed = draw.uniform(0.0, 12.0)
            xy, yaw = placed(points, np.clip(draw.uniform(60.0, 260.0) + speed * times, 0.0, None))
            row[:, :2], row[:, 2] = self.pose.to_local(xy), yaw - self.pose.yaw
            row[:, 3], row[:, 4] = speed * np.cos(row[:, 2]), speed * np.sin(row[:, 2])
        # No one is on top of the ego at t0, nor was he there.
        others = others[np.hypot(*others[:, HISTORY_STEPS, :2].T) > 8.0]
        self.sizes = np.stack([draw.uniform(0.6, 5.5, len(others)), draw.uniform(0.5, 2.2, len(others))], axis=1)
        self.kinds = draw.choice([Kind.VEHICLE, Kind.CYCLIST, Kind.PEDESTRIAN, Kind.OTHER], len(others))
        tracks = Tracks(
            tuple(map(str, range(len(others)))), self.kinds.astype(np.int8), self.sizes.astype(np.float32),
            others.astype(np.float32), np.ones(others.shape[:2], dtype=bool),
        )  # fmt: skip
        ego = np.zeros((1, len(times), 5), dtype=np.float32)
        ego[0, :, 0], ego[0, :, 3] = 10.0 * times, 10.0
        egos = Tracks(("ego",), np.zeros(1, np.int8), np.array([[4.8, 2.0]], np.float32), ego, np.ones((1, 101), bool))
        now = HISTORY_STEPS + 1
        self.scene = Scene(
            scene_id="street", log_id="log", group="group", dataset="hand", ego_id="ego", recorded_ego=True,
            labels_reliable=True, left_hand=False, native_dt_s=0.1, t0_s=0.0, anchor=self.pose, ego=egos.steps(0, now),
            agents=tracks.steps(0, now), road_map=self.road_map, lights=Lights.none(1),
            route=np.array([[0.0, 0.0], [200.0, 0.0]], dtype=np.float32), route_on_map=True,
        )  # fmt: skip
        self.future = Future("street", egos.steps(now, 101), tracks.steps(now, 101), Lights.none(80))
        self.start = start_of(self.scene)
        states = self.plans.states.astype(np.float64)
        ahead = others[:, HISTORY_STEPS:]
        moving = np.concatenate([ahead[..., :3], np.hypot(ahead[..., 3:4], ahead[..., 4:])], axis=-1)
        along = along_route(states[:, :, 0], states[:, :, 1], self.start.route).along
        kinds, sizes = np.append(Kind.VEHICLE, self.kinds), np.concatenate([[[4.8, 2.0]], self.sizes])
        self.executed = execution(states, moving, sizes, kinds, along)
        line = Route(np.array([[0.0, 0.0], [500.0, 0.0]]), np.full(2, self.start.target_speed))
        self.course = Course.of(SimMap("street", self.road_map, (line,), (), Signal.none(), (), 3.5))
        self.before = Before(
            self.start.accel, self.start.curvature, expert_progress(self.future, self.start, FUTURE_STEPS)
        )


def placed(points: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points along a polyline and the direction there."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = [np.stack([np.interp(x, arc, points[:, i]) for i in (0, 1)], axis=-1) for x in (s - 0.3, s, s + 0.3)]
    return at[1], np.arctan2(*(at[2] - at[0]).T[::-1])


@pytest.fixture(scope="module", params=["crossing", "straight"])
def street(request) -> Street:
    return Street(request.param, 4)


@pytest.fixture(scope="module")
def scored(street):
    return outcomes_of(street.executed, street.course, street.before)


def test_recorded_traffic_gets_the_log_scorers_verdicts(street, scored):
    """The same columns from the same traffic, except that contacts between two steps are found here only."""
    log = real_outcome(street.scene, street.future, street.plans, street.start)
    new, old = scored.column("contacts"), log.column("contacts")
    assert (new >= old).all()
    assert (scored.column("first_contact_s") <= log.column("first_contact_s")).all()
    same = (new == old) & (scored.column("first_contact_s") == log.column("first_contact_s"))
    assert same.mean() > 0.9
    for name in set(COLUMNS) & set(log.columns):
        np.testing.assert_allclose(scored.column(name)[same], log.column(name)[same], atol=2e-3, err_msg=name)
    varied = [n for n in ("contacts_at_fault", "ttc_pdms", "ttc_nuplan", "drivable_pdms") if np.ptp(log.column(n)) > 0]
    assert len(varied) >= 3, "the comparison says little where all candidates fare alike"


def test_a_part_of_the_candidates_gets_the_same_bits(street, scored):
    rows = [31, 2, 47]
    part = outcomes_of(street.executed.select(rows), street.course, street.before)
    assert part.values.tobytes() == scored.values[rows].tobytes()


def test_the_order_of_the_others_changes_nothing(street, scored):
    order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(len(street.kinds))])
    boxes = {n: getattr(street.executed, n)[..., order] for n in Executed._fields[:9]}
    shuffled = outcomes_of(street.executed._replace(**boxes), street.course, street.before)
    row = COLUMNS.index("first_contact_row")
    rest = np.arange(len(COLUMNS)) != row
    np.testing.assert_array_equal(shuffled.values[:, rest], scored.values[:, rest])
    # Two that are met in the same step may change their places.
    hit = np.isfinite(scored.values[:, row])
    np.testing.assert_array_equal(np.isfinite(shuffled.values[:, row]), hit)
    assert (order[shuffled.values[hit, row].astype(int)] == scored.values[hit, row]).mean() > 0.9


def test_a_candidate_that_is_not_finite_is_told_and_hurts_no_other(street, scored):
    x = street.executed.x.copy()
    x[40, 7, 0] = np.nan
    hurt = outcomes_of(street.executed._replace(x=x), street.course, street.before)
    assert np.isnan(hurt.values[7]).all()
    assert np.delete(hurt.values, 7, axis=0).tobytes() == np.delete(scored.values, 7, axis=0).tobytes()


def test_arrays_of_jax_get_the_same_bits_and_nothing_is_compiled_twice(street, scored):
    device = Executed(*(jnp.asarray(field) for field in street.executed))
    assert outcomes_of(device, street.course, street.before).values.tobytes() == scored.values.tobytes()
    compiled = encounters._near._cache_size()
    moved = device._replace(x=device.x + 1.0)
    outcomes_of(moved, street.course, street.before)
    assert encounters._near._cache_size() == compiled
    assert isinstance(device.x, jax.Array)


def test_progress_of_the_set_is_a_derived_column(scored):
    share = progress_of_set(scored)
    kept = (scored.column("no_collision_pdms") > 0) & (scored.column("drivable_pdms") > 0)
    best = np.flatnonzero(kept)[scored.column("progress_m")[kept].argmax()]
    assert share[best] == 1.0
    assert "progress_of_set" not in COLUMNS
    assert ((share >= 0.0) & (share <= 1.0)).all()


def test_progress_goes_on_where_the_route_changes():
    """The new route counts its metres from another beginning."""
    executed, course, before = build({"ego": {"speed": 10.0}})
    twice = {name: np.concatenate([getattr(course, name)] * 2) for name in ("arc", "limit", "stop", "clear")}
    course = replace(course, **twice)
    executed.route[12:] = 1
    executed.s[12:] += 300.0
    assert outcomes_of(executed, course, before).column("progress_m")[0] == pytest.approx(30.0, abs=1e-3)


@pytest.mark.parametrize("kinds", ["areas", "edges", "lines"])
def test_the_grid_answers_as_the_exact_road(kinds):
    """Boxes anywhere about a crossing, whatever the map offers: its areas, road edges alone, or lanes alone."""
    road = MAPS["crossing"](5).road_map
    wanted = {"areas": list(Feature), "edges": [Feature.ROAD_EDGE, Feature.LANE], "lines": [Feature.LANE]}[kinds]
    rows = [i for i in range(len(road.kinds)) if road.kinds[i] in wanted]
    part = RoadMap.build([(Feature(road.kinds[i]), road.ids[i], road.feature(i)) for i in rows])
    exact, fast = RealRoad(part), RoadGeometry(part)
    draw = np.random.default_rng(2)
    at = part.points[draw.integers(len(part.points), size=4000)] + draw.normal(size=(4000, 2)) * 3.0
    states = np.concatenate([at, draw.uniform(-np.pi, np.pi, (4000, 1)), np.zeros((4000, 1))], axis=1)
    boxes = ego_boxes(states, 4.8, 2.0)
    for tolerance, off in zip((0.0, 0.3), fast.off(boxes)):
        np.testing.assert_array_equal(off, exact.off(boxes, tolerance))
        assert 0.05 < off.mean() < 0.99
    paths = at[:50, None] + np.cumsum(draw.normal(size=(50, 1, 2)) + 0.3 * draw.normal(size=(50, 40, 2)), axis=1) * 0.5
    moves = np.diff(paths, axis=1)
    along = exact.along_lane(moves.reshape(-1, 2), paths[:, :-1].reshape(-1, 2)).reshape(50, -1)
    np.testing.assert_array_equal(fast.worst_against(paths), worst_against(along))
    assert (worst_against(along) > 0.5).any()


@pytest.mark.parametrize("areas", [True, False])
def test_the_seam_of_a_lane_and_the_next_is_not_two_lanes(areas):
    """Two lanes of 40 m one after the other, and one beside the first, 3.5 m to the left."""
    lines = {"a": (0.0, 40.0, 0.0), "b": (40.0, 80.0, 0.0), "c": (0.0, 40.0, 3.5)}
    features = [(Feature.LANE, name, np.array([[x0, y], [x1, y]])) for name, (x0, x1, y) in lines.items()]
    if areas:
        features += [
            (Feature.LANE_AREA, f"area {name}", strip(np.array([[x0, y], [x1, y]]), 3.5))
            for name, (x0, x1, y) in lines.items()
        ]
    boxes = np.array([[20.0, 0.0], [40.0, 0.0], [20.0, 1.0], [40.0, 1.0], [20.0, 3.0]])
    boxes = np.concatenate([boxes, np.tile([0.0, 4.8, 2.0], (5, 1))], axis=1)
    linked, apart = RoadMap.build(features, [("a", "b")]), RoadMap.build(features)
    assert RealRoad(linked).within_lane(boxes).tolist() == [True, True, False, False, True]
    assert RealRoad(apart).within_lane(boxes).tolist() == [True, False, False, False, True]
