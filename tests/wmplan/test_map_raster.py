"""Map layers against closed forms, shapely areas, symmetries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shapely import unary_union
from shapely.geometry import LineString, Polygon, box

from wmplan.contracts import Grid
from wmplan.frames import Pose
from wmplan.map_raster import draw_map, map_observed, mirrored_static, patches_seen
from wmplan.scene import Feature, Light, RoadMap

SQUARE = Grid(80, 80, 0.5, -20.0, -20.0)
DRIVABLE, CENTRE, COS, SIN, CROSSWALK, RED, OBSTACLE, ROUTE = range(8)


def centres(grid: Grid = SQUARE) -> tuple[np.ndarray, np.ndarray]:
    x = grid.x_min + (np.arange(grid.cols) + 0.5) * grid.cell
    y = grid.y_min + (np.arange(grid.rows) + 0.5) * grid.cell
    return np.meshgrid(x, y)


def star(rng: np.random.Generator, reach: float) -> np.ndarray:
    """A simple polygon, not convex, around a random place."""
    angles = np.sort(rng.uniform(-np.pi, np.pi, 12))
    radius = rng.uniform(0.3, 1.0, 12)[:, None] * 8.0
    return rng.uniform(-reach, reach, 2) + radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def test_distances_to_lanes_are_exact_even_where_points_are_far_apart() -> None:
    lanes = [np.array([[-300.0, 3.0], [300.0, 3.0]]), np.array([[-7.0, -18.0], [9.0, -2.0], [9.0, 19.0]])]
    layers = draw_map(RoadMap.build([(Feature.LANE, str(i), p) for i, p in enumerate(lanes)]), SQUARE).numpy()
    x, y = centres()
    shapes = [LineString(lane) for lane in lanes]
    points = np.stack([x.ravel(), y.ravel()], 1)
    exact = np.array([min(shape.distance(p) for shape in shapes) for p in map(_point, points)]).reshape(x.shape)
    near = exact < 11.0
    np.testing.assert_allclose(layers[CENTRE][near], np.exp(-exact[near] / 2.0), atol=0.01)
    np.testing.assert_allclose(layers[DRIVABLE], 1 / (1 + np.exp(np.clip((exact - 2.0) / 0.125, -50, 50))), atol=0.15)
    assert layers[DRIVABLE][exact < 1.5].min() > 0.95
    assert layers[DRIVABLE][exact > 2.5].max() < 0.05


def _point(xy: np.ndarray) -> object:
    from shapely.geometry import Point

    return Point(xy)


def test_direction_is_the_nearest_lanes_and_ends_beyond_four_metres() -> None:
    yaw = 0.5
    along = np.linspace(-60, 60, 30)[:, None] * [np.cos(yaw), np.sin(yaw)]
    back = -along + 6.0 * np.array([-np.sin(yaw), np.cos(yaw)])
    road = RoadMap.build([(Feature.LANE, "a", along), (Feature.LANE, "b", back)])
    layers = draw_map(road, SQUARE).numpy()
    x, y = centres()
    offset = -np.sin(yaw) * x + np.cos(yaw) * y
    expected = np.where(offset < 3.0, 1.0, -1.0) * ((offset > -4.0) & (offset < 10.0))
    clear = (np.abs(offset - 3.0) > 0.01) & (np.abs(offset + 4.0) > 0.01) & (np.abs(offset - 10.0) > 0.01)
    np.testing.assert_allclose(layers[COS][clear], (expected * np.cos(yaw))[clear], atol=1e-5)
    np.testing.assert_allclose(layers[SIN][clear], (expected * np.sin(yaw))[clear], atol=1e-5)


def test_filled_areas_agree_with_shapely() -> None:
    rng = np.random.default_rng(4)
    window = box(-20, -20, 20, 20)
    for _ in range(10):
        polygons = [star(rng, 18.0) for _ in range(4)]
        features = [(Feature.DRIVABLE, str(i), p) for i, p in enumerate(polygons[:2])]
        features += [(Feature.LANE_AREA, str(i), np.vstack([p, p[:1]])) for i, p in enumerate(polygons[2:])]
        features += [(Feature.CROSSWALK, "c", polygons[0])]
        layers = draw_map(RoadMap.build(features), SQUARE)
        union = unary_union([Polygon(p).buffer(0) for p in polygons]).intersection(window)
        assert layers[DRIVABLE].sum().item() * 0.25 == pytest.approx(union.area, rel=0.03)
        alone = Polygon(polygons[0]).buffer(0).intersection(window)
        assert layers[CROSSWALK].sum().item() * 0.25 == pytest.approx(alone.area, rel=0.03, abs=1.0)


def test_every_cell_of_a_polygon_is_decided_by_its_centre() -> None:
    polygon = np.array([[-3.1, -2.2], [6.3, -1.1], [1.2, 7.4]])
    layers = draw_map(RoadMap.build([(Feature.CROSSWALK, "c", polygon)]), SQUARE).numpy()[CROSSWALK]
    fine = Grid(160, 160, 0.25, -20.0, -20.0)
    x, y = centres(fine)
    inside = np.array([Polygon(polygon).contains(_point(p)) for p in np.stack([x.ravel(), y.ravel()], 1)])
    np.testing.assert_array_equal(layers, inside.reshape(80, 2, 80, 2).mean((1, 3)))


def test_only_red_and_yellow_lights_show() -> None:
    points = np.array([[2.0, 2.0], [-8.0, 4.0], [10.0, -9.0], [0.0, -15.0]])
    states = np.array([Light.RED, Light.GREEN, Light.YELLOW, Light.UNKNOWN], dtype=np.int8)
    red = draw_map(RoadMap.build([]), SQUARE, light_points=points, light_states=states).numpy()[RED]
    x, y = centres()
    shown = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / 8.0) for a, b in points[[0, 2]]]
    np.testing.assert_allclose(red, np.maximum(*shown), atol=1e-6)


def test_the_route_layer_falls_off_from_the_route() -> None:
    route = np.array([[0.0, 0.0], [50.0, 0.0]])
    layer = draw_map(RoadMap.build([]), SQUARE, route=route).numpy()[ROUTE]
    x, y = centres()
    distance = np.hypot(np.minimum(x, 0.0), y)
    np.testing.assert_allclose(layer[distance < 11], np.exp(-distance / 2.0)[distance < 11], atol=1e-5)


def crossing() -> RoadMap:
    rng = np.random.default_rng(5)
    lane = np.stack([np.linspace(-30, 30, 25), 3.0 * np.sin(np.linspace(-3, 3, 25)) + 2.3], 1)
    return RoadMap.build(
        [(Feature.LANE, "a", lane), (Feature.DRIVABLE, "d", star(rng, 5.0)), (Feature.CROSSWALK, "c", star(rng, 9.0))]
    )


def test_quarter_turns_and_mirror_images_of_the_map() -> None:
    road, route = crossing(), np.array([[0.0, 0.0], [13.0, 4.0]])
    drawn = draw_map(road, SQUARE, route=route)
    turn = Pose(0.0, 0.0, -np.pi / 2)
    turned = draw_map(road.seen_from(turn), SQUARE, route=turn.to_local(route))
    expected = torch.rot90(drawn, -1, (1, 2))
    expected[COS], expected[SIN] = -expected[SIN].clone(), expected[COS].clone()
    assert (turned - expected).abs().mean() < 1e-3
    flip = np.array([1.0, -1.0])
    other = RoadMap(road.kinds, road.ids, road.offsets, road.points * flip, road.successors)
    assert (draw_map(other, SQUARE, route=route * flip) - mirrored_static(drawn)).abs().mean() < 1e-3


def test_an_empty_map_is_empty_and_observed_nowhere() -> None:
    empty = RoadMap.build([])
    layers = draw_map(empty, SQUARE)
    assert layers.abs().sum() == 0
    assert map_observed(empty, layers, SQUARE).sum() == 0
    scraps = [(Feature.LANE, "a", np.zeros((1, 2))), (Feature.DRIVABLE, "b", np.zeros((2, 2)))]
    assert draw_map(RoadMap.build(scraps), SQUARE).abs().sum() == 0
    far = RoadMap.build([(Feature.LANE, "a", np.array([[500.0, 0.0], [600.0, 0.0]]))])
    assert draw_map(far, SQUARE).abs().sum() == 0


def test_observed_reaches_one_patch_around_what_is_known() -> None:
    seen = patches_seen(torch.tensor([[1.0, 1.0], [np.nan, 0.0], [99.0, 0.0]]), torch.ones(3, dtype=torch.bool), SQUARE)
    expected = torch.zeros(80, 80)
    expected[16:64, 16:64] = 1.0
    assert torch.equal(seen, expected)
    road = RoadMap.build(
        [(Feature.DRIVABLE, "d", np.array([[-90.0, 12.5], [90.0, 12.5], [90.0, 90.0], [-90.0, 90.0]]))]
    )
    known = map_observed(road, draw_map(road, SQUARE), SQUARE)
    assert known[48:].min() == 1.0
    assert known[:48].max() == 0.0
