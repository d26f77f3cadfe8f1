"""Laws of the sampling planners: limits of the temperature, closed forms, noise, drivable samples."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from planning_cases import arc_start, simple_cost, straight_start

from optimizers.cem import Cem, CemConfig
from optimizers.limits import Limits, project, reasons, speeds
from optimizers.loop import plan
from optimizers.motion import motion_of
from optimizers.mppi import Mppi, MppiConfig, smoother, temperature_for, weights
from optimizers.noise import POWER_KEPT, coloured, factor, normals
from wmplan import bicycle
from wmplan.contracts import Infeasible
from wmplan.plans import Plans
from wmplan.randomness import fold_in

WIDE = Limits(1e3, -1e3, 1e3, 1e3, 1e5, 1e9)
COSTS = jnp.asarray([3.0, 1.0, jnp.inf, 2.0, jnp.nan])


def test_temperature_to_zero_is_argmin():
    assert np.array_equal(weights(COSTS, jnp.float32(1e-6)), [0, 1, 0, 0, 0])


def test_temperature_to_infinity_is_the_mean_of_what_is_finite():
    np.testing.assert_allclose(weights(COSTS, jnp.float32(1e9)), [1 / 3, 1 / 3, 0, 1 / 3, 0], atol=1e-6)


def test_no_finite_cost_gives_no_weight():
    assert np.array_equal(weights(jnp.full(3, jnp.inf), jnp.float32(1.0)), [0, 0, 0])


@pytest.mark.parametrize("wanted", [2.0, 8.0, 50.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_temperature_meets_the_effective_sample_size(wanted, scale):
    costs = jnp.asarray(np.random.default_rng(0).gamma(2.0, scale, 100) + 7 * scale, jnp.float32)
    weight = np.asarray(weights(costs, temperature_for(costs, wanted)), np.float64)
    assert 1 / (weight**2).sum() == pytest.approx(wanted, rel=1e-3)
    assert weight.argmax() == int(jnp.argmin(costs))


def _free(k: int = 512, **fields):
    return dict(
        budget=k * 5, rounds=5, horizon_steps=20, nominal="zero", accel_std_mps2=1.0, curvature_std_pm=1.0,
        lateral_std_mps2=1e9, limits=WIDE, noise_exponent=0.0, **fields,
    )  # fmt: skip


def _run(optimizer, cost, seed=0):
    state = optimizer.init(0, straight_start())
    for round_ in range(optimizer.rounds):
        proposal = optimizer.ask(fold_in(seed, round_), state)
        state = optimizer.tell(state, proposal.controls, cost(proposal.controls.astype(np.float64)))
    return state


def _quadratic(steps: int = 20):
    """Cost u'Qu/2 - b'u of the speed reached and the effort: a linear-quadratic problem; with its optimum."""
    ramp = np.tril(np.ones((steps, steps))) * 0.1
    hessian = 2.0 * ramp.T @ ramp + np.eye(steps)
    target = np.full(steps, 1.5)
    gradient = 2.0 * ramp.T @ target
    return hessian, gradient, np.linalg.solve(hessian, gradient)


def _lq_cost(controls):
    hessian, gradient, _ = _quadratic()
    a, c = controls[..., 0], controls[..., 1]
    return 0.5 * np.einsum("ki,ij,kj->k", a, hessian, a) - a @ gradient + 5.0 * (c**2).sum(axis=1)


def test_cem_finds_the_linear_quadratic_optimum():
    _, gradient, best = _quadratic()
    optimizer = Cem(CemConfig(**(_free(2000) | {"rounds": 20, "budget": 40000}), elites=100, keep=10, std_floor=0.0))
    mean = np.asarray(_run(optimizer, _lq_cost).mean, np.float64)
    optimum = -0.5 * gradient @ best
    assert _lq_cost(mean[None])[0] - optimum < 0.01 * abs(optimum)
    assert np.abs(mean[:, 1]).max() < 0.1


def test_mppi_has_the_mean_that_gaussian_algebra_gives():
    # exp(-cost / temperature) times a Gaussian is a Gaussian: its mean is (I + Q / temperature)^-1 b / temperature.
    hessian, gradient, _ = _quadratic()
    temperature = 20.0
    optimizer = Mppi(MppiConfig(**(_free() | {"rounds": 1, "budget": 40000}), temperature=temperature))
    mean = np.asarray(_run(optimizer, _lq_cost).mean, np.float64)
    exact = np.linalg.solve(np.eye(20) + hessian / temperature, gradient / temperature)
    np.testing.assert_allclose(mean[:, 0], exact, atol=0.03)
    # The zero-cost-term optimum is not pulled towards the old mean by a hidden control cost.
    steered = Mppi(MppiConfig(**(_free() | {"rounds": 1, "budget": 40000}), temperature=temperature, control_cost=5.0))
    np.testing.assert_allclose(np.asarray(_run(steered, _lq_cost).mean)[:, 0], exact, atol=0.03)


def test_control_cost_is_off_by_default_and_pulls_back_when_on():
    def final(gamma):
        config = MppiConfig(**_free(2000, std_decay=1.0), temperature=20.0, control_cost=gamma)
        mean = np.asarray(_run(Mppi(config), _lq_cost).mean, np.float64)
        return _lq_cost(mean[None])[0]

    assert MppiConfig().control_cost == 0.0
    assert final(0.0) < final(2.0) - 1.0


@pytest.mark.parametrize("optimizer", [Cem(CemConfig(budget=512)), Mppi(MppiConfig(budget=512))])
def test_a_scene_that_changed_is_replanned_as_well_as_from_new(optimizer):
    """After convergence hydrax' CEM pays 114.8 where a fresh standard deviation pays 23.9; here within 10 %."""

    def through(state, key, cost):
        for round_ in range(optimizer.rounds):
            proposal = optimizer.ask(fold_in(key, round_), state)
            plans = Plans.from_controls(proposal.controls, 8.0)
            state = optimizer.tell(state, plans.controls, cost(plans))
        return state

    def disturbed(plans):
        return ((plans.states[:, 1:, 1] + 3.0) ** 2).sum(axis=1).astype(np.float64)

    def best(state, key):
        final = optimizer.finalists(through(state, key, disturbed))
        return disturbed(Plans.from_controls(final.controls, 8.0)).min()

    warm, fresh = [], []
    for seed in range(3):
        state = optimizer.init(0, straight_start())
        for replan in range(3):
            state = optimizer.warm(through(state, fold_in(seed, replan), simple_cost), straight_start(), 1)
        assert np.array_equal(state.std, state.first_std)
        warm.append(best(state, fold_in(seed, 9)))
        fresh.append(best(optimizer.init(0, straight_start()), fold_in(seed, 9)))
    assert np.mean(warm) < 1.1 * np.mean(fresh)


def test_first_round_of_a_replan_asks_elites_again_and_half_leaves_from_the_nominal():
    optimizer = Cem(CemConfig(budget=400, rounds=2, limits=WIDE, nominal="zero"))
    state = optimizer.init(0, straight_start())
    proposal = optimizer.ask(1, state)
    costs = ((proposal.controls[:, :, 0] - 2.0) ** 2).sum(axis=1)
    state = optimizer.warm(optimizer.tell(state, proposal.controls, costs), straight_start(), 1)
    again = optimizer.ask(2, state)
    assert again.labels[:5] == ("mean", "elite", "elite", "elite", "sample")
    cheapest = proposal.controls[np.argsort(costs)[:3]]
    np.testing.assert_allclose(again.controls[1:4, :-1], cheapest[:, 1:], atol=1e-6)
    mean = float(again.controls[0, :, 0].mean())
    assert mean > 0.5
    assert again.controls[4::2, :, 0].mean() == pytest.approx(mean, abs=0.25)
    assert again.controls[5::2, :, 0].mean() == pytest.approx(0.0, abs=0.25)


def test_mppi_keeps_the_nominal_as_a_sample():
    optimizer = Mppi(MppiConfig(nominal="zero"))
    state = optimizer.init(0, straight_start())
    first = optimizer.ask(1, state)
    assert first.labels[:2] == ("nominal", "sample")
    costs = ((first.controls[:, :, 0] - 2.0) ** 2).sum(axis=1)
    for after in (optimizer.tell(state, first.controls, costs), optimizer.warm(state, straight_start(), 1)):
        proposal = optimizer.ask(2, after)
        assert proposal.labels[:3] == ("mean", "nominal", "sample")
        assert np.array_equal(proposal.controls[1], np.zeros((30, 2)))
        assert np.abs(proposal.controls[2]).max() > 0.1


def test_smoothing_keeps_quadratics_and_takes_out_noise():
    matrix = smoother(30, 9)
    time = np.linspace(-1.0, 1.0, 30)
    np.testing.assert_allclose(matrix @ (1.0 + 2.0 * time - 3.0 * time**2), 1.0 + 2.0 * time - 3.0 * time**2, atol=1e-5)
    inside = (matrix**2).sum(axis=1)[4:-4]
    np.testing.assert_allclose(inside, 59.0 / 231.0, atol=1e-5)  # Savitzky and Golay's table: middle weight of nine
    config = MppiConfig(**(_free() | {"rounds": 1, "budget": 4000, "horizon_steps": 21}), temperature=20.0)
    smooth = Mppi(dataclasses.replace(config, smoothing_steps=9))
    rough, calm = (np.asarray(_run(o, lambda c: c[..., 0].sum(axis=1)).mean)[:, 0] for o in (Mppi(config), smooth))
    np.testing.assert_allclose(calm, smoother(21, 9) @ rough, atol=1e-6)


def test_warm_start_shifts_in_time():
    optimizer = Mppi()
    state = optimizer.init(0, straight_start())
    ramp = jnp.stack([jnp.linspace(0.0, 2.0, 30), jnp.zeros(30)], axis=1)
    shifted = optimizer.warm(state._replace(mean=ramp), straight_start(), 3)
    np.testing.assert_allclose(shifted.mean[:27, 0], ramp[3:, 0], atol=1e-6)
    np.testing.assert_allclose(shifted.mean[27:, 0], ramp[29, 0], atol=1e-6)


def test_two_ways_round_an_obstacle():
    """The mean of elites on both sides lies inside the obstacle; the plan returned does not."""

    def price(round_, plans):
        near = np.exp(-((plans.states[..., 0] - 15.0) ** 2 + plans.states[..., 1] ** 2) / 4.0)
        return (near.sum(axis=1) * 50 + 0.01 * (plans.states[..., 1] ** 2).sum(axis=1)).astype(np.float64)

    for optimizer in (Cem(CemConfig(budget=512)), Mppi(MppiConfig(budget=512))):
        found = plan(optimizer, price, straight_start(), 3)
        final = {label: cost for label, cost in zip(found.labels[-3:], found.costs[-3:], strict=True)}
        assert set(final) == {"mean", "best", "nominal"}
        assert found.costs[found.chosen] == min(final.values())
        assert found.costs[found.chosen] < 0.5 * final["nominal"]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("steps", [30, 31])
def test_noise_has_standard_deviation_one_at_every_step(exponent, steps):
    np.testing.assert_allclose(np.linalg.norm(factor(steps, exponent), axis=1) if exponent else 1.0, 1.0, atol=1e-5)
    drawn = np.asarray(coloured(jax.random.key(0), steps, 2, 20000, exponent))
    np.testing.assert_allclose(drawn.std(axis=2), 1.0, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(drawn[:, 0].ravel(), drawn[:, 1].ravel())[0, 1], 0.0, atol=0.01)


def test_noise_spectrum_falls_with_the_exponent():
    drawn = np.asarray(coloured(jax.random.key(1), 40, 1, 20000, 2.0))[:, 0]
    power = (np.abs(np.fft.rfft(drawn, axis=0)) ** 2).mean(axis=1)
    slope = np.polyfit(np.log(np.arange(1, 8)), np.log(power[1:8]), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.05)
    assert power[0] / power[1] == pytest.approx(0.25, rel=0.05)
    # Beyond, nothing: what is left out is a small share of the whole.
    assert power[8:].max() < 1e-6 * power[1]
    everything = 0.25 + 2.0 * (1.0 / np.arange(1, 20) ** 2).sum() + 1.0 / 20**2
    kept = 0.25 + 2.0 * (1.0 / np.arange(1, 8) ** 2).sum()
    assert factor(40, 2.0).shape == (40, 15)
    assert POWER_KEPT <= kept / everything < 1.0


def test_own_normals_are_normal():
    drawn = np.asarray(normals(jax.random.key(4), (3, 100001)), np.float64)
    assert np.isfinite(drawn).all()
    for row in drawn:
        assert scipy.stats.kstest(row, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn) - np.eye(3)).max() < 0.02
    assert not np.array_equal(drawn, np.asarray(normals(jax.random.key(5), (3, 100001))))


def test_row_zero_is_the_mean_itself():
    for exponent in (0.0, 2.0):
        assert np.array_equal(coloured(jax.random.key(6), 30, 2, 8, exponent)[:, :, 0], np.zeros((30, 2)))


@pytest.mark.parametrize("start", [straight_start(), straight_start(speed=0.0), arc_start(20.0, 12.0)])
def test_projected_controls_are_drivable_and_drivable_ones_stay(start):
    limits = Limits(max_speed_mps=14.0)
    motion = motion_of(start)
    wild = 10.0 * jax.random.normal(jax.random.key(2), (30, 2, 200))
    once = project(wild, motion, limits)
    allowed = Infeasible.CURVATURE_RATE
    assert not (np.asarray(reasons(once, speeds(once, motion), limits)) & ~int(allowed)).any()
    np.testing.assert_allclose(project(once, motion, limits), once, atol=2e-6)
    assert not np.array_equal(once, wild)


def test_speeds_are_the_bicycles():
    controls = np.asarray(jax.random.normal(jax.random.key(3), (30, 2, 20))) * np.array([4.0, 0.1])[None, :, None]
    start = dataclasses.replace(straight_start(), speed=3.0)
    rolled = bicycle.forward(np.tile([0.0, 0.0, 0.0, 3.0], (20, 1)), controls.transpose(2, 0, 1).astype(float), 0.1)
    np.testing.assert_allclose(speeds(jnp.asarray(controls), motion_of(start)), rolled[..., 3].T, atol=1e-5)


BOUNDS = [
    (Infeasible.SPEED, "max_speed_mps", 8.3),
    (Infeasible.ACCEL, "max_accel_mps2", 0.1),
    (Infeasible.CURVATURE, "max_curvature_pm", 0.03),
    (Infeasible.CURVATURE_RATE, "max_curvature_rate_pmps", 0.1),
    (Infeasible.LATERAL_ACCEL, "max_lateral_accel_mps2", 8.3**2 * 0.03),
]


@pytest.mark.parametrize(("reason", "field", "value"), BOUNDS)
@pytest.mark.parametrize(("hair", "flagged"), [(1.001, False), (0.999, True)])
def test_each_reason_at_its_threshold(reason, field, value, hair, flagged):
    """Acceleration 0.1 for 3 s from 8 m/s, curvature 0.02 and at the end 0.03."""
    controls = np.tile(np.array([0.1, 0.02])[None, :, None], (30, 1, 1)).astype(np.float32)
    controls[-1, 1] = 0.03
    limits = Limits(**{field: value * hair})
    bits = reasons(jnp.asarray(controls), speeds(jnp.asarray(controls), motion_of(straight_start())), limits)
    assert int(bits[0]) == (int(reason) if flagged else 0)


@pytest.mark.parametrize("radius", [40.0, -25.0, 200.0])
def test_nominal_follows_the_route(radius):
    state = Cem().init(0, arc_start(radius, speed=6.0))
    rolled = bicycle.forward(np.array([0, 0, 0, 6.0]), np.asarray(state.nominal, float), 0.1)
    distance = np.abs(np.hypot(rolled[:, 0], rolled[:, 1] - radius) - abs(radius))
    assert distance.max() < 0.5
