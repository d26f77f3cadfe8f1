"""Forecast scores: perfect and empty forecasts, hand counts, pooling, pairing, what is skipped."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS, Grid, SceneRaster
from wmplan.forecast import (
    ForecastConfig,
    box_constant_velocity,
    compare,
    expected_calibration_error,
    score,
    score_frames,
    summary,
    table,
)
from wmplan.models import ConstantVelocity, Persistence
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize, rasterize_future
from wmplan.testing import Body, some_plans, straight_road

GRID = GRIDS["small"]


def scenes(count: int = 6) -> list[tuple[SceneRaster, torch.Tensor, torch.Tensor]]:
    """Rasters, truths, and the box forecast; two scenes a group."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        bodies = [
            Body(float(x), float(y), speed=float(v))
            for x, y, v in zip(rng.uniform(-10, 25, 5), rng.uniform(-12, 12, 5), rng.uniform(2, 9, 5), strict=True)
        ]
        scene, future = straight_road(bodies, name=f"s{i}")
        made.append(
            (rasterize(scene, GRID), rasterize_future(scene, future, GRID, 6), box_constant_velocity(scene, GRID, 6))
        )
    return made


def plain(history: torch.Tensor) -> SceneRaster:
    raster = rasterize(straight_road()[0], GRID)
    grid = Grid(history.shape[-2], history.shape[-1], 0.5, 0.0, 0.0)
    static = torch.zeros(8, *history.shape[-2:])
    return dataclasses.replace(raster, grid=grid, static=static, history=history)


def test_the_truth_itself_scores_one_and_boxes_at_constant_velocity_are_the_truth_here() -> None:
    for raster, truth, boxes in scenes(2):
        for forecast in (truth[:, :2], boxes):
            one = table([score_frames("truth", raster, forecast, truth)])
            vehicles = one[one["channel"] == "vehicle"]
            assert (vehicles["iou"] > 0.995).all()
            assert (vehicles["soft_iou"] > 0.995).all()
            assert (vehicles["brier"] < 1e-4).all()
            assert one[one["channel"] == "vru"]["iou"].isna().all()


def test_counts_on_a_grid_that_a_human_can_draw() -> None:
    truth = torch.zeros(2, 5, 4, 6)
    truth[:, 4, :, :5] = 1.0  # the last column is observed nowhere
    truth[1, 0, 1, 0:3] = 1.0
    truth[1, 1, 3, 0] = 1.0
    forecast = torch.zeros(2, 2, 4, 6)
    forecast[1, 0, 1, 1:4] = torch.tensor([0.8, 0.6, 0.9])
    forecast[1, 0, 1, 5] = 1.0
    forecast[0, 0, 0, 0] = 1.0  # at 0.5 s, which is not asked for
    config = ForecastConfig(seconds=(1.0,))
    found = score_frames("hand", plain(torch.zeros(4, 5, 4, 6)), forecast, truth, config=config)
    assert found.intersection[:, 0].tolist() == [2, 0, 2]
    assert found.union[:, 0].tolist() == [4, 1, 5]
    assert found.soft_intersection[0, 0] == pytest.approx(1.4)
    assert found.soft_union[0, 0] == pytest.approx(3 + 2.3 - 1.4)
    assert found.brier[0, 0] == pytest.approx(1 + 0.04 + 0.16 + 0.81)
    assert found.cells[:, 0].tolist() == [20, 9, 20]
    sure = -math.log2(1 - 1e-4)
    bits = -math.log2(1e-4) - math.log2(0.8) - math.log2(0.6) - math.log2(0.1) + 16 * sure
    assert found.nll[0, 0] == pytest.approx(bits)
    with pytest.raises(ValueError, match="expected 6"):
        score_frames("hand", plain(torch.zeros(4, 5, 4, 6)), forecast, truth)


def test_a_class_absent_in_both_is_skipped_and_one_imagined_from_nothing_is_zero() -> None:
    truth = torch.zeros(6, 5, 8, 8)
    truth[:, 4] = 1.0
    imagined = torch.zeros(6, 2, 8, 8)
    imagined[:, 1, 3, 3] = 1.0
    frame = table([score_frames("ghost", plain(torch.zeros(4, 5, 8, 8)), imagined, truth)])
    by_channel = frame.groupby("channel")["iou"].agg(["min", "count"])
    assert by_channel.loc["vehicle", "count"] == 0
    assert by_channel.loc["vru"].tolist() == [0.0, 3]
    assert frame["brier"].isna().all()  # nothing was ever there


def test_better_models_score_better_and_pairs_show_it() -> None:
    forecasts = []
    for i, (raster, truth, _) in enumerate(scenes()):
        plans = some_plans(raster.start).select([3])
        for model in (Persistence(GRID), ConstantVelocity(GRID)):
            forecasts.append(score(model, raster, truth, plans, NoiseBank(0, 2), group=f"g{i // 2}"))
    frame = table(forecasts)
    difference = compare(frame, "cv", "persistence", seed=0)
    vehicles = difference[difference["channel"] == "vehicle"].set_index(["score", "seconds"])
    for seconds in (1.0, 2.0, 3.0):
        assert vehicles.loc[("pooled_iou", seconds), "low"] > 0.2
        assert vehicles.loc[("iou", seconds), "low"] > 0.2
        assert vehicles.loc[("soft_iou", seconds), "low"] > 0.1
        assert vehicles.loc[("brier", seconds), "high"] < 0.0
        assert vehicles.loc[("nll", seconds), "high"] < 0.0
    back = compare(frame, "persistence", "cv", seed=0)
    np.testing.assert_allclose(back["value"], -difference["value"])

    summed = summary(frame, seed=0).set_index(["model", "channel", "seconds", "score"])
    part = frame[(frame["model"] == "cv") & (frame["channel"] == "vehicle") & (frame["seconds"] == 2.0)]
    pooled = summed.loc[("cv", "vehicle", 2.0, "pooled_iou")]
    assert pooled["value"] == pytest.approx(part["intersection"].sum() / part["union"].sum())
    assert pooled["low"] < pooled["value"] < pooled["high"]
    mean = summed.loc[("cv", "vehicle", 2.0, "iou")]
    assert mean["value"] == pytest.approx(part["iou"].mean())
    assert mean["scenes"] == 6
    other = summed.loc[("persistence", "vehicle", 2.0, "pooled_iou"), "value"]
    paired = vehicles.loc[("pooled_iou", 2.0), "value"]
    assert paired == pytest.approx(pooled["value"] - other)
    assert summed.loc[("cv", "vru", 2.0, "iou"), "reason"] == "no scene has a value"

    with pytest.raises(ValueError, match="no forecast of oracle"):
        compare(frame, "oracle", "cv", seed=0)
    fewer = frame[(frame["model"] == "cv") | (frame["scene_id"] != "s3")]
    assert (compare(fewer, "cv", "persistence", seed=0)["unpaired"] == 1).all()


def test_calibration_error_is_the_bias_of_a_biased_forecast() -> None:
    rng = np.random.default_rng(0)
    share = torch.from_numpy(rng.random((6, 2, 40, 40)).astype(np.float32))
    truth = torch.ones(6, 5, 40, 40)
    truth[:, :2] = share
    raster = plain(torch.zeros(4, 5, 40, 40))
    good = score_frames("good", raster, share, truth)
    assert expected_calibration_error([good]) == pytest.approx(0.0, abs=1e-9)
    for bias in (0.1, -0.05):
        bent = (share * 0.8 + 0.1) + bias
        truth[:, :2] = share * 0.8 + 0.1
        found = expected_calibration_error([score_frames("bent", raster, bent, truth)] * 2)
        assert found == pytest.approx(abs(bias), rel=1e-3)
    nothing = score_frames("none", raster, share * 0, torch.zeros(6, 5, 40, 40))
    assert math.isnan(expected_calibration_error([nothing]))


def test_the_mean_over_samples_is_scored() -> None:
    raster, truth, _ = scenes(1)[0]

    class Coin(Persistence):  # type: ignore[misc]
        """Either the truth, or nothing, by turns."""

        def imagine(self, context, plans, noise):
            imagined = super().imagine(context, plans, noise)
            occupancy = torch.zeros_like(imagined.occupancy)
            occupancy[:, ::2] = truth[:, :2]
            return dataclasses.replace(imagined, occupancy=occupancy)

    plans = some_plans(raster.start).select([3])
    config = ForecastConfig(threshold=0.6)
    half = score(Coin(GRID), raster, truth, plans, NoiseBank(0, 2), config=config)
    assert half.intersection.sum() == 0
    whole = score(Coin(GRID), raster, truth, plans, NoiseBank(0, 1), config=config)
    assert whole.intersection.sum() == whole.union.sum() > 0
