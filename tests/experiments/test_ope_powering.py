"""A few executed scenes beside all imagined ones, as `wmplan ope executed=..` joins them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.ope.closed_loop import COLUMNS
from experiments.ope.joining import Joined
from experiments.ope.powering import chosen, powered, powered_table
from experiments.ope.preparing import Prepared
from experiments.ope.settings import Listed, OpeCommand, Settings
from wmplan.errors import InputError
from wmplan.statistics.intervals import student_t

SCENES, EXECUTED = 240, 40
POLICIES = ("better", "worse")
NAMES = [f"s{i:03d}" for i in range(SCENES)]


def run(executed: int) -> Prepared:
    command = OpeCommand(policies=POLICIES, scores=("pdms",), executed=executed)
    listed = tuple(Listed(name, name, "0") for name in NAMES)
    settings = Settings(command, (("model", "cv"),), POLICIES, listed, Path("nowhere"))
    return Prepared(settings, POLICIES, {}, "0", {})


def joined(real: np.ndarray, **imagined: np.ndarray) -> Joined:
    """Drives whose scores are these [P, S], every scene a group of its own."""
    parts = [
        pd.DataFrame({"scene_id": NAMES, "side": side, "policy": policy, "draw": 0})
        .assign(**dict.fromkeys(COLUMNS, 0.0))
        .assign(pdms=table[row])
        for side, table in {"road_3s": real, **imagined}.items()
        for row, policy in enumerate(POLICIES)
    ]
    nothing = pd.DataFrame()
    groups = dict(zip(NAMES, NAMES))
    return Joined(pd.concat(parts), nothing, groups, ("road_3s",), tuple(imagined), nothing)


def test_a_perfect_model_is_worth_all_scenes_a_useless_one_none_and_a_biased_one_is_corrected() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal([[0.7], [0.4]], 0.2, (2, SCENES))
    noise = rng.normal(0.0, 3.0, real.shape)
    both = joined(real, perfect=real, biased=0.5 * real - 4.0, useless=noise)
    rows = powered_table(powered(run(EXECUTED), both)).set_index(["estimator", "policy"])
    assert len(rows) == 6
    few = chosen(NAMES, EXECUTED, 0)
    assert few.sum() == EXECUTED
    for row, policy in enumerate(POLICIES):
        alone, everything = student_t(real[row, few]), student_t(real[row])
        for name in ("perfect", "biased", "useless"):
            found = rows.loc[(name, policy)]
            assert (found["alone"], found["alone_low"]) == pytest.approx((alone.value, alone.low))
            assert found["rest_true"] == pytest.approx(real[row, ~few].mean())
            assert (found["executed"], found["imagined"]) == (EXECUTED, SCENES - EXECUTED)
        width = everything.high - everything.low
        for name, weight in (("perfect", 1.0), ("biased", 2.0)):
            found = rows.loc[(name, policy)]
            assert found["value"] == pytest.approx(everything.value, abs=0.2 * width)
            assert found["high"] - found["low"] == pytest.approx(width, rel=0.2)
            assert found["weight"] == pytest.approx(weight * (SCENES - EXECUTED) / SCENES, rel=0.4)
        assert rows.loc[("useless", policy), "weight"] == pytest.approx(0.0, abs=0.03)
        assert rows.loc[("useless", policy), "width_share"] == pytest.approx(1.0, abs=0.1)


def test_the_truth_of_the_scenes_that_are_not_executed_is_not_looked_at() -> None:
    """Another truth of theirs changes no estimate, only the truth that stands beside it."""
    rng = np.random.default_rng(1)
    real = rng.normal(0.5, 0.2, (2, SCENES))
    imagined = real + rng.normal(0.0, 0.1, real.shape)
    other = np.where(chosen(NAMES, EXECUTED, 0)[None], real, -7.0)
    first, second = (powered_table(powered(run(EXECUTED), joined(true, model=imagined))) for true in (real, other))
    beside = [name for name in first.columns if name.startswith("rest_true")]
    pd.testing.assert_frame_equal(first.drop(columns=beside), second.drop(columns=beside))
    assert second["rest_true"].tolist() == pytest.approx([-7.0, -7.0])
    assert (first["rest_true"] > 0.0).all()


def test_executed_scenes_that_are_all_alike_say_nothing_of_how_sure_they_are() -> None:
    few = chosen(NAMES, EXECUTED, 0)
    real = np.where(few, 1.0, 0.5) * np.ones((2, 1))
    rows = powered_table(powered(run(EXECUTED), joined(real, model=real)))
    assert (rows["value"] == 1.0).all()
    assert rows[["low", "high", "alone_low", "alone_high", "width_share"]].isna().all(axis=None)
    assert (rows["reason"] == "the executed scenes are all alike: no interval").all()


def test_who_is_executed_depends_on_names_and_seed_alone_and_there_must_be_enough() -> None:
    few = chosen(NAMES, EXECUTED, 0)
    backwards = chosen(NAMES[::-1], EXECUTED, 0)
    assert (few == backwards[::-1]).all()
    assert (few != chosen(NAMES, EXECUTED, 1)).any()
    assert powered(run(0), joined(np.zeros((2, SCENES)), model=np.zeros((2, SCENES)))) == []
    for executed in (2, SCENES - 2):
        with pytest.raises(InputError, match=f"executed is {executed}, expected 0 or 3 to {SCENES - 3} of {SCENES}"):
            run(executed).settings.command.check_executed(SCENES)
    command = OpeCommand(executed=20)
    assert command.digest({}, "", "") == replace(command, executed=0).digest({}, "", "")
