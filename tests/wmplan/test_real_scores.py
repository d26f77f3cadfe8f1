"""Driving terms on scenes that can be drawn by hand, each at a threshold plus or minus a little.

`driving_scenes/thresholds.json`: the ego starts at the origin, heading +x, 4.8 x 2.0 m; everyone keeps velocity; units
are metres and m/s; the plan holds one acceleration for 3 s; the expert keeps the ego's speed unless given.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from wmplan.frames import Pose
from wmplan.plans import Plans
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, Feature, Future, Kind, Lights, RoadMap, Scene, Tracks
from wmplan.scores import real_outcome

SCENES = json.loads((Path(__file__).parent / "driving_scenes" / "thresholds.json").read_text())
KINDS = {"vehicle": Kind.VEHICLE, "pedestrian": Kind.PEDESTRIAN, "cyclist": Kind.CYCLIST, "other": Kind.OTHER}


def line(x, y, yaw, speed, accel, times) -> np.ndarray:
    v = speed + accel * times
    s = speed * times + 0.5 * accel * times**2
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([x + s * cos, y + s * sin, np.full_like(s, yaw), v * cos, v * sin], axis=1)


def build(drawn: dict) -> tuple[Scene, Future, Plans]:
    past, ahead = 0.1 * np.arange(-HISTORY_STEPS, 1), 0.1 * np.arange(1, FUTURE_STEPS + 1)
    ego, agents = drawn["ego"], drawn.get("agents", [])
    expert = drawn.get("expert", {"speed": ego["speed"], "accel": ego.get("accel", 0.0)})

    def tracks(times: np.ndarray, road_users: list[dict], ids: str) -> Tracks:
        rows = [
            line(a["x"], a["y"], np.deg2rad(a["yaw_deg"]), a["speed"], a.get("accel", 0.0), times) for a in road_users
        ]
        return Tracks(
            tuple(f"{ids}{i}" for i in range(len(rows))),
            np.array([KINDS[a["kind"]] for a in road_users], dtype=np.int8),
            np.array([[a["length"], a["width"]] for a in road_users], dtype=np.float32).reshape(-1, 2),
            np.array(rows, dtype=np.float32).reshape(len(rows), len(times), 5),
            np.ones((len(rows), len(times)), dtype=bool),
        )

    box = {"kind": "vehicle", "x": 0.0, "y": 0.0, "yaw_deg": 0.0, "length": 4.8, "width": 2.0}
    shapes = drawn.get("map", {})
    features = [
        (kind, f"{kind.name}{i}", np.array(points, dtype=np.float64))
        for name, kind in (("drivable", Feature.DRIVABLE), ("lanes", Feature.LANE), ("edges", Feature.ROAD_EDGE))
        for i, points in enumerate(shapes.get(name, []))
    ]
    scene = Scene(
        scene_id="drawn", log_id="log", group="group", dataset="hand", ego_id="ego0", recorded_ego=True,
        labels_reliable=True, left_hand=False, native_dt_s=0.1, t0_s=0.0, anchor=Pose(0.0, 0.0, 0.0),
        ego=tracks(past, [{**box, **ego}], "ego"), agents=tracks(past, agents, "a"), road_map=RoadMap.build(features),
        lights=Lights.none(1), route=np.array([[0.0, 0.0], [100.0, 0.0]], dtype=np.float32), route_on_map=False,
    )  # fmt: skip
    future = Future("drawn", tracks(ahead, [{**box, **expert}], "ego"), tracks(ahead, agents, "a"), Lights.none(80))
    controls = np.zeros((1, 30, 2))
    controls[:, :, 0] = drawn["plan"]["accel"]
    return scene, future, Plans.from_controls(controls, float(ego["speed"]))


@pytest.mark.parametrize("drawn", SCENES, ids=lambda s: s["name"])
def test_drawn_scene(drawn):
    scene, future, plans = build(drawn)
    out = real_outcome(scene, future, plans)
    found = {name: float(out.column(name)[0]) for name in drawn["expect"]}
    assert found == pytest.approx(drawn["expect"], abs=2e-3)


def test_the_log_itself_drives_perfectly_on_an_empty_road():
    scene, future, plans = build({"ego": {"speed": 10.0}, "plan": {"accel": 0.0}})
    out = real_outcome(scene, future, plans)
    assert out.column("pdms")[0] == 1.0
    assert out.column("nuplan_score")[0] == 1.0
    assert out.column("final_error_m")[0] == pytest.approx(0.0, abs=1e-4)
    assert out.column("first_contact_s")[0] == pytest.approx(3.0)


def test_rows_do_not_depend_on_each_other_and_nan_stays_alone():
    drawn = next(s for s in SCENES if "two objects" in s["name"])
    scene, future, _ = build(drawn)
    controls = np.random.default_rng(0).normal(size=(9, 1, 2)) * [2.0, 0.01] + np.zeros((9, 30, 2))
    plans = Plans.from_controls(controls, 10.0)
    whole = real_outcome(scene, future, plans)
    part = real_outcome(scene, future, plans.select([7, 2]))
    assert part.values.tobytes() == whole.values[[7, 2]].tobytes()
    states = plans.states.copy()
    states[4] = np.nan
    hurt = real_outcome(scene, future, Plans(plans.controls, states))
    assert np.isnan(hurt.values[4]).all()
    keep = np.arange(9) != 4
    assert hurt.values[keep].tobytes() == whole.values[keep].tobytes()


def test_a_track_that_is_not_there_cannot_be_hit():
    scene, future, plans = build(SCENES[1])
    hidden = future.agents.valid.copy()
    hidden[:, 25:] = False
    agents = Tracks(*(getattr(future.agents, n) for n in ("ids", "kinds", "sizes", "states")), hidden)
    out = real_outcome(scene, Future("drawn", future.ego, agents, future.lights), plans)
    assert out.column("contacts")[0] == 0.0


def test_a_late_comer_can_be_hit():
    scene, future, plans = build(SCENES[1])
    nobody = Tracks((), *(getattr(scene.agents, n)[:0] for n in ("kinds", "sizes", "states", "valid")))
    alone = Scene(**{**scene.__dict__, "agents": nobody})
    assert real_outcome(alone, future, plans).column("contacts_at_fault")[0] == 1.0


def test_an_expert_out_of_sight_asks_for_no_progress():
    scene, future, plans = build({"ego": {"speed": 10.0}, "plan": {"accel": -6.0}})
    hidden = future.ego.valid.copy()
    hidden[:, 20:] = False
    ego = Tracks(*(getattr(future.ego, n) for n in ("ids", "kinds", "sizes", "states")), hidden)
    out = real_outcome(scene, Future("drawn", ego, future.agents, future.lights), plans)
    assert np.isnan(out.column("expert_progress_m")[0])
    assert out.column("ego_progress")[0] == out.column("progress_ratio")[0] == 1.0
    assert np.isnan(out.column("final_error_m")[0])


def test_mismatched_futures_are_refused():
    scene, future, plans = build(SCENES[0])
    with pytest.raises(ValueError, match="future is of scene other, expected drawn"):
        real_outcome(scene, Future("other", future.ego, future.agents, future.lights), plans)
    with pytest.raises(ValueError, match="plans of 90 steps, the future keeps 80"):
        real_outcome(scene, future, Plans.from_controls(np.zeros((1, 90, 2)), 10.0))
