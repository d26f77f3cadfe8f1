"""Boxes: areas against brute force, symmetries, no rounding; scenes and plans drawn frame by frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from shapely import affinity
from shapely.geometry import box as rectangle

from wmplan.contracts import DYNAMIC_CHANNELS, GRIDS, RASTER_HISTORY, STATIC_CHANNELS, Grid
from wmplan.map_raster import mirrored_dynamic
from wmplan.plans import Plans
from wmplan.raster import draw_boxes, draw_dynamic, footprints, rasterize, rasterize_future, swept_footprints
from wmplan.scene import Kind
from wmplan.start import start_of
from wmplan.testing.scenes import Body, some_plans, straight_road

SQUARE = Grid(40, 40, 0.5, -10.0, -10.0)


def one_box(x: float, y: float, yaw: float, length: float, width: float, grid: Grid = SQUARE) -> torch.Tensor:
    states = torch.tensor([[x, y, yaw]])
    return draw_boxes(states, torch.tensor([[length, width]]), torch.ones(1, dtype=torch.bool), grid)


def hard_coverage(
    x: float, y: float, yaw: float, length: float, width: float, finer: int = 9, grid: Grid = SQUARE
) -> np.ndarray:
    """Share of each cell inside the hard box, by counting subcells: the slow and obvious way."""
    cell = grid.cell / finer
    px = grid.x_min + (np.arange(grid.cols * finer) + 0.5) * cell
    py = grid.y_min + (np.arange(grid.rows * finer) + 0.5) * cell
    dx, dy = np.meshgrid(px - x, py - y)
    u, v = np.cos(yaw) * dx + np.sin(yaw) * dy, -np.sin(yaw) * dx + np.cos(yaw) * dy
    inside = (np.abs(u) <= length / 2) & (np.abs(v) <= width / 2)
    return inside.reshape(grid.rows, finer, grid.cols, finer).mean((1, 3))


def random_boxes(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-4, 4, (count, 2))
    yaw = rng.uniform(-np.pi, np.pi, (count, 1))
    return np.concatenate([xy, yaw, rng.uniform(3.5, 8.0, (count, 1)), rng.uniform(1.6, 2.6, (count, 1))], axis=1)


def test_area_is_within_three_percent_of_a_supersampled_hard_box() -> None:
    for row in random_boxes(40, seed=1):
        soft = one_box(*row).numpy()
        hard = hard_coverage(*row)
        assert soft.sum() == pytest.approx(hard.sum(), rel=0.03)
        assert np.abs(soft - hard).max() < 0.3


def test_area_agrees_with_shapely() -> None:
    ratios = []
    for x, y, yaw, length, width in random_boxes(40, seed=2):
        shape = affinity.translate(
            affinity.rotate(rectangle(-length / 2, -width / 2, length / 2, width / 2), yaw), x, y
        )
        ratios.append(one_box(x, y, yaw, length, width).sum().item() * SQUARE.cell**2 / shape.area)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.005)


def test_a_shift_by_half_a_cell_moves_the_centroid_by_half_a_cell() -> None:
    weights = torch.arange(SQUARE.cols, dtype=torch.float64)
    for yaw in (0.0, 0.4, 1.3):
        places = []
        for shift in (0.0, SQUARE.cell / 2):
            drawn = one_box(0.1 + shift, -0.3, yaw, 4.8, 2.0).double()
            places.append((drawn.sum(0) * weights).sum() / drawn.sum())
        assert (places[1] - places[0]).item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("place", [(0.0, 0.0), (1.3, -2.7), (9.9, 3.0)])
def test_quarter_turns_and_mirror_images(place: tuple[float, float]) -> None:
    x, y = place
    drawn = one_box(x, y, 0.3, 5.0, 2.0)
    turned = one_box(-y, x, 0.3 + np.pi / 2, 5.0, 2.0)
    torch.testing.assert_close(turned, torch.rot90(drawn, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(one_box(x, -y, -0.3, 5.0, 2.0), drawn.flip(0), atol=1e-5, rtol=0)


def test_long_vehicles_are_drawn_to_their_ends() -> None:
    soft = one_box(0.0, 0.0, 0.8, 18.0, 2.6).numpy()
    assert soft.sum() == pytest.approx(hard_coverage(0.0, 0.0, 0.8, 18.0, 2.6).sum(), rel=0.03)


def test_only_the_part_inside_the_grid_is_drawn() -> None:
    whole = one_box(9.0, 9.5, 0.7, 5.0, 2.0, Grid(60, 60, 0.5, -15.0, -15.0))
    torch.testing.assert_close(one_box(9.0, 9.5, 0.7, 5.0, 2.0), whole[10:50, 10:50], atol=1e-5, rtol=0)
    assert one_box(100.0, 0.0, 0.0, 5.0, 2.0).sum() == 0
    assert one_box(-11.3, 0.0, 0.0, 1.0, 1.0).sum() == 0


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three scenes, two frames, twelve road users of all kinds, some invalid with numbers that mean nothing."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-12, 12, (3, 2, 12, 5))
    valid = rng.random((3, 2, 12)) < 0.8
    states[~valid] = np.nan
    sizes = rng.uniform([2.0, 1.0], [9.0, 2.6], (3, 12, 2))
    kinds = rng.integers(0, 4, (3, 12))
    return (
        torch.tensor(states, dtype=torch.float32),
        torch.tensor(sizes, dtype=torch.float32),
        torch.tensor(kinds),
        torch.tensor(valid),
    )


def test_the_order_of_road_users_does_not_matter() -> None:
    states, sizes, kinds, valid = batch()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    drawn = draw_dynamic(states, sizes, kinds, valid, SQUARE)
    shuffled = draw_dynamic(states[:, :, order], sizes[:, order], kinds[:, order], valid[:, :, order], SQUARE)
    assert torch.equal(drawn, shuffled)


def test_a_batch_equals_its_scenes_and_frames_one_by_one() -> None:
    states, sizes, kinds, valid = batch()
    drawn = draw_dynamic(states, sizes, kinds, valid, SQUARE)
    assert torch.isfinite(drawn).all()
    for b in range(3):
        for t in range(2):
            part = (slice(b, b + 1), slice(t, t + 1))
            alone = draw_dynamic(states[part], sizes[b : b + 1], kinds[b : b + 1], valid[part], SQUARE)
            assert torch.equal(alone[0, 0], drawn[b, t])


def test_kinds_go_to_their_channels_and_velocity_to_the_box_that_covers_most() -> None:
    states, sizes, kinds, valid = batch()
    drawn = draw_dynamic(states, sizes, kinds, valid, SQUARE)
    vru = (kinds == Kind.PEDESTRIAN) | (kinds == Kind.CYCLIST)
    for channel, chosen in enumerate((kinds == Kind.VEHICLE, vru)):
        expected = draw_boxes(states, sizes[:, None], valid & chosen[:, None], SQUARE)
        assert torch.equal(drawn[:, :, channel], expected)
    moving = valid & (kinds != Kind.OTHER)[:, None]
    one = [slice(a, a + 1) for a in range(12)]
    each = torch.stack(
        [draw_boxes(states[:, :, a], sizes[:, None, a], moving[:, :, a], SQUARE) for a in one],
        dim=2,
    )
    most, which = each.max(2)
    ties = (each == most[:, :, None]).sum(2) > 1
    speed = states[..., 3:5].gather(2, which.flatten(2)[..., None].expand(-1, -1, -1, 2)).reshape(*which.shape, 2)
    expected = torch.where((most >= 0.02)[..., None], speed, 0.0).permute(0, 1, 4, 2, 3)
    clear = ~ties[:, :, None].expand_as(expected)
    covered = (most >= 0.02)[:, :, None].expand_as(expected)
    assert (clear & covered).sum() > 0.5 * covered.sum()
    clear &= covered | (most > 0)[:, :, None]
    torch.testing.assert_close(drawn[:, :, 2:4][clear], expected[clear])


def test_nothing_is_drawn_for_invalid_tracks() -> None:
    states, sizes, kinds, valid = batch()
    assert draw_dynamic(states, sizes, kinds, torch.zeros_like(valid), SQUARE).abs().sum() == 0
    assert (
        draw_boxes(torch.full((1, 3), torch.nan), torch.ones(1, 2), torch.ones(1, dtype=torch.bool), SQUARE).sum() == 0
    )
    none = draw_dynamic(states[:, :, :0], sizes[:, :0], kinds[:, :0], valid[:, :, :0], SQUARE)
    assert none.shape == (3, 2, 5, 40, 40)
    assert none.abs().sum() == 0


def test_a_scene_is_drawn_where_its_road_users_are_and_without_the_ego() -> None:
    scene, future = straight_road()
    grid = GRIDS["small"]
    raster = rasterize(scene, grid)
    assert raster.static.shape == (len(STATIC_CHANNELS), 128, 192)
    assert raster.history.shape == (RASTER_HISTORY, len(DYNAMIC_CHANNELS), 128, 192)
    row = int((0.0 - grid.y_min) / grid.cell)
    for t, seconds in enumerate((-1.5, -1.0, -0.5, 0.0)):
        column = int((25.0 + 8.0 * seconds - grid.x_min) / grid.cell)
        assert raster.history[t, 0, row, column] > 0.9
        assert raster.history[t, 2, row, column] == pytest.approx(8.0)
        assert raster.history[t, 3, row, column] == pytest.approx(0.0, abs=1e-5)
        ego_column = int((10.0 * seconds - grid.x_min) / grid.cell)
        assert raster.history[t, :2, row, ego_column].max() < 0.01
    assert raster.history[3, 1].sum() * grid.cell**2 == pytest.approx(0.49, rel=0.35)
    assert raster.static[6, int((-7 + 32) / 0.5), int((30 + 48) / 0.5)] > 0.9
    drawn = rasterize_future(scene, future, grid, 3)
    for t in range(3):
        column = int((25.0 + 4.0 * (t + 1) - grid.x_min) / grid.cell)
        assert drawn[t, 0, row, column] > 0.9
    assert drawn[:, 0].sum((1, 2)) == pytest.approx(raster.history[3, 0].sum().item(), rel=0.35)


def test_the_future_ends_where_the_log_ends() -> None:
    scene, future = straight_road()
    valid = future.agents.valid.copy()
    valid[:, 10:] = False
    ended = dataclasses.replace(future, agents=dataclasses.replace(future.agents, valid=valid))
    drawn = rasterize_future(scene, ended, GRIDS["nano"], 3)
    assert torch.equal(drawn[:2], rasterize_future(scene, future, GRIDS["nano"], 2))
    assert drawn[2, :4].abs().sum() == 0


def test_the_digest_names_the_content() -> None:
    scene, _ = straight_road()
    digest = rasterize(scene, GRIDS["nano"]).digest
    assert digest == rasterize(straight_road()[0], GRIDS["nano"]).digest
    moved, _ = straight_road([Body(25.0, 0.001)])
    others = [
        rasterize(moved, GRIDS["nano"]).digest,
        rasterize(scene, GRIDS["small"]).digest,
        rasterize(straight_road(speed=9.0)[0], GRIDS["nano"]).digest,
        rasterize(dataclasses.replace(scene, route=scene.route * np.float32(0.5)), GRIDS["nano"]).digest,
    ]
    assert len({digest, *others}) == 5


def test_the_mirrored_scene_is_the_mirrored_raster() -> None:
    bodies = [Body(12.3, 4.2, 0.4, 6.0), Body(7.0, -5.0, -1.0, 2.0, Kind.CYCLIST, 1.8, 0.8)]
    mirrored = [dataclasses.replace(body, y=-body.y, yaw=-body.yaw) for body in bodies]
    grid = GRIDS["nano"]
    drawn = rasterize(straight_road(bodies)[0], grid).history
    again = rasterize(straight_road(mirrored)[0], grid).history
    torch.testing.assert_close(again, mirrored_dynamic(drawn), atol=1e-4, rtol=0)


def test_footprints_follow_the_plan() -> None:
    start = start_of(straight_road()[0])
    plans = some_plans(start)
    grid = GRIDS["small"]
    drawn = footprints(plans, start, grid)
    assert drawn.shape == (7, 7, 128, 192)
    columns = grid.x_min + (torch.arange(192) + 0.5) * grid.cell
    rows = grid.y_min + (torch.arange(128) + 0.5) * grid.cell
    for k in range(7):
        for t in range(7):
            mass = drawn[k, t].sum()
            assert (drawn[k, t].sum(0) * columns).sum() / mass == pytest.approx(plans.states[k, 5 * t, 0], abs=0.05)
            assert (drawn[k, t].sum(1) * rows).sum() / mass == pytest.approx(plans.states[k, 5 * t, 1], abs=0.05)


def test_the_swept_footprint_covers_every_footprint_on_the_way() -> None:
    start = start_of(straight_road(speed=15.0)[0])
    plans = some_plans(start)
    grid = GRIDS["nano"]
    swept = swept_footprints(plans, start, grid)
    ends = footprints(plans, start, grid)
    assert swept.shape == (7, 6, 64, 96)
    assert (swept >= ends[:, :-1]).all()
    assert (swept >= ends[:, 1:]).all()
    own = torch.tensor([start.length, start.width]).expand(7, 1, 2)
    between = draw_boxes(torch.from_numpy(plans.states[:, 3:4]), own, torch.ones(7, 1, dtype=torch.bool), grid)
    assert (swept[:, 0] >= between).all()


def test_footprints_of_a_subset_are_the_subset_of_the_footprints() -> None:
    start = start_of(straight_road(speed=15.0)[0])
    rng = np.random.default_rng(0)
    plans = Plans.from_controls(rng.normal([0.0, 0.0], [2.0, 0.02], (53, 30, 2)), start.speed)
    for grid in (GRIDS["nano"], GRIDS["small"]):
        swept, ends = swept_footprints(plans, start, grid), footprints(plans, start, grid)
        for rows in ([0], [52], [7, 3], list(range(11, 30)), list(range(52, -1, -1))):
            assert torch.equal(swept_footprints(plans.select(rows), start, grid), swept[rows])
            assert torch.equal(footprints(plans.select(rows), start, grid), ends[rows])


def test_a_plan_that_is_not_finite_has_no_footprint() -> None:
    start = start_of(straight_road()[0])
    plans = some_plans(start)
    controls = plans.controls.copy()
    controls[1, 12:] = np.nan
    broken = Plans.from_controls(controls, start.speed)
    drawn = footprints(broken, start, GRIDS["nano"])
    assert (drawn[1].sum((1, 2)) > 0).tolist() == [True] * 3 + [False] * 4
    assert torch.equal(drawn[[0, 2]], footprints(plans, start, GRIDS["nano"])[[0, 2]])
