"""The registry of readers, and the parts that readers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wmplan.contracts import LogReader
from wmplan.errors import InputError
from wmplan.readers import READERS, detect, reader
from wmplan.readers.assembly import differentiate, make_map, time_step
from wmplan.readers.checks import check_numbers, flags, numbers
from wmplan.scene import Feature, Log


@pytest.mark.parametrize("name", list(READERS))
def test_every_reader_fits_the_contract(name: str, tmp_path: Path) -> None:
    found = reader(name)
    assert isinstance(found, LogReader)
    assert found.name == name
    assert found.paths(tmp_path) == []
    assert found.paths(tmp_path / "missing") == []


def test_an_unknown_reader_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"reader 'wmod_json' is unknown, expected one of .*womd_json"):
        reader("wmod_json")


def test_a_reader_of_ones_own_is_found(tmp_path: Path) -> None:
    class Mine:
        name = "mine"

        def paths(self, source: Path) -> list[Path]:
            return [source] if source.suffix == ".mine" else []

        def read(self, path: Path) -> Iterator[Log]:
            return iter(())

    mine = Mine()
    assert detect(tmp_path / "a.mine") is None
    READERS["mine"] = mine
    try:
        assert detect(tmp_path / "a.mine") is mine
        with pytest.raises(ValueError, match="registered already"):
            READERS["mine"] = mine
    finally:
        del READERS["mine"]
    assert detect(tmp_path / "a.mine") is None


@given(
    start=hnp.arrays(float, 2, elements=st.floats(-50, 50)),
    speed=hnp.arrays(float, 2, elements=st.floats(-30, 30)),
    valid=hnp.arrays(bool, 12),
)
def test_differences_of_a_steady_drive_are_its_velocity(
    start: np.ndarray, speed: np.ndarray, valid: np.ndarray
) -> None:
    """Wherever a neighbour is seen; filler in between is never touched; a lone step stands still."""
    xy = start + speed * 0.1 * np.arange(12)[:, None]
    found = differentiate(np.where(valid[:, None], xy, -1e9)[None], valid[None], 0.1)[0]
    padded = np.concatenate([[False], valid, [False]])
    company = valid & (padded[:-2] | padded[2:])
    assert found[company] == pytest.approx(np.broadcast_to(speed, (company.sum(), 2)), abs=1e-6)
    assert (found[~company] == 0).all()


def test_differences_are_central_inside_and_one_sided_at_ends() -> None:
    x = np.array([0.0, 1.0, 4.0, 9.0])
    found = differentiate(np.stack([x, 0 * x], axis=1)[None], np.ones((1, 4), bool), 0.5)[0, :, 0]
    assert found.tolist() == [2.0, 4.0, 8.0, 10.0]


def test_a_step_is_the_median_and_gaps_are_faults() -> None:
    times = np.arange(20) * 0.1
    times[0] = 0.011  # Waymo's 20 s scenes begin with a shorter step
    assert time_step(times, "ts") == 0.1
    times[7:] += 0.3
    with pytest.raises(InputError, match=r"ts\[7\] comes 0.4 s after"):
        time_step(times, "ts")


def test_repeated_points_and_closing_points_are_merged() -> None:
    ring = np.array([[0, 0], [0, 0], [4, 0], [4, 4], [4, 4], [0, 0]], dtype=float)
    road = make_map("f", [(Feature.CROSSWALK, "c", ring), (Feature.LANE, "l", ring)], [])
    assert road.feature(0).tolist() == [[0, 0], [4, 0], [4, 4]]
    assert road.feature(1).tolist() == [[0, 0], [4, 0], [4, 4], [0, 0]]  # a line may come back to its start
    with pytest.raises(InputError, match="f: map has 2 features and none with any extent"):
        make_map("f", [(Feature.LANE, "l", np.zeros((3, 2))), (Feature.CROSSWALK, "c", ring[:3])], [])


def test_lanes_that_met_in_points_are_linked() -> None:
    """Also through two lanes of one point in a row; a ring of them ends."""
    dot, left, right = np.zeros((1, 2)), np.array([[-9.0, 0], [0, 0]]), np.array([[0.0, 0], [9, 0]])
    lanes = [(Feature.LANE, name, points) for name, points in zip("adeb", (left, dot, dot, right))]
    road = make_map("f", lanes, [("a", "d"), ("d", "e"), ("e", "d"), ("e", "b"), ("a", "d")])
    assert road.ids == ("a", "b")
    assert road.successors.tolist() == [[0, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 11.0, -11.0])
def test_the_first_bad_number_is_named(bad: float) -> None:
    values = np.zeros((3, 2))
    check_numbers(values + 10.0, "x", 10.0, "m")
    values[1, 1] = bad
    with pytest.raises(InputError, match=r"x\[1\]\[1\] is .*, expected a finite number of at most 10 m"):
        check_numbers(values, "x", 10.0, "m")


@pytest.mark.parametrize("values", ["12", [1, "2"], [1, None], [[1], [1, 2]], {"a": 1}, None, [True, False], 10**400])
def test_what_is_no_number_is_refused(values: object) -> None:
    with pytest.raises(InputError, match=r"^x (holds|is|has)"):
        numbers(values, (2,), "x")


@pytest.mark.parametrize(
    "values", [[True, False], [1, 0], [1.0, 0.0], np.array([1, 0], np.uint8), np.array([True, False])]
)
def test_flags_may_be_written_in_any_way(values: object) -> None:
    found = flags(values, 2, "x")
    assert found.dtype == bool
    assert found.tolist() == [True, False]


@pytest.mark.parametrize("values", ["10", [True], [1, 2], [0.5, 1], [None, 1], [[1], 0], [np.nan, 1.0], 1, None, "ab"])
def test_what_is_no_flag_is_refused(values: object) -> None:
    with pytest.raises(InputError, match=r"^x (holds|is|has)"):
        flags(values, 2, "x")
