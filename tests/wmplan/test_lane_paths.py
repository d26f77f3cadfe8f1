"""The way ahead along the lanes, against circles and straight lines worked out by hand."""

import math

import pytest
import torch

from wmplan.contracts import Grid
from wmplan.models.ego_features import ego_features
from wmplan.models.lane_paths import PATH_POINTS, PATH_STEP_M, along_paths, heading, lane_paths

GRID = Grid(120, 120, 1.0, -60.0, -60.0)
STRAIGHT = torch.zeros(1, 2, 120, 120)


def circle() -> torch.Tensor:
    """Lanes that lead round the origin, to the left."""
    at = torch.arange(120.0) - 59.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    radius = torch.hypot(x, y)
    return torch.stack([-y / radius, x / radius])[None]


def test_without_lanes_the_way_is_straight():
    way = lane_paths(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 8.0]]]), STRAIGHT, GRID)
    assert torch.allclose(way[0, 0, :, 0], torch.ones(PATH_POINTS), atol=1e-5)
    assert torch.allclose(way[0, 0, :, 1], 2.0 + PATH_STEP_M * torch.arange(PATH_POINTS), atol=1e-3)


@pytest.mark.parametrize("radius", [15.0, 25.0, 50.0])
def test_the_way_round_a_circle_stays_on_it(radius):
    start, velocity = torch.tensor([[[radius, 0.0]]]), torch.tensor([[[0.0, 6.0]]])
    way = lane_paths(start, velocity, circle(), GRID)
    assert torch.allclose(way[0, 0].norm(dim=-1), torch.tensor(radius), atol=1.0)
    for angle in (0.3, 1.0, 1.0 * math.pi * min(1.0, 15.0 / radius)):
        place = radius * torch.tensor([[[math.cos(angle), math.sin(angle)]]])
        ahead, left, across, direction = along_paths(way, place)
        assert ahead.item() == pytest.approx(radius * angle, rel=0.03)
        assert abs(left.item()) < 1.0 and across.item() < 1.0  # noqa: PT018
        assert math.atan2(direction[0, 0, 1], direction[0, 0, 0]) == pytest.approx(
            math.remainder(angle + math.pi / 2, 2 * math.pi), abs=0.15
        )


def test_who_stands_looks_along_the_lane_and_who_moves_where_it_moves():
    lane = torch.tensor([[[0.0, 1.0]]])
    assert torch.allclose(heading(torch.zeros(1, 1, 2), lane), lane, atol=0.06)
    assert torch.allclose(heading(torch.tensor([[[10.0, 0.0]]]), lane), torch.tensor([[[1.0, 0.0]]]), atol=0.06)
    assert not heading(torch.zeros(1, 1, 2), 0.0 * lane).any()


def test_a_lane_that_crosses_is_not_followed():
    lanes = torch.zeros(1, 2, 120, 120)
    lanes[:, 1] = 1.0  # all lanes lead along y
    way = lane_paths(torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[9.0, 0.0]]]), lanes, GRID)
    assert way[0, 0, -1, 1].abs() < 4.0
    assert way[0, 0, -1, 0] > 50.0


def test_beyond_both_ends_places_are_measured_on_a_straight_line():
    way = lane_paths(torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[5.0, 0.0]]]), STRAIGHT, GRID)
    for x in (-20.0, 80.0):
        ahead, left, across, _ = along_paths(way, torch.tensor([[[x, 2.0]]]))
        assert ahead.item() == pytest.approx(x, abs=1e-3)
        assert left.item() == pytest.approx(2.0, abs=1e-3)
        assert across.item() == pytest.approx(4.0, abs=1e-2)


def test_ways_are_mirrored_with_the_scene():
    lanes, start, velocity = circle(), torch.tensor([[[20.0, 0.0]]]), torch.tensor([[[-1.0, 6.0]]])
    flip = torch.tensor([1.0, -1.0])
    other = lane_paths(start * flip, velocity * flip, lanes.flip(2) * flip.reshape(1, 2, 1, 1), GRID)
    assert torch.allclose(lane_paths(start, velocity, lanes, GRID) * flip, other, atol=1e-4)


def test_a_follower_round_the_bend_sees_the_ego_in_its_way():
    """20 m behind it along the circle, the ego is 16 m ahead and well to the left, yet as much in the way."""
    radius, gap = 15.0, 20.0
    start, velocity = torch.tensor([[[radius, 0.0]]]), torch.tensor([[[0.0, 8.0]]])
    angle = gap / radius
    x, y = radius * math.cos(angle), radius * math.sin(angle)
    step = 0.25 / radius
    ego = torch.tensor([[[x, y, angle + math.pi / 2, 1.0], [x, y + 0.0, angle + math.pi / 2 + step, 0.0]]])
    along, speed = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[8.0]]])
    bent = ego_features(start, along, speed, ego, lane_paths(start, velocity, circle(), GRID))[0, 0]
    straight = ego_features(start, along, speed, ego, lane_paths(start, velocity, STRAIGHT, GRID))[0, 0]
    queue = torch.tensor([[[radius, gap, math.pi / 2, 1.0], [radius, gap, math.pi / 2, 0.0]]])
    behind = ego_features(start, along, speed, queue, lane_paths(start, velocity, STRAIGHT, GRID))[0, 0]
    assert torch.allclose(bent[8:], behind[8:], atol=0.15)
    assert straight[9] < 0.05
    assert bent[13] > 0.5
