"""The frozen pool of a scene, and who gives its candidates their terms."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from critics import Composite, TaskCritic, VistaCritic
from experiments.audit.contenders import SCENE_MEAN, SHUFFLED, ceiling, placebos
from experiments.audit.pooling import DISTANCES_M, Pool, pool_of
from experiments.audit.shards import POOLS, read_plans, shard, write_plans
from experiments.audit.steps import scoring
from experiments.perturb import end_distance
from experiments.scoring import Scorer
from rollout_cache import NoCache
from wmplan.contracts import GRIDS, Context, Imagined, SceneRaster
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.scene import Future, Scene
from wmplan.start import start_of
from wmplan.testing.scenes import Body, straight_road

SIZE = 48


@pytest.fixture(scope="module")
def scene() -> tuple[Scene, Future]:
    return straight_road([Body(20.0, 0.0, speed=8.0), Body(-15.0, 3.5, speed=9.0)], 9.0, "audited")


@pytest.fixture(scope="module")
def pool(scene) -> Pool:
    return pool_of(*scene, SIZE, 30, seed=3)


class Obliging:
    """Imagines a block ahead, the likelier the farther the candidate comes: it depends on the candidate alone."""

    name = digest = "obliging"
    grid, horizon = GRIDS["nano"], 6

    def encode(self, raster: SceneRaster) -> Context:
        return Context(raster, None)

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        ends = torch.from_numpy(plans.states[:, -1, 0] / 100.0)[:, None, None, None, None, None].clamp(0.0, 1.0)
        occupancy = torch.zeros(len(plans), noise.samples, 6, 2, self.grid.rows, self.grid.cols)
        occupancy[..., 30:34, 30:38] = ends
        latents = torch.arange(noise.samples, dtype=torch.float32)[None, :, None, None] * ends[..., 0, 0]
        return Imagined(occupancy, torch.zeros_like(occupancy), latents.expand(-1, -1, 6, 4), self.grid)


@pytest.fixture
def scorer() -> Scorer:
    return Scorer(Obliging(), Composite([TaskCritic(), VistaCritic()]), NoCache(), 0, 2, 2**31, False)


# ----------------------------------------------------------------------------------------------------------- pool


def test_a_pool_is_full_different_everywhere_and_the_same_every_time(scene, pool):
    again = pool_of(*scene, SIZE, 30, seed=3)
    assert again.plans.controls.tobytes() == pool.plans.controls.tobytes()
    assert again.kinds == pool.kinds
    assert len(pool.plans) == SIZE == len({plan.tobytes() for plan in pool.plans.controls})
    other = pool_of(*scene, SIZE, 30, seed=4)
    assert other.plans.controls.tobytes() != pool.plans.controls.tobytes()
    counts = Counter(pool.kinds)
    assert counts["logged"] == 1
    assert counts["perturbed"] == SIZE // 4
    assert counts["shaken"] == SIZE // 16
    assert {"standing", "policy", "lattice", "pool", "cem"} <= set(counts)


def test_perturbations_end_where_they_were_meant_to(pool):
    logged = pool.plans.select([pool.kinds.index("logged")])
    rows = [i for i, kind in enumerate(pool.kinds) if kind == "perturbed"]
    meant = pool.distance_m[rows]
    assert set(meant) == set(DISTANCES_M)
    np.testing.assert_allclose(end_distance(pool.plans.select(rows), logged), meant, rtol=0.1)
    assert np.isnan(np.delete(pool.distance_m, rows)).all()


def test_standing_still_stands(pool):
    rows = [i for i, kind in enumerate(pool.kinds) if kind == "standing"]
    ends = pool.plans.states[rows, -1, 3]
    assert len(rows) == 2
    assert ends.min() == pytest.approx(0.0, abs=0.06), "6 m/s2 for 3 s is more than 9 m/s"
    assert ends.max() == pytest.approx(9.0 - 7.5, abs=0.06)


def test_a_log_that_does_not_show_the_ego_gives_a_full_pool_without_it(scene):
    known, future = scene
    valid = future.ego.valid.copy()
    valid[0, 10:] = False
    found = pool_of(known, replace(future, ego=replace(future.ego, valid=valid)), SIZE, 30, seed=3)
    assert len(found.plans) == SIZE
    assert not {"logged", "perturbed", "shaken"} & set(found.kinds)


def test_plans_come_back_from_their_controls(scene, pool, tmp_path: Path):
    path = shard(tmp_path, POOLS, "a/scene with a name")
    write_plans(path, pool.plans)
    again = read_plans(path, start_of(scene[0]).speed)
    np.testing.assert_array_equal(again.controls, pool.plans.controls)
    np.testing.assert_array_equal(again.states, pool.plans.states)


# ----------------------------------------------------------------------------------------------------- contenders


def test_placebos_lose_what_was_imagined_for_a_candidate_and_keep_what_it_does(scene, pool, scorer):
    here = scorer.scene(scene[0])
    found = placebos(here, pool.plans, "own", seed=0)
    own, shuffled, mean = (found[name] for name in ("own", SHUFFLED, SCENE_MEAN))
    for column in ("progress_m", "comfort", "drivable", "lateral_m"):
        np.testing.assert_array_equal(shuffled.column(column), own.column(column))
        np.testing.assert_array_equal(mean.column(column), own.column(column))
    # Vista's reward looks at nothing but latents, so it moves with them.
    np.testing.assert_array_equal(np.sort(shuffled.column("vista_reward")), np.sort(own.column("vista_reward")))
    assert (shuffled.column("vista_reward") != own.column("vista_reward")).mean() > 0.5
    assert np.ptp(own.column("vista_reward")) > 0.0
    assert np.ptp(mean.column("vista_reward")) == 0.0
    np.testing.assert_array_equal(own.values, here.terms(pool.plans).values)


def test_the_true_futures_of_others_are_shuffled_as_the_imagined_ones_are(scene, pool, scorer):
    here = scorer.scene(scene[0])
    told = ceiling(here, pool.plans, seed=0)
    imagined = placebos(here, pool.plans, "own", seed=0)
    for name, other in (("road", "own"), ("road shuffled", SHUFFLED)):
        for column in ("collision_cost", "progress_m", "ttc"):
            np.testing.assert_array_equal(told[name].column(column), imagined[other].column(column))
        assert (told[name].column("vista_reward") == 1.0).all(), "all samples of the truth agree"


def test_a_process_that_could_read_the_futures_scores_nothing(place: Path, tmp_path: Path):
    from experiments.audit.prepared import prepare
    from experiments.audit.settings import AuditCommand
    from experiments.logs import LogsConfig

    logs = LogsConfig(format="store", path=str(place / "store"))
    audit = prepare(AuditCommand(logs=logs, model="cv", out=str(tmp_path / "out"), cache=str(tmp_path)))
    with pytest.raises(RuntimeError, match="can open the sealed futures"):
        scoring(audit)
