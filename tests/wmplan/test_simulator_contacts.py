"""Boxes in motion against shapely, closed forms and a much finer clock."""

import jax.numpy as jnp
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplan.boxes import corners
from wmplan.simulator.contacts import Boxes, between, touching, touching_while, within_step

number = st.floats(-6.0, 6.0).map(lambda x: round(x, 6))  # shapely divides by denormal lengths
size = st.floats(0.05, 8.0)
angle = st.floats(-4.0, 4.0)
box = st.tuples(number, number, angle, size, size)
pairs = st.lists(st.tuples(box, box), min_size=1, max_size=20)


def boxes(rows: np.ndarray) -> Boxes:
    x, y, yaw, length, width = np.asarray(rows, dtype=np.float64).T
    return Boxes(x, y, np.cos(yaw), np.sin(yaw), 0.5 * length, 0.5 * width)


def shapes(rows: np.ndarray) -> np.ndarray:
    return shapely.polygons(corners(np.asarray(rows, dtype=np.float64)))


def moved(rows: np.ndarray, move: np.ndarray) -> np.ndarray:
    return rows + np.concatenate([move, np.zeros((len(rows), 3))], axis=1)


@settings(max_examples=150, deadline=None)
@given(pairs)
def test_touching_agrees_with_shapely_and_is_symmetric(drawn):
    a, b = (np.array([pair[i] for pair in drawn]) for i in (0, 1))
    gap = shapely.distance(shapes(a), shapes(b))
    depth = shapely.area(shapely.intersection(shapes(a), shapes(b)))
    clear = (gap > 1e-9) | (depth > 1e-9)  # a touch within rounding may go either way
    found = touching(boxes(a), boxes(b))
    np.testing.assert_array_equal(found[clear], (gap == 0.0)[clear])
    np.testing.assert_array_equal(found, touching(boxes(b), boxes(a)))


@settings(max_examples=150, deadline=None)
@given(pairs, st.lists(st.tuples(number, number), min_size=20, max_size=20))
def test_a_step_without_turning_agrees_with_the_swept_area_of_shapely(drawn, moves):
    """Seen from one box the other sweeps the convex hull of where it was and where it is."""
    a, b = (np.array([pair[i] for pair in drawn]) for i in (0, 1))
    first, second = 4.0 * np.array(moves)[: len(a)], -np.array(moves)[::-1][: len(a)]
    after_a, after_b = moved(a, first), moved(b, second)
    hull = shapely.convex_hull(shapely.union(shapes(b), shapes(moved(b, second - first))))
    gap, depth = shapely.distance(shapes(a), hull), shapely.area(shapely.intersection(shapes(a), hull))
    clear = (gap > 1e-7) | (depth > 1e-7)
    found = within_step((boxes(a), boxes(after_a)), (boxes(b), boxes(after_b)))
    np.testing.assert_array_equal(found.touch[clear], (gap == 0.0)[clear])
    there = touching(between(boxes(a), boxes(after_a), found.share), between(boxes(b), boxes(after_b), found.share))
    assert there[found.touch & (depth > 1e-7)].all(), "looked at where they do not touch"


@settings(max_examples=40, deadline=None)
@given(pairs, st.lists(st.tuples(number, number, st.floats(-0.3, 0.3)), min_size=20, max_size=20))
def test_turning_invents_no_contact_and_overlooks_only_grazes(drawn, moves):
    a, b = (np.array([pair[i] for pair in drawn]) for i in (0, 1))
    turn = np.array(moves)[: len(a)]
    after_a, after_b = a.copy(), b.copy()
    after_a[:, :3] += turn
    after_b[:, :3] -= turn[::-1]
    touch = within_step((boxes(a), boxes(after_a)), (boxes(b), boxes(after_b))).touch
    near, deep = np.full(len(a), np.inf), np.zeros(len(a), dtype=bool)
    margin_a, margin_b = (
        0.5 * np.hypot(rows[:, 3], rows[:, 4]) * np.tan(0.5 * abs(ends[:, 2] - rows[:, 2]))
        for rows, ends in ((a, after_a), (b, after_b))
    )
    for share in np.linspace(0.0, 1.0, 101)[:, None]:
        now_a, now_b = a + share * (after_a - a), b + share * (after_b - b)
        near = np.minimum(near, shapely.distance(shapes(now_a), shapes(now_b)))
        # Deeper than both margins on every side, whichever way the mean heading differs.
        deep |= touching(boxes(now_a).smaller(2.001 * margin_a + 1e-6), boxes(now_b).smaller(2.001 * margin_b + 1e-6))
    a_hundredth = np.hypot(*(2.0 * turn[:, :2]).T) / 100.0 + 0.02
    assert (near[touch] <= a_hundredth[touch]).all(), "a contact that never was"
    assert touch[deep].all(), "a deep contact was overlooked"


def test_a_thin_fast_box_does_not_slip_through_between_two_steps():
    car = boxes([[0.0, 0.0, 0.0, 4.8, 2.0]])
    before, after = boxes([[1.0, -3.0, np.pi / 2, 1.8, 0.3]]), boxes([[1.0, 3.0, np.pi / 2, 1.8, 0.3]])
    assert not touching(car, before)[0]
    assert not touching(car, after)[0]
    found = within_step((car, car), (before, after))
    assert found.touch[0]
    assert found.share[0] == pytest.approx(0.5)
    beside = [x._replace(x=np.array([2.56])) for x in (before, after)]
    assert not within_step((car, car), (beside[0], beside[1])).touch[0], "1 cm ahead of the bumper"
    assert within_step(
        (car, car), (beside[0]._replace(x=np.array([2.54])), beside[1]._replace(x=np.array([2.54])))
    ).touch


def test_who_leaves_while_turning_has_not_touched():
    """At the mean heading its corner would reach 25 cm into the neighbour, where it was before it turned."""
    before, after = boxes([[0.0, 0.0, 0.0, 4.8, 2.0]]), boxes([[0.0, -3.0, 0.3, 4.8, 2.0]])
    neighbour = boxes([[0.0, 1.6, 0.0, 6.0, 1.0]])
    middle = boxes([[0.0, 0.0, 0.15, 4.8, 2.0]])
    assert touching(middle, neighbour)[0]
    assert not within_step((before, after), (neighbour, neighbour)).touch[0]
    nearer = neighbour._replace(y=neighbour.y - 0.7)
    assert within_step((before, after), (nearer, nearer)).touch[0]


def test_time_to_contact_in_closed_form():
    """A gap of 7.2 m closes at 9 m/s after 0.8 s; the boxes are clear of each other after 16.8 m."""
    ego, other = boxes([[0.0, 0.0, 0.3, 4.8, 2.0]]), 12.0 * np.array([np.cos(0.3), np.sin(0.3)])
    ahead = boxes([[*other, 0.3 + np.pi, 4.8, 2.0]])
    begin, end = touching_while(ego, ahead, *(-9.0 * other[:, None] / 12.0))
    assert begin[0] == pytest.approx(0.8)
    assert end[0] == pytest.approx(16.8 / 9.0)
    begin, end = touching_while(ego, ahead, *(9.0 * other[:, None] / 12.0))
    assert (begin[0], end[0]) == pytest.approx((-16.8 / 9.0, -0.8)), "moving away: it was in the past"
    begin, end = touching_while(ego, ahead, np.array([-other[1]]), np.array([other[0]]))
    assert begin[0] > end[0], "sideways: never"
    begin, end = touching_while(ego, ego, np.zeros(1), np.zeros(1))
    assert (begin[0], end[0]) == (-np.inf, np.inf), "at rest in contact: always"


def test_the_same_functions_serve_compiled_code():
    draw = np.random.default_rng(0)
    a, b = (draw.uniform(-4.0, 4.0, (400, 5)) * [1, 1, 1, 0, 0] + [0, 0, 0, 4.0, 1.8] for _ in range(2))
    single = [Boxes(*(jnp.asarray(field) for field in boxes(rows))) for rows in (a, b)]
    exact, found = touching(boxes(a), boxes(b)), touching(*single)
    assert (np.asarray(found) != exact).sum() <= 1
    assert 50 < exact.sum() < 350
    step = within_step((single[0], single[0].ahead(jnp.ones(400))), (single[1], single[1]))
    want = within_step((boxes(a), boxes(a).ahead(np.ones(400))), (boxes(b), boxes(b)))
    assert (np.asarray(step.touch) != want.touch).sum() <= 1
    assert want.touch.sum() > exact.sum()


def test_touching_agrees_with_pytorch3d():
    pytest.importorskip("pytorch3d", reason="not on the registries: it is built from source where wanted")
    import torch
    from pytorch3d.ops import box3d_overlap

    draw = np.random.default_rng(1)
    rows = [draw.uniform(-4.0, 4.0, (60, 5)) * [1, 1, 1, 0, 0] + [0, 0, 0, 4.0, 1.8] for _ in range(2)]

    def solid(flat: np.ndarray) -> torch.Tensor:
        """Eight corners in the order of its unit cube: the floor counter-clockwise, then the ceiling."""
        ring = corners(flat)[:, ::-1]
        floor, ceiling = (np.concatenate([ring, np.full((*ring.shape[:2], 1), z)], axis=-1) for z in (0.0, 1.0))
        return torch.tensor(np.concatenate([floor, ceiling], axis=1), dtype=torch.float32)

    volume = np.diagonal(box3d_overlap(solid(rows[0]), solid(rows[1]))[0].numpy())
    clear = (volume > 1e-3) | (shapely.distance(shapes(rows[0]), shapes(rows[1])) > 1e-3)
    np.testing.assert_array_equal(touching(boxes(rows[0]), boxes(rows[1]))[clear], (volume > 1e-3)[clear])
