"""Task terms: known answers, limits, and rows that do not know of each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from critics import Composite, InverseControlProbe, SupportDensity, TaskConfig, TaskCritic, VistaCritic
from critics.inverse_control import ProbeExamples, probe_features
from critics.road import DRIVABLE_LEVEL
from critics.support_features import SupportExamples
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.risk import RiskConfig


@pytest.fixture(scope="module")
def everything(toy) -> Composite:
    rng = np.random.default_rng(0)

    def examples(n: int, name: str) -> SupportExamples:
        scale = np.array([1.0] * 3 + [0.02] * 3 + [1.0] * 3)
        return SupportExamples(
            rng.normal(size=(n, 9)) * scale, rng.normal(size=(n, 3)) + 5.0, tuple(f"{name}{i}" for i in range(n))
        )

    features = probe_features(toy.context(toy.start()).raster, toy.random(40, seed=5))
    probe = InverseControlProbe.fit(
        ProbeExamples(features, rng.normal(size=40), tuple(f"s{i // 4}" for i in range(40)))
    )
    support = SupportDensity.fit(examples(120, "a"), examples(120, "b"))
    return Composite([TaskCritic(), VistaCritic(), support, probe])


def some_plans(count: int) -> Plans:
    rng = np.random.default_rng(1)
    return Plans.from_controls(
        rng.normal(size=(count, 1, 2)) * [1.5, 0.03] + rng.normal(size=(count, 30, 2)) * [0.5, 0.01], 9.0
    )


@pytest.mark.parametrize("rows", [[0], [5, 1, 3], list(range(22, -1, -1)), list(range(7, 16))])
def test_a_row_does_not_change_with_its_companions(toy, everything, rows):
    context, plans, imagined = toy.context(toy.start(9.0)), some_plans(23), toy.random(23)
    whole = everything.terms(context, plans, imagined)
    part = everything.terms(context, plans.select(rows), toy.pick(imagined, rows))
    assert part.values.tobytes() == whole.values[rows].tobytes()
    judged, judged_part = everything.judge(whole), everything.judge(part)
    assert judged_part.total.tobytes() == judged.total[rows].tobytes()
    assert judged_part.reasons == tuple(judged.reasons[i] for i in rows)


def test_inputs_stay_untouched(toy, everything):
    context, plans, imagined = toy.context(toy.start(9.0)), some_plans(4), toy.random(4)
    before = [imagined.occupancy.clone(), imagined.velocity.clone(), imagined.latents.clone()]
    states = plans.states.copy()
    everything.terms(context, plans, imagined)
    assert all((a == b).all() for a, b in zip(before, [imagined.occupancy, imagined.velocity, imagined.latents]))
    np.testing.assert_array_equal(states, plans.states)


def task(toy, plans, imagined, start=None, layers=None):
    terms = TaskCritic().terms(toy.context(start or toy.start(), layers), plans, imagined)
    return {name: terms.column(name).astype(np.float64) for name in terms.columns}


def test_collision_begins_when_the_box_arrives(toy):
    # Standing car, rear bumper at 17.7 m; the ego's front starts at 2.4 m: contact after 1.53 s at 10 m/s.
    out = task(toy, toy.constant([0.0, -6.0]), toy.boxes(2, [(20.0, 0.0, 0.0, 0.0, 4.6, 1.9, 0)]))
    assert out["collision_3"][0] < 0.12 < out["collision_4"][0]
    assert out["no_collision"].tolist() == [0.0, 1.0]
    assert out["pdms"][0] == 0.0
    assert out["pdms"][1] > 0.0
    assert out["collision_cost"][0] > out["collision_cost"][1] >= 0.0
    assert out["collision_vru"].max() == 0.0


def test_expected_collision_is_the_share_of_samples(toy):
    imagined = toy.boxes(1, [(20.0, 0.0, 0.0, 0.0, 4.6, 1.9, 0)], samples=4)
    occupancy = imagined.occupancy.clone()
    occupancy[:, 1:] = 0.0
    out = task(toy, toy.constant([0.0]), type(imagined)(occupancy, imagined.velocity, imagined.latents, toy.grid))
    assert out["no_collision"][0] == pytest.approx(0.75)


@pytest.mark.parametrize(("rear_bumper", "ttc"), [(16.0, 0.0), (18.5, 1.0)])
def test_time_to_collision_looks_nine_tenths_ahead(toy, rear_bumper, ttc):
    # Braking at 4 m/s2 from 10 m/s: the box moved on by 0.9 s reaches 16.5 m at most, itself 14.9 m.
    out = task(toy, toy.constant([-4.0]), toy.boxes(1, [(rear_bumper + 2.3, 0.0, 0.0, 0.0, 4.6, 1.9, 0)]))
    assert out["no_collision"][0] == 1.0
    assert out["ttc"][0] == ttc


def test_a_standing_ego_is_not_at_fault(toy):
    out = task(
        toy, toy.constant([0.0], speed=0.0), toy.boxes(1, [(14.0, 0.0, np.pi, 4.0, 4.6, 1.9, 0)]), toy.start(0.0)
    )
    assert out["no_collision"][0] == 1.0
    assert out["ttc"][0] == 1.0
    assert out["contact_rear"][0] > 0.5


def test_published_scores_on_an_empty_road(toy):
    # 10 m/s for 3 s on the route, target 12 m/s: progress 30 of 36 m, everything else perfect.
    out = task(toy, toy.constant([0.0]), toy.boxes(1, []))
    assert out["progress_m"][0] == pytest.approx(30.0, abs=1e-4)
    assert out["pdms"][0] == pytest.approx((5 + 5 * 30 / 36 + 2) / 12, abs=1e-6)
    assert out["nuplan_score"][0] == pytest.approx((5 * 30 / 36 + 5 + 4 + 2) / 16, abs=1e-6)


def test_overspeed_loses_as_nuplan_says(toy):
    out = task(toy, toy.constant([0.0]), toy.boxes(1, []), toy.start(10.0, target=9.0))
    assert out["speed_limit"][0] == pytest.approx(1.0 - 1.0 / 2.23, abs=1e-5)
    assert out["progress_pdms"][0] == 1.0


@pytest.mark.parametrize(("edge", "drivable"), [(2.0, 1.0), (-0.5, 0.0)])
def test_leaving_the_road(toy, edge, drivable):
    y = toy.grid.y_min + (np.arange(toy.grid.rows) + 0.5) * toy.grid.cell
    x = toy.grid.x_min + (np.arange(toy.grid.cols) + 0.5) * toy.grid.cell
    road = (y[:, None] < 4.0) & ((x[None] < 10.0) | (y[:, None] < edge))
    out = task(toy, toy.constant([0.0]), toy.boxes(1, []), layers={"drivable": road})
    assert out["drivable"][0] == drivable
    assert (out["offroad_cost"][0] > 0.1) == (drivable == 0.0)


@pytest.mark.parametrize(("outside", "pdms", "nuplan"), [(-0.15, 1.0, 1.0), (0.15, 0.0, 1.0), (0.45, 0.0, 0.0)])
def test_a_corner_a_little_outside_breaks_navsims_rule_and_keeps_nuplans(toy, outside, pdms, nuplan):
    y = toy.grid.y_min + (np.arange(toy.grid.rows) + 0.5) * toy.grid.cell
    x = toy.grid.x_min + (np.arange(toy.grid.cols) + 0.5) * toy.grid.cell
    edge = toy.start().width / 2.0 - outside
    # A soft edge: at the level where the road ends; and none round the ego's place at t0.
    soft = np.clip(DRIVABLE_LEVEL + (edge - y) / 2.0, 0.0, 1.0)
    layer = np.where(x[None] < 10.0, 1.0, soft[:, None])
    out = task(toy, toy.constant([0.0]), toy.boxes(1, []), layers={"drivable": layer})
    assert out["drivable_pdms"][0] == pdms
    assert out["drivable"][0] == nuplan
    assert (out["pdms"][0] > 0.0) == (pdms == 1.0)
    assert (out["nuplan_score"][0] > 0.0) == (nuplan == 1.0)


def test_a_map_without_a_road_and_an_ego_beside_it_forbid_nothing(toy):
    nothing = np.zeros((toy.grid.rows, toy.grid.cols))
    elsewhere = nothing.copy()
    elsewhere[:10] = 1.0
    for layer in (nothing, elsewhere):
        out = task(toy, toy.constant([0.0]), toy.boxes(1, []), layers={"drivable": layer})
        assert out["drivable"][0] == 1.0
        assert out["offroad_cost"][0] == 0.0


@pytest.mark.parametrize(("speed", "score"), [(1.9, 1.0), (2.1, 0.5), (5.9, 0.5), (6.1, 0.0)])
def test_driving_against_the_lane(toy, speed, score):
    against = -np.ones((toy.grid.rows, toy.grid.cols))
    start = toy.start(speed)
    out = task(toy, toy.constant([0.0], speed=speed), toy.boxes(1, []), start, {"direction_cos": against})
    assert out["against_m"][0] == pytest.approx(speed, abs=1e-4)
    assert out["direction"][0] == score


@pytest.mark.parametrize(("accel", "passed"), [(0.0, 1.0), (-6.0, 0.0)])
def test_a_red_light_counts_when_it_is_passed(toy, accel, passed):
    x = toy.grid.x_min + (np.arange(toy.grid.cols) + 0.5) * toy.grid.cell
    y = toy.grid.y_min + (np.arange(toy.grid.rows) + 0.5) * toy.grid.cell
    light = np.exp(-((x[None] - 15.0) ** 2 + y[:, None] ** 2) / 8.0)
    out = task(toy, toy.constant([accel]), toy.boxes(1, []), layers={"red_light": light})
    assert out["red_light"][0] == passed


def test_lane_keeping_needs_two_seconds_beside_the_line(toy):
    route = np.stack([np.arange(64) * 1.5, np.where(np.arange(64) * 1.5 < 12.0, 0.0, 1.0)], axis=1).astype(np.float32)
    for end, kept in ((12.0, 1.0), (6.0, 0.0)):
        shifted = route.copy()
        shifted[:, 1] = np.where(shifted[:, 0] < end, 0.0, 1.0)
        start = toy.start(10.0)
        start = type(start)(10.0, 0.0, 0.0, 4.8, 2.0, 12.0, shifted)
        assert task(toy, toy.constant([0.0]), toy.boxes(1, []), start)["lane_keeping"][0] == kept


def test_discomfort_grows_with_the_jump_and_comfort_has_a_limit(toy):
    out = task(toy, toy.constant([0.0, -2.0, -3.3, -5.0]), toy.boxes(4, []))
    assert np.all(np.diff(out["discomfort_cost"]) > 0.0)
    assert out["comfort"].tolist() == [1.0, 1.0, 0.0, 0.0]
    eased = task(toy, toy.constant([-3.3]), toy.boxes(1, []), toy.start(accel=-3.3))
    assert eased["comfort"][0] == 1.0


def test_a_plan_that_is_not_finite_is_nan_alone(toy):
    plans, imagined = toy.constant([0.0, 0.0, 0.0]), toy.boxes(3, [(20.0, 0.0, 0.0, 0.0, 4.6, 1.9, 0)])
    whole = TaskCritic().terms(toy.context(toy.start()), plans, imagined)
    states = plans.states.copy()
    states[1, 9, 0] = np.inf
    hurt = TaskCritic().terms(toy.context(toy.start()), Plans(plans.controls, states), imagined)
    assert np.isnan(hurt.values[1]).all()
    assert hurt.values[[0, 2]].tobytes() == whole.values[[0, 2]].tobytes()


def test_a_short_imagination_is_refused(toy):
    with pytest.raises(InputError, match="scene scene: 4 imagined steps"):
        TaskCritic().terms(toy.context(toy.start()), toy.constant([0.0]), toy.boxes(1, [], steps=4))
    short = TaskCritic(TaskConfig(horizon=4))
    terms = short.terms(toy.context(toy.start()), toy.constant([0.0]), toy.boxes(1, [], steps=4))
    assert terms.columns.count("collision_4") == 1
    assert "collision_5" not in terms.columns
    assert short.digest != TaskCritic().digest


def test_risk_weighs_samples_from_the_mean_to_the_worst(toy):
    """One of four futures has a car in the way: the mean counts it by a quarter, the worst fully, CVaR in between."""
    plans, start = toy.constant([0.0]), toy.context(toy.start())
    hit, free = toy.boxes(1, [(20.0, 0.0, 0.0, 0.0, 4.6, 1.9, 0)]), toy.boxes(1, [])
    mixed = replace(
        hit,
        occupancy=torch.cat([hit.occupancy[:, :1], *[free.occupancy[:, :1]] * 3], dim=1),
        velocity=torch.cat([hit.velocity[:, :1], *[free.velocity[:, :1]] * 3], dim=1),
        latents=hit.latents[:, :1].repeat(1, 4, 1, 1),
    )

    def of(risk: RiskConfig) -> tuple[float, float]:
        terms = TaskCritic(TaskConfig(risk=risk)).terms(start, plans, mixed)
        return float(terms.column("no_collision")[0]), float(terms.column("collision_cost")[0])

    mean, worst = of(RiskConfig()), of(RiskConfig("worst"))
    assert mean == pytest.approx((0.75, worst[1] / 4.0))
    assert worst[0] == 0.0
    assert of(RiskConfig("cvar", 1.0)) == pytest.approx(mean)
    assert of(RiskConfig("cvar", 0.25)) == pytest.approx(worst)
    assert of(RiskConfig("cvar", 0.5)) == pytest.approx((0.5, worst[1] / 2.0))
    assert mean[1] < of(RiskConfig("entropic", 1.0))[1] < worst[1]
    assert TaskCritic(TaskConfig(risk=RiskConfig("worst"))).digest != TaskCritic().digest


def test_a_level_of_risk_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"CVaR.alpha is 1\.5, expected above 0 and at most 1"):
        RiskConfig("cvar", 1.5)
