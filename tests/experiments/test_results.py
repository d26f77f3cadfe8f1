"""Measured figures on disk, and studies in MLflow."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import pytest

from experiments.results import record
from experiments.tracking import Headline, Page, Place, owed, upload


def test_a_figure_replaces_its_own_row_and_no_other(tmp_path: Path) -> None:
    record(7, "time, s", 3.0, None, None, "at most 5", True, "wmplan bench", tmp_path)
    record(7, "accuracy", 0.7, (0.6, 0.8), 40, "", None, "wmplan bench", tmp_path)
    path = record(7, "time, s", 9.0, None, None, "at most 5", False, "wmplan bench", tmp_path)
    rows = json.loads(path.read_text())
    assert [(row["figure"], row["value"], row["met"]) for row in rows] == [
        ("time, s", 9.0, False),
        ("accuracy", 0.7, None),
    ]
    assert rows[1]["interval"] == [0.6, 0.8]
    assert set(rows[0]) == {"figure", "value", "interval", "n", "goal", "met", "command", "commit", "hardware"}
    assert list(tmp_path.iterdir()) == [path]


def test_metric_names_become_legal_and_only_finite_numbers_are_logged() -> None:
    metrics = Headline("regret@1 (95 %)", 0.5, math.nan, math.inf).metrics()
    assert metrics == {"regret_1 _95 __": 0.5}


def test_a_store_out_of_reach_is_one_line_and_leaves_a_note(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError) as caught:
        upload(tmp_path, "http://127.0.0.1:9", "wmplan", Page("study", {}, {}, ()), [])
    assert "\n" not in str(caught.value)
    assert owed(tmp_path) == [Place("http://127.0.0.1:9", "wmplan")]


def test_the_same_study_is_logged_once_and_again_only_when_told(tmp_path: Path) -> None:
    page = Page("study", {"long": "x" * 7000}, {"tag": "t"}, (Headline("pdms", 0.5, 0.4, 0.6),))
    first = upload(tmp_path, "", "wmplan", page, [page])
    assert upload(tmp_path, "", "wmplan", page, [page]) == first
    assert upload(tmp_path, "", "wmplan", page, [page], again=True) != first
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        assert base.execute("select count(*) from runs").fetchone() == (4,)
