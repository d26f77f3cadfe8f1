"""L3: who vanishes, who is hidden, who jumps, brakes or turns as no car can, mass, overlap, off-road."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from wmplan.contracts import GRIDS
from wmplan.models import ConstantVelocity
from wmplan.randomness import NoiseBank
from wmplan.raster import draw_dynamic
from wmplan.scene import Kind
from wmplan.statistics import Measure
from wmplan.testing import Body, straight_road
from wmplan.validation import conservation, feasibility, permanence
from wmplan.validation.evidence import Evidence, Observed, imagine, observe, oracle

GRID = GRIDS["small"]
ROAD = [Body(12.0, 3.5, speed=6.0), Body(20.0, -3.5, speed=4.0), Body(5.0, 12.0, 0.0, 1.2, Kind.PEDESTRIAN, 0.9, 0.9)]


def street(bodies: list[Body], speed: float = 6.0) -> Observed:
    return observe(*straight_road(bodies, speed=speed), GRID, 6)


def by_name(measures: list[Measure]) -> dict[str, Measure]:
    return {one.metric: one for one in measures}


def drawn(observed: Observed, body: Body, path: Callable[[float], tuple[float, float, float, float]]) -> Evidence:
    """One car whose place, heading and speed are a function of the time after t0."""
    states = torch.zeros(1, 6, 1, 5)
    for t in range(6):
        x, y, yaw, speed = path(0.5 * (t + 1))
        states[0, t, 0] = torch.tensor([x, y, yaw, speed * math.cos(yaw), speed * math.sin(yaw)])
    frames = draw_dynamic(
        states,
        torch.tensor([[[body.length, body.width]]]),
        torch.zeros(1, 1, dtype=torch.long),
        torch.ones(1, 6, 1, dtype=torch.bool),
        GRID,
    )
    return Evidence(observed, "drawn", frames[:, :, :2], frames[:, :, 2:4])


# ---------------------------------------------------------------------------------------------------- permanence


def test_nobody_is_lost_in_the_true_future_nor_at_constant_velocity() -> None:
    observed = street(ROAD)
    model = ConstantVelocity(GRID, 6)
    for evidence in (oracle(observed), imagine(model, observed, NoiseBank(0, 2))):
        row = permanence.measure_permanence(evidence)
        assert row.eligible.sum(0).tolist() == [3.0] * 6
        assert row.lost.sum() == 0.0
        found = by_name(permanence.summarise([row, row], 0))
        assert found["lost, in sight, 3 s"].cleared
    np.testing.assert_array_equal(permanence.curve([row]), np.ones(6))


def test_a_car_that_vanishes_in_one_of_two_samples_is_half_lost() -> None:
    observed = street(ROAD)
    truth = observed.truth
    cut = truth.clone()
    cut[3:, :4, 66:76] = 0.0  # the car at y = 3.5 m, from 2 s on
    futures = torch.stack([truth[:, :4], cut[:, :4]])
    row = permanence.measure_permanence(Evidence(observed, "cut", futures[:, :, :2], futures[:, :, 2:]))
    assert row.lost.sum(0).tolist() == [0.0, 0.0, 0.0, 0.5, 0.5, 0.5]
    assert row.misplaced.sum(0).tolist() == [0.0, 0.0, 0.0, 0.5, 0.5, 0.5]
    found = by_name(permanence.summarise([row], 0))
    assert found["lost, in sight, 3 s"].value == pytest.approx(0.5 / 3.0)
    assert found["lost, in sight, 3 s"].cleared is False
    assert found["lost, in sight, 1 s"].cleared is None  # the gate is at 3 s


def test_a_wrong_speed_misplaces_and_does_not_lose() -> None:
    truth, other = street([Body(12.0, 3.5, speed=6.0)]), street([Body(12.0, 3.5, speed=9.0)])
    row = permanence.measure_permanence(
        Evidence(truth, "fast", other.truth[None, :, :2], other.truth[None, :, 2:4])
    )  # 1.5 m a step farther: 1.5 m off after one step, 3 m after two
    assert row.lost.sum() == 0.0
    assert row.misplaced.sum(0).tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_who_drives_behind_another_is_hidden_and_counted_apart() -> None:
    lead, behind, beside = Body(14.0, 0.0, speed=1.0), Body(24.0, 0.0, speed=1.0), Body(14.0, 8.0, speed=1.0)
    observed = street([lead, behind, beside], speed=1.0)
    hidden = permanence.hidden(observed)
    assert hidden.all(axis=1).tolist() == [False, True, False]
    assert not hidden[[0, 2]].any()
    cut = observed.truth.clone()
    cut[1:, :4, 60:68, 138:] = 0.0  # the one behind, from 1 s on
    row = permanence.measure_permanence(Evidence(observed, "cut", cut[None, :, :2], cut[None, :, 2:4]))
    assert row.eligible.tolist() == [[2.0] * 6, [1.0] * 6]
    assert row.lost[0].sum() == 0.0
    assert row.lost[1, -1] == 1.0


def test_who_leaves_the_window_is_not_missed() -> None:
    leaving = street([Body(44.0, 3.5, speed=12.0), Body(10.0, -3.5, speed=6.0)])
    row = permanence.measure_permanence(oracle(leaving))
    assert row.eligible.sum(0).tolist() == [1.0] * 6  # at 0.5 s its centre is at 50 m; the window ends at 48 m
    assert row.lost.sum() == 0.0


# --------------------------------------------------------------------------------------------------- feasibility


def test_the_true_future_is_feasible_and_planted_motions_are_not() -> None:
    body = Body(10.0, 3.5, speed=5.0)
    observed = street([body])
    assert feasibility.measure_feasibility(oracle(observed)).steps == 6.0

    def jump(t: float) -> tuple[float, float, float, float]:
        return (10.0 + 5.0 * t + (12.0 if t > 1.2 else 0.0), 3.5, 0.0, 5.0)

    def kick(t: float) -> tuple[float, float, float, float]:
        """From 5 to 10 m/s between 1 and 1.5 s: 10 m/s2."""
        return (10.0 + 5.0 * t + max(t - 1.25, 0.0) * 5.0, 3.5, 0.0, 10.0 if t > 1.2 else 5.0)

    def kink(t: float) -> tuple[float, float, float, float]:
        """A right angle at 1.25 s."""
        return (10.0 + 5.0 * min(t, 1.25), 3.5 + 5.0 * max(t - 1.25, 0.0), math.pi / 2 if t > 1.25 else 0.0, 5.0)

    counts = {
        name: feasibility.measure_feasibility(drawn(observed, body, path))
        for name, path in (("jump", jump), ("kick", kick), ("kink", kink))
    }
    assert [counts["jump"].teleports, counts["jump"].accelerate, counts["jump"].turn] == [1.0, 0.0, 0.0]
    assert counts["jump"].steps == 6.0
    assert [counts["kick"].teleports, counts["kick"].accelerate, counts["kick"].turn] == [0.0, 1.0, 0.0]
    assert counts["kick"].accelerate_waymax == 0.0
    assert [counts["kink"].teleports, counts["kink"].accelerate, counts["kink"].turn] == [0.0, 0.0, 1.0]
    found = by_name(feasibility.summarise([counts["jump"]] * 2, 0))
    assert found["teleports"].value == pytest.approx(1.0 / 6.0)
    assert found["teleports"].cleared is False
    assert found["acceleration beyond 8 m/s2"].cleared


# -------------------------------------------------------------------------------------------------- conservation


def figures(observed: Observed, future: Tensor) -> dict[str, float]:
    row = conservation.measure_conservation(Evidence(observed, "x", future[None, :, :2], future[None, :, 2:4]))
    return dict(zip(conservation.NAMES, row.imagined.tolist(), strict=True))


def test_mass_that_goes_overlaps_and_leaves_the_road_is_seen() -> None:
    observed = street([Body(4.0, 3.5, speed=6.0), Body(14.0, -3.5, speed=6.0)])
    truth = observed.truth[:, :4]
    row = conservation.measure_conservation(oracle(observed))
    np.testing.assert_array_equal(row.imagined, row.true)
    assert row.true[0] < 0.02  # resampling
    assert row.true[1] < 1e-3
    assert row.true[2] < 0.05
    found = by_name(conservation.summarise([row] * 2, 0))
    assert all(found[f"{name}, above true"].cleared for name in conservation.NAMES)

    gone = truth.clone()
    gone[3:, :, :64] = 0.0  # one of two cars, from one step on
    assert figures(observed, gone)["mass change"] == pytest.approx(0.5 / 6.0, abs=0.02)
    off = torch.roll(truth, 24, dims=-2)  # 12 m to the left of lanes at 3.5 m
    assert figures(observed, off)["off-road"] > 0.5
    curve = conservation.mass_curve(Evidence(observed, "x", gone[None, :, :2], gone[None, :, 2:4]))
    np.testing.assert_allclose(curve, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5], atol=0.02)


def test_mass_that_flows_over_the_inner_edge_is_no_change() -> None:
    """The inner window ends at x = 40 m: one car leaves it, another stays."""
    observed = street([Body(32.0, 3.5, speed=6.0), Body(10.0, -3.5, speed=2.0)])
    row = conservation.measure_conservation(oracle(observed))
    assert row.true[0] < 0.02


def test_cars_that_drive_through_each_other_overlap() -> None:
    head_on = street([Body(10.0, 3.5, speed=8.0), Body(22.0, 3.5, math.pi, 8.0)])
    row = conservation.measure_conservation(oracle(head_on))
    assert row.true[1] > 0.02
    apart = conservation.measure_conservation(
        oracle(street([Body(10.0, 3.5, speed=8.0), Body(40.0, 7.5, math.pi, 8.0)]))
    )
    assert apart.true[1] < 1e-3
