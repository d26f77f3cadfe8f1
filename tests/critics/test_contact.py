"""Contact in space and time: an exact oracle, followers, thin crossings, fault by place."""

import dataclasses

import numpy as np
import pytest
import torch

from critics.contact import Queries, contacts
from critics.task import TaskConfig
from wmplan.boxes import overlaps
from wmplan.contracts import Imagined
from wmplan.raster import draw_boxes

TICKS = np.arange(1, 31)


def sweep(plans) -> Queries:
    return Queries(plans.states[:, 1:, :3].astype(np.float64), TICKS, 4.8, 2.0)


@pytest.mark.parametrize(
    ("length", "width", "fastest", "channel", "most"), [(4.6, 1.9, 12.0, 0, 0.03), (1.8, 0.7, 6.0, 1, 0.02)]
)
def test_verdicts_agree_with_exact_boxes(toy, length, width, fastest, channel, most):
    rng = np.random.default_rng(3)
    n, grid = 1500, toy.grid
    speed, yaw = rng.uniform(0.0, 14.0, n), rng.uniform(-0.5, 0.5, n)
    x, y = rng.uniform(0.0, 15.0, n), rng.uniform(-5.0, 5.0, n)
    other_speed, other_yaw = rng.uniform(0.0, fastest, n), rng.uniform(-np.pi, np.pi, n)
    end = np.stack([x + 0.5 * speed * np.cos(yaw), y + 0.5 * speed * np.sin(yaw)], axis=1)
    other = end + rng.uniform(-7.0, 7.0, (n, 2))
    drawn = draw_boxes(
        torch.tensor(np.concatenate([other, other_yaw[:, None]], axis=1)[:, None], dtype=torch.float32),
        torch.tensor([[[length, width]]]),
        torch.ones(1, 1, dtype=torch.bool),
        grid,
    )
    occupancy = torch.zeros(n, 1, 1, 2, grid.rows, grid.cols)
    occupancy[:, 0, 0, channel] = drawn
    v = np.stack([other_speed * np.cos(other_yaw), other_speed * np.sin(other_yaw)], axis=1)
    velocity = torch.tensor(v, dtype=torch.float32)[:, None, None, :, None, None].expand(-1, 1, 1, -1, *drawn.shape[1:])
    ticks = np.arange(1, 6)
    poses = np.stack(
        [np.stack([x + speed * t * 0.1 * np.cos(yaw), y + speed * t * 0.1 * np.sin(yaw), yaw], axis=1) for t in ticks],
        axis=1,
    )
    found = contacts(Imagined(occupancy, velocity, torch.zeros(n, 1, 1, 1), grid), Queries(poses, ticks, 4.8, 2.0))
    level = TaskConfig().vehicle_level if channel == 0 else TaskConfig().vru_level
    verdict = np.maximum(found.front, found.rear)[:, 0, :, channel].max(axis=1) >= level
    truth = np.zeros(n, dtype=bool)
    for q, tick in enumerate(ticks):
        late = (5 - tick) * 0.1
        ego = np.concatenate([poses[:, q], np.tile([4.8, 2.0], (n, 1))], axis=1)
        box = np.column_stack([other - v * late, other_yaw, np.full(n, length), np.full(n, width)])
        truth |= overlaps(ego, box)
    assert 0.05 < truth.mean() < 0.6
    assert (verdict != truth).mean() < most


@pytest.mark.parametrize("gap", [3.0, -3.0])
def test_a_follower_or_leader_at_equal_speed_is_never_hit(toy, gap):
    distance = np.sign(gap) * (4.8 / 2 + 4.6 / 2) + gap
    found = contacts(toy.boxes(1, [(distance, 0.0, 0.0, 12.0, 4.6, 1.9, 0)]), sweep(toy.constant([0.0], speed=12.0)))
    assert max(found.front.max(), found.rear.max()) < 0.02


def test_a_crossing_between_two_frames_is_found(toy):
    # Ego at 14 m/s crosses the path of a cyclist between 1.0 and 1.5 s: both are apart at every imagined frame.
    cyclist = (17.5, -1.25 * 12.0, np.pi / 2, 12.0, 1.8, 0.7, 1)
    plans = toy.constant([0.0], speed=14.0)
    found = contacts(toy.boxes(1, [cyclist]), sweep(plans))
    at_frames = found.front[0, 0, 4::5, 1]
    assert at_frames.max() < TaskConfig().vru_level
    assert found.front[0, 0, :, 1].max() >= TaskConfig().vru_level
    assert 10 < TICKS[found.front[0, 0, :, 1].argmax()] < 15


def test_what_comes_from_behind_is_a_rear_contact(toy):
    found = contacts(toy.boxes(1, [(-15.0, 0.0, 0.0, 8.0, 4.6, 1.9, 0)]), sweep(toy.constant([0.0], speed=1.0)))
    first = int(np.argmax(found.rear[0, 0, :, 0] > 0.12))
    assert found.rear[0, 0, first, 0] > 0.12
    assert found.front[0, 0, first, 0] < 0.12


@pytest.mark.parametrize("where", ["occupancy", "velocity"])
def test_a_non_finite_future_breaks_its_own_candidate_only(toy, where):
    imagined = toy.boxes(3, [(12.0, 0.0, 0.0, 0.0, 4.6, 1.9, 0)])
    part = getattr(imagined, where).clone()
    part[1, 0, 2, 0, 32, 60] = float("nan")
    with np.errstate(invalid="ignore"):
        found = contacts(dataclasses.replace(imagined, **{where: part}), sweep(toy.constant([0.0, 0.0, 0.0])))
    assert found.broken.tolist() == [False, True, False]
