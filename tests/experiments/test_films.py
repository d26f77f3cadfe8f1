"""Pictures of futures show what they say: the reaction in its colours, blocks of the right size in the right place."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from experiments.report.films import COMES, GOES, film_gif, plot_film, plot_reaction
from experiments.report.solids import extruded, plot_solids, walled
from wmplan.contracts import GRIDS

GRID = GRIDS["nano"]
MASKS = arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 9)))


def futures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A follower that is at one place under the first plan and further back under the second, and no footprints."""
    first, second = (np.zeros((3, 2, GRID.rows, GRID.cols), dtype=np.float32) for _ in range(2))
    first[:, 0, 30:33, 40:45] = 1.0
    second[:, 0, 30:33, 34:39] = 1.0
    return first, second, np.zeros((3, GRID.rows, GRID.cols), dtype=np.float32)


def test_change_is_red_where_somebody_left_and_blue_where_they_came():
    first, second, feet = futures()
    _, axes = plot_reaction(("on", "braking"), (first, second), (feet, feet), GRID, 0.5)
    change = axes[2, 2].get_images()[0].get_array()
    assert np.allclose(change[31, 42], GOES)
    assert np.allclose(change[31, 36], COMES)
    assert np.allclose(change[10, 10], 1.0)
    assert not np.allclose(axes[0, 2].get_images()[0].get_array(), axes[1, 2].get_images()[0].get_array())


def test_nothing_changes_between_a_future_and_itself():
    first, _, feet = futures()
    _, axes = plot_reaction(("one", "same"), (first, first), (feet, feet), GRID, 0.5)
    assert np.allclose(axes[2, 1].get_images()[0].get_array(), 1.0)


def test_the_ground_is_where_the_grid_says():
    first, _, feet = futures()
    _, axes = plot_film([("imagined", first)], feet, GRID, 0.5)
    left, right, bottom, top = axes[0, 0].get_images()[0].get_extent()
    assert (left, right) == (GRID.x_min, GRID.x_min + GRID.cols * GRID.cell)
    assert (bottom, top) == (GRID.y_min, GRID.y_min + GRID.rows * GRID.cell)


def test_a_moving_picture_has_a_frame_a_step_at_its_pace():
    first, second, feet = futures()
    second[1:, 0, :, 50] = 1.0  # GIF writers drop frames that equal the one before
    second[2:, 0, :, 60] = 1.0
    picture = Image.open(io.BytesIO(film_gif([("a", first), ("b", second)], feet, GRID, 0.5)))
    assert picture.n_frames == 3
    lasting = []
    for frame in range(3):
        picture.seek(frame)
        lasting.append(picture.info["duration"])
    assert lasting == [500, 500, 1700]


@given(MASKS)
def test_blocks_enclose_the_volume_of_their_cells(cells: np.ndarray):
    if cells.any():
        surface = walled(cells, GRID, 1.5)
        assert surface.volume == pytest.approx(cells.sum() * GRID.cell**2 * 1.5)


def test_walls_between_neighbours_are_left_out():
    one, two = np.ones((1, 1), bool), np.ones((1, 2), bool)
    assert len(walled(one, GRID, 1.0).faces) == 6
    assert len(walled(two, GRID, 1.0).faces) == 10


def test_a_block_stands_on_its_cell():
    cells = np.zeros((GRID.rows, GRID.cols), bool)
    cells[5, 11] = True
    corners = extruded(cells, GRID, 1.8).corners
    low = np.array([GRID.x_min + 11 * GRID.cell, GRID.y_min + 5 * GRID.cell, 0.0])
    assert corners.min(0) == pytest.approx(low, abs=1e-4)
    assert corners.max(0) == pytest.approx(low + [GRID.cell, GRID.cell, 1.8], abs=1e-4)


@pytest.mark.skipif(find_spec("pytorch3d") is None, reason="pytorch3d is an optional extra")
@given(MASKS)
def test_pytorch3d_gives_the_same_solids(cells: np.ndarray):
    if cells.any():
        theirs, ours = extruded(cells, GRID, 1.5), walled(cells, GRID, 1.5)
        assert abs(theirs.volume) == pytest.approx(abs(ours.volume), rel=1e-4)


def test_a_picture_in_3d_shows_vehicles_people_and_the_ego():
    first, _, feet = futures()
    first[:, 1, 50, 50] = 1.0
    feet[:, 30:32, 47:51] = 1.0
    _, axes = plot_solids([("imagined", first[2], feet[2]), ("nobody", 0 * first[2], 0 * feet[2])], GRID)
    assert len(axes[0].collections) == 3
    assert len(axes[1].collections) == 0
