"""Exact boxes against shapely."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplan.along import along_route
from wmplan.boxes import corners, overlaps, segment_touches

number = st.floats(-6.0, 6.0).map(lambda x: round(x, 6))  # shapely divides by denormal lengths
size = st.floats(0.1, 8.0)
box = st.tuples(number, number, st.floats(-4.0, 4.0), size, size)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(box, box), min_size=1, max_size=20))
def test_overlaps_agrees_with_shapely(pairs):
    a, b = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    shapes_a, shapes_b = shapely.polygons(corners(a)), shapely.polygons(corners(b))
    gap = shapely.distance(shapes_a, shapes_b)
    depth = shapely.area(shapely.intersection(shapes_a, shapes_b))
    clear = (gap > 1e-9) | (depth > 1e-9)  # a touch within rounding may go either way
    got = overlaps(a, b)
    np.testing.assert_array_equal(got[clear], (gap == 0.0)[clear])
    np.testing.assert_array_equal(got, overlaps(b, a))


def test_touching_to_a_tenth_of_a_millimetre():
    a = np.array([[0.0, 0.0, 0.0, 4.0, 2.0]] * 2)
    b = np.array([[3.9999, 0.0, np.pi, 4.0, 2.0], [4.0001, 0.0, np.pi, 4.0, 2.0]])
    assert overlaps(a, b).tolist() == [True, False]


def test_a_cross_without_corners_inside():
    # No corner of either lies in the other: corner tests miss it, separating axes do not.
    assert overlaps(np.array([[0.0, 0.0, 0.0, 10.0, 1.0]]), np.array([[0.0, 0.0, np.pi / 2, 10.0, 1.0]]))[0]


@settings(max_examples=100, deadline=None)
@given(number, number, number, number, box)
def test_segments_agree_with_shapely(x0, y0, x1, y1, target):
    line = shapely.LineString([(x0, y0), (x1, y1)])
    shape = shapely.polygons(corners(np.array([target])))[0]
    got = segment_touches(np.array([[x0, y0]]), np.array([[x1, y1]]), np.array([target]))[0]
    if shapely.distance(line, shape) > 1e-9:
        assert not got
    elif shapely.intersection(line, shape).length > 1e-9:
        assert got


def test_route_projection():
    route = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    x = np.array([5.0, 10.5, -3.0, 10.0, 12.0])
    y = np.array([1.0, 4.0, 0.0, 14.0, 0.0])
    use = along_route(x, y, route)
    np.testing.assert_allclose(use.along, [5.0, 14.0, -3.0, 24.0, 10.0])
    np.testing.assert_allclose(use.lateral, [1.0, 0.5, 0.0, 0.0, 2.0])
