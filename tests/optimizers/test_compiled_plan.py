"""A whole plan as one program: the same as ask and tell, honest about its cost, batched without a trace, refined."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planning_cases import arc_start, straight_start

from optimizers import Cem, CemConfig, Limits, Mppi, MppiConfig
from optimizers.compiled import plan, plan_scenes, round_keys
from optimizers.loop import plan as plan_by_asking
from optimizers.refine import Refine
from optimizers.rollout import Bicycle, StageCost, WholeCost, roll
from wmplan import bicycle
from wmplan.plans import Plans
from wmplan.risk import MEAN, CVaR, Mean, Worst
from wmplan.testing.optimizers import _Compilations

SAMPLERS = [Cem(), Mppi(), Cem(CemConfig(budget=96, rounds=2, decay=1.4))]
EXACT = Bicycle(rounded=True)
SMOOTH = Bicycle()


def _stage(scene, t, state, control):
    """10 m/s along y = `scene` m, gently."""
    effort = 0.02 * control[0] ** 2 + 50.0 * control[1] ** 2
    return 0.05 * (state[3] - 10.0) ** 2 + 0.15 * (state[1] - scene) ** 2 + effort


def _whole(scene, states, controls):
    later = [values[1:] for values in states]
    return jax.vmap(lambda *at: _stage(scene, 0, at[:-1], at[-1]))(*later, controls).sum(axis=0)


STAGE, WHOLE = StageCost(_stage), WholeCost(_whole)
SCENE = np.float32(1.0)


def _priced(scene):
    """The same cost in float64 over plans of the ask/tell loop."""

    def evaluate(round_, plans):
        states = [plans.states[:, 1:, i].astype(np.float64) for i in range(4)]
        controls = [plans.controls[:, :, i].astype(np.float64) for i in range(2)]
        return np.asarray(_stage(scene, 0, states, controls)).sum(axis=1)

    return evaluate


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.digest)
def test_one_program_plans_what_asking_and_telling_plans(sampler):
    for start in (straight_start(), arc_start(30.0, speed=6.0))[: 2 if sampler is SAMPLERS[0] else 1]:
        asked = plan_by_asking(sampler, _priced(1.0), start, 5)
        found = plan(sampler, EXACT, STAGE, 5, start, scene=SCENE)
        assert float(found.cost) == pytest.approx(asked.costs[asked.chosen], rel=2e-3)
        assert found.label() == asked.labels[asked.chosen]
        # A rounding may tip a control to the next place of the grid; rounds later that is a hair in the mean.
        np.testing.assert_allclose(np.asarray(found.controls), asked.plan().controls[0], atol=0.03)
        assert int(found.evaluations) == len(asked.costs) * sampler.horizon_steps


@pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=lambda s: s.name)
def test_cost_is_the_plans_own_and_no_finalist_is_cheaper(sampler):
    found = plan(sampler, EXACT, STAGE, 11, straight_start(), scene=SCENE)
    rolled = Plans.from_controls(np.asarray(found.controls)[None], 8.0)
    assert _priced(1.0)(0, rolled)[0] == pytest.approx(float(found.cost), rel=1e-4)
    np.testing.assert_allclose(np.stack([np.asarray(s) for s in found.states[:4]], axis=1), rolled.states[0], atol=2e-4)
    costs = np.asarray(found.finalist_costs)
    assert float(found.cost) == costs.min() == costs[int(found.chosen)]
    assert (np.diff(found.best_costs) <= 0.0).all()
    assert float(found.best_costs[-1]) == pytest.approx(costs[1], rel=1e-5)


def test_the_bicycle_is_the_projects_own():
    rng = np.random.default_rng(0)
    controls = rng.normal(size=(60, 30, 2)) * np.array([4.0, 0.15])
    controls[:20, :, 0] = -6.0
    wide = Limits(1e3, -6.0, 6.0, 0.3, 1e6, 1e9)
    start = straight_start(speed=5.0)
    rolled = roll(
        Bicycle(wide), STAGE, MEAN, tuple(jnp.asarray(v, jnp.float32) for v in Bicycle(wide).first(start)), 0.0,
        jnp.asarray(controls.transpose(1, 2, 0), jnp.float32), keep_states=True,
    )  # fmt: skip
    applied = np.asarray(rolled.controls, np.float64).transpose(2, 0, 1)
    np.testing.assert_allclose(applied[..., 0], np.clip(controls[..., 0], -6, 6), atol=1e-5)
    exact = bicycle.forward(np.tile([0.0, 0.0, 0.0, 5.0], (60, 1)), applied, 0.1)
    for i in (0, 1, 3):
        np.testing.assert_allclose(np.asarray(rolled.states[i]).T, exact[..., i], atol=3e-4)
    apart = np.asarray(rolled.states[2], np.float64).T - exact[..., 2]
    np.testing.assert_allclose(np.sin(0.5 * apart), 0.0, atol=1e-4)
    assert (exact[:20, -1, 3] == 0.0).all()


def test_scenes_in_one_program_are_the_scenes_alone_and_compile_nothing():
    sampler = Cem()
    starts = [straight_start(), arc_start(30.0, speed=6.0), arc_start(-50.0, speed=0.0), straight_start(speed=20.0)]
    scenes = np.array([1.0, -2.0, 0.0, 0.5], np.float32)
    alone = [plan(sampler, SMOOTH, STAGE, i, s, scene=scenes[i]) for i, s in enumerate(starts)]
    with _Compilations() as compiled:
        again = [plan(sampler, SMOOTH, STAGE, i, s, scene=scenes[i]) for i, s in reversed(list(enumerate(starts)))]
        plan(Cem(CemConfig()), Bicycle(), StageCost(_stage), 99, starts[0], scene=np.float32(7.0))
    assert compiled.count == 0
    together = plan_scenes(
        sampler, SMOOTH, STAGE, np.stack([round_keys(sampler, i) for i in range(4)]),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *[sampler.init(0, s) for s in starts]),
        tuple(jnp.asarray(v, jnp.float32) for v in zip(*[SMOOTH.first(s) for s in starts], strict=True)), scenes,
    )  # fmt: skip
    for i, (one, other) in enumerate(zip(alone, again[::-1], strict=True)):
        assert np.asarray(one.controls).tobytes() == np.asarray(other.controls).tobytes()
        assert np.asarray(one.controls).tobytes() == np.asarray(together.controls[i]).tobytes()
        assert float(one.cost) == float(together.cost[i])


def test_another_number_of_candidates_compiles_once():
    """Shapes are compiled for: a new K is a new program, the second call with it is not."""
    with _Compilations() as first:
        plan(Cem(CemConfig(budget=160)), SMOOTH, STAGE, 1, straight_start(), scene=SCENE)
    assert first.count >= 1
    with _Compilations() as second:
        plan(Cem(CemConfig(budget=160)), SMOOTH, STAGE, 2, arc_start(40.0), scene=SCENE)
    assert second.count == 0


def _broken(scene, t, state, control):
    price = _stage(scene["target"], t, state, control)
    return jnp.where(jnp.arange(price.shape[0]) == scene["row"], jnp.nan, price)


@pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=lambda s: s.name)
def test_nan_never_wins_and_is_counted(sampler):
    cost = StageCost(_broken)
    spoiled, clean = (
        plan(sampler, SMOOTH, cost, 5, straight_start(), scene={"target": SCENE, "row": np.int32(row)})
        for row in (17, 10_000)
    )
    assert np.array_equal(spoiled.nonfinite, [1, 1, 1, 1])
    assert np.array_equal(clean.nonfinite, [0, 0, 0, 0])
    assert bool(jnp.isfinite(spoiled.controls).all())
    assert float(spoiled.cost) <= 1.2 * float(clean.cost)


@pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=lambda s: s.name)
def test_nothing_finite_is_no_plan_with_its_count(sampler):
    found = plan(sampler, SMOOTH, STAGE, 5, straight_start(), scene=np.float32(np.nan))
    assert not bool(found.found)
    assert found.label() == "no plan"
    assert float(found.cost) == np.inf
    assert int(found.nonfinite.sum()) == 128
    assert bool(jnp.isfinite(found.controls).all())
    assert bool(jnp.isfinite(found.search.mean).all())


def test_vehicle_that_breaks_spoils_only_its_candidates():
    @dataclasses.dataclass(frozen=True)
    class Fragile:
        inner: Bicycle = SMOOTH

        def first(self, start):
            return self.inner.first(start)

        def step(self, state, control):
            state, applied = self.inner.step(state, control)
            return state, jnp.where(control[0] > 2.0, jnp.nan, applied)

    cost = StageCost(lambda scene, t, state, control: jnp.where(jnp.isnan(control[0]), jnp.inf, state[1] ** 2))
    found = plan(Mppi(), Fragile(), cost, 5, straight_start())
    assert int(found.nonfinite.sum()) > 0
    assert bool(jnp.isfinite(found.search.mean).all())
    assert bool(found.found)


def test_cost_of_the_whole_plan_equals_the_sum_of_stages():
    by_stage, by_whole = (plan(Cem(), SMOOTH, cost, 5, straight_start(), scene=SCENE) for cost in (STAGE, WHOLE))
    assert float(by_stage.cost) == pytest.approx(float(by_whole.cost), rel=1e-4)
    np.testing.assert_allclose(by_stage.controls, by_whole.controls, atol=0.02)


def _samples(scene, t, state, control):
    """Two imagined futures: the road ahead is free, or (`scene` more) fast driving is punished."""
    cheap = 0.05 * (state[3] - 14.0) ** 2 + 0.02 * control[0] ** 2 + 50.0 * control[1] ** 2
    return jnp.stack([cheap, cheap + scene * jnp.maximum(state[3] - 8.0, 0.0) ** 2])


def test_risk_over_samples_is_the_strategys():
    cost = StageCost(_samples)
    speeds = {}
    for risk in (Mean(), CVaR(0.75), Worst()):
        found = plan(Cem(), SMOOTH, cost, 5, straight_start(), scene=np.float32(0.1), risk=risk)
        speeds[risk] = float(found.states[3][-1])
    assert speeds[Mean()] > speeds[CVaR(0.75)] + 0.1 > speeds[Worst()] + 0.2


def test_a_replan_goes_on_from_the_search_before():
    sampler = Cem()
    before = plan(sampler, SMOOTH, STAGE, 5, straight_start(), scene=SCENE)
    warm = sampler.warm(before.search, straight_start(), 0)
    after = plan(sampler, SMOOTH, STAGE, 6, straight_start(), scene=SCENE, search=warm)
    # The elites are asked again, so nothing that was found is lost.
    assert float(after.cost) <= float(before.best_costs[-1]) * (1 + 1e-5)


def test_refinement_never_makes_a_finalist_dearer():
    for key in range(3):
        plain = plan(Cem(), SMOOTH, STAGE, key, straight_start(), scene=SCENE)
        fine = plan(Cem(), SMOOTH, STAGE, key, straight_start(), scene=SCENE, refine=Refine())
        assert np.array_equal(plain.finalist_costs, fine.finalist_costs)
        assert (np.asarray(fine.refined_costs) <= np.asarray(plain.finalist_costs)).all()
        assert float(fine.cost) < 0.98 * float(plain.cost)
        assert float(fine.cost) == pytest.approx(
            _priced(1.0)(0, Plans.from_controls(np.asarray(fine.controls)[None], 8.0))[0], rel=2e-2
        )
        limits = Limits()
        accel = np.asarray(fine.controls)[:, 0]
        assert (accel <= limits.max_accel_mps2).all()
        assert (accel >= limits.min_accel_mps2).all()


def test_refinement_finds_a_linear_quadratic_optimum_and_survives_a_cliff():
    """Speed and effort alone: convex in the accelerations, so gradient steps reach the closed form."""
    steps = 20
    wide = Bicycle(Limits(1e3, -1e3, 1e3, 1e3, 1e5, 1e9))
    cost = StageCost(lambda scene, t, state, control: (state[3] - 9.5) ** 2 + 0.5 * (control**2).sum(axis=0))
    ramp = np.tril(np.ones((steps, steps))) * 0.1
    optimum = np.linalg.solve(2.0 * ramp.T @ ramp + np.eye(steps), 2.0 * ramp.T @ np.full(steps, 1.5))
    config = CemConfig(budget=64, rounds=2, horizon_steps=steps, nominal="zero", limits=wide.limits)
    found = plan(Cem(config), wide, cost, 3, straight_start(), refine=Refine(steps=400, rate=0.02))
    np.testing.assert_allclose(found.controls[:, 0], optimum, atol=0.03)
    cliff = StageCost(lambda scene, t, state, control: jnp.sqrt(state[3] - 7.9) + 0.0 * control[1])
    edge = plan(Cem(config), wide, cliff, 3, straight_start(), refine=Refine(steps=400, rate=0.02))
    assert bool(edge.found)
    assert float(edge.cost) <= float(edge.finalist_costs.min())
    assert bool(jnp.isfinite(edge.controls).all())


def test_impossible_refinement_is_refused():
    with pytest.raises(ValueError, match=r"Refine\.steps is 0, expected 1 or more"):
        Refine(steps=0)
    with pytest.raises(ValueError, match=r"smoothing_steps is 4, expected 0 or an odd number from 5 to 30"):
        MppiConfig(smoothing_steps=4)
