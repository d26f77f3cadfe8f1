"""Which figures of a validation are recorded, and when a goal counts as met."""

import json
import math

import pytest

from experiments.validate.figures import record_figures
from experiments.validate.instrument import ACCURACY, LONG_RUN, REACTION, TWIN, Result
from wmplan.statistics import Measure


def rows_of(tmp_path, *results: tuple[str, str, str, float, float, float]) -> dict[str, dict]:
    """The rows that are written for (part, metric, model, value, low, high), by figure."""
    made = [
        Result(part, model, Measure(value, 30, "", metric, low, high, "", None))
        for part, metric, model, value, low, high in results
    ]
    record_figures(made, "mine", 120, "data", "command", str(tmp_path))
    return {row["figure"]: row for row in json.loads((tmp_path / "4.json").read_text())}


def test_a_difference_is_met_by_its_interval_and_a_value_by_itself(tmp_path):
    rows = rows_of(
        tmp_path,
        (ACCURACY, "iou, any, 1 s, minus cv", "mine", 0.05, 0.01, 0.09),
        (ACCURACY, "iou, any, 2 s, minus cv", "mine", 0.05, -0.01, 0.09),
        (REACTION, "reaction Spearman, tracked", "mine", 0.985, 0.5, 1.0),
    )
    assert rows["mine: iou, any, 1 s, minus cv (data)"]["met"] is True
    assert rows["mine: iou, any, 2 s, minus cv (data)"]["met"] is False
    assert rows["mine: reaction Spearman, tracked (data)"]["met"] is True
    assert rows["mine: reaction Spearman, tracked (data)"]["interval"] == [0.5, 1.0]


def test_who_stands_beside_the_model_has_no_goal_and_the_twin_its_own_row(tmp_path):
    slope = "reaction Spearman, tracked"
    rows = rows_of(
        tmp_path,
        *((part, slope, name, 0.5, 0.4, 0.6) for part in (REACTION, TWIN) for name in ("mine", "oracle", "cv")),
    )
    assert rows["mine: reaction Spearman, tracked (data)"]["met"] is False
    assert rows["oracle: reaction Spearman, tracked (data)"]["met"] is None
    assert rows["mine: reaction Spearman, tracked, wrong-parameter twin (data)"]["goal"] == "at least 0.9"
    assert len(rows) == 1 + 6


def test_what_was_not_measured_has_no_row_and_what_has_no_value_misses(tmp_path):
    rows = rows_of(tmp_path, (REACTION, "spurious effect, m", "mine", math.nan, math.nan, math.nan))
    assert rows["mine: spurious effect, m (data)"]["value"] == "none"
    assert rows["mine: spurious effect, m (data)"]["met"] is False
    assert set(rows) == {"mine: spurious effect, m (data)", "mine: scenes measured (data)"}


def test_the_relative_gain_is_over_constant_velocity(tmp_path):
    rows = rows_of(
        tmp_path,
        (ACCURACY, "iou, any, 3 s", "mine", 0.66, 0.6, 0.7),
        (ACCURACY, "iou, any, 3 s", "cv", 0.60, 0.5, 0.7),
    )
    gain = rows["mine: iou, any, 3 s, relative gain over cv (data)"]
    assert gain["value"] == pytest.approx(0.1)
    assert gain["met"] is True


def test_the_long_run_is_told_in_both_ways_and_held_to_its_goal_at_10_s(tmp_path):
    rows = rows_of(
        tmp_path,
        *((part, f"still there after {at} s", "mine", 0.95 if at < 20 else 0.3, 0.2, 1.0)
          for part in LONG_RUN.values() for at in (3, 10, 20, 45)),
    )  # fmt: skip
    assert rows["mine: still there after 10 s, imagined on and on (data)"]["met"] is True
    assert rows["mine: still there after 10 s, re-grounded every 6 s (data)"]["goal"] == "at least 0.9"
    assert rows["mine: still there after 45 s, imagined on and on (data)"]["met"] is None
    assert len(rows) == 1 + 8
