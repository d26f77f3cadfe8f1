"""Effective sample size, shares and refusal: closed forms for Gaussian policies, and every reason by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from wmplan.ope.estimates import MODEL, WEIGHTED, evaluate
from wmplan.ope.importance import importance_sampling, weighted_importance_sampling
from wmplan.ope.overlap import Limits, overlap, refusal, usable_decisions
from wmplan.ope.trajectories import Trajectories


def gaussian(apart: float, steps: int, count: int, seed: int = 0) -> Trajectories:
    """Drives of a unit normal policy, asked about one whose mean is `apart` standard deviations away."""
    actions = np.random.default_rng(seed).standard_normal((count, steps))
    return Trajectories(
        "shifted",
        tuple(f"s{i}" for i in range(count)),
        (actions > 0.0) / steps,
        np.ones((count, steps), bool),
        norm.logpdf(actions),
        norm.logpdf(actions, apart),
    )


@pytest.mark.parametrize(("steps", "expected"), [(1, 914.0), (10, 420.0), (40, 58.0), (80, 17.0)])
def test_the_effective_sample_size_is_that_of_the_reference(steps: int, expected: float) -> None:
    found = [overlap(gaussian(0.3, steps, 1000, seed)).ess[-1] for seed in range(40)]
    assert np.median(found) == pytest.approx(expected, rel=0.35 if steps > 10 else 0.1)


def test_overlap_and_mean_weight_have_their_closed_forms() -> None:
    apart, count = 0.3, 60_000
    seen = overlap(gaussian(apart, 4, count))
    steps = np.arange(1, 5)
    assert seen.common == pytest.approx(2.0 * norm.cdf(-0.5 * apart * np.sqrt(steps)), abs=0.01)
    assert seen.mean_weight == pytest.approx(np.ones(4), abs=0.02)
    assert seen.ess / count == pytest.approx(np.exp(-(apart**2) * steps), rel=0.05)
    assert seen.max_share[3] > 2.0 * seen.max_share[0]


def test_the_logs_own_policy_has_every_drive_and_an_impossible_one_none() -> None:
    own = overlap(gaussian(0.0, 5, 40))
    assert own.ess == pytest.approx(np.full(5, 40.0))
    assert own.max_share == pytest.approx(np.full(5, 1 / 40))
    assert own.clipped == pytest.approx(np.zeros(5))
    logged = gaussian(0.0, 5, 40)
    assert logged.target is not None
    target = logged.target.copy()
    target[:, 2] = -np.inf
    never = dataclasses.replace(logged, target=target)
    assert overlap(never).impossible.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert overlap(never).ess[-1] == 0.0
    assert "would have made none of the 40 logged drives" in refusal(never, Limits())
    assert np.isnan(weighted_importance_sampling(never).value)
    assert importance_sampling(never).value == 0.0


def test_one_drive_with_all_the_weight_is_seen() -> None:
    logged = gaussian(0.0, 1, 100)
    assert logged.target is not None
    target = logged.target.copy()
    target[7] += np.log(99.0)
    heavy = overlap(dataclasses.replace(logged, target=target))
    assert heavy.max_share[0] == pytest.approx(0.5)
    assert heavy.clipped[0] == pytest.approx(0.4)
    assert heavy.ess[0] == pytest.approx(198.0**2 / (99.0 + 99.0**2))


def test_every_reason_of_refusal_by_name() -> None:
    near = gaussian(0.1, 5, 400)
    assert refusal(near, Limits()) == ""
    assert "deterministic" in refusal(dataclasses.replace(near, deterministic=True), Limits())
    assert "deterministic" in refusal(dataclasses.replace(near, deterministic=True, target=None), Limits())
    assert "policy shifted states no density" in refusal(dataclasses.replace(near, target=None), Limits())
    assert "no propensities" in refusal(dataclasses.replace(near, behaviour=None), Limits())
    assert "effective sample size" in refusal(gaussian(0.3, 80, 1000), Limits())
    assert "of all weight" in refusal(near, Limits(most_share=1e-3))
    assert near.target is not None
    shrunk = dataclasses.replace(near, target=near.target - np.log(3.0) / 5)
    assert "weights average 0.3" in refusal(shrunk, Limits())


def test_the_last_usable_decision_is_named() -> None:
    logged = gaussian(0.3, 80, 1000)
    seen = overlap(logged)
    upto = usable_decisions(seen, Limits())
    assert 5 < upto < 40
    assert f"within limits up to {upto}" in refusal(logged, Limits())
    kept = logged.select(range(1000))
    short = dataclasses.replace(
        kept, rewards=kept.rewards[:, :upto], mask=kept.mask[:, :upto],
        behaviour=kept.behaviour[:, :upto], target=kept.target[:, :upto],
    )  # fmt: skip
    assert refusal(short, Limits()) == ""


def test_a_refused_estimate_has_a_reason_and_no_value_and_others_go_on() -> None:
    logged = dataclasses.replace(gaussian(0.1, 3, 100), deterministic=True)
    found = evaluate(logged, None, 0)
    assert [estimate.method for estimate in found.estimates] == [*WEIGHTED, *MODEL]
    for estimate in found.estimates:
        assert np.isnan(estimate.value)
        expected = "no fitted values" if estimate.method == "fqe" else "deterministic"
        assert expected in estimate.reason
    assert found.overlap is None
    assert found.method("wis").interval.count == 100
    with pytest.raises(KeyError):
        found.method("dice")


def test_allowed_intervals_hold_and_refused_ones_would_not() -> None:
    """What the limits are good for: nominal 95 % at the edge of what is allowed, and far beyond it."""
    covered = {0.2: 0, 0.6: 0}
    refused = {0.2: 0, 0.6: 0}
    for apart in covered:
        for seed in range(60):
            logged = gaussian(apart, 16, 250, seed)
            refused[apart] += bool(refusal(logged, Limits()))
            interval = weighted_importance_sampling(logged).interval(seed, resamples=200)
            covered[apart] += bool(interval.low <= norm.cdf(apart) <= interval.high)
    assert refused[0.2] < 12
    assert refused[0.6] == 60
    assert covered[0.2] > 50
    assert covered[0.6] < 42


def test_a_drive_twice_as_likely_everywhere_changes_nothing_that_is_normalised() -> None:
    logged = gaussian(0.2, 6, 90)
    assert logged.target is not None
    shifted = dataclasses.replace(logged, target=logged.target + 200.0)
    assert weighted_importance_sampling(shifted).value == pytest.approx(weighted_importance_sampling(logged).value)
    assert overlap(shifted).ess == pytest.approx(overlap(logged).ess)
    assert not np.isfinite(importance_sampling(shifted).value)


def test_differences_of_policies_on_the_same_drives_are_paired() -> None:
    near, far = gaussian(0.10, 8, 300), gaussian(0.15, 8, 300)
    first, second = weighted_importance_sampling(far), weighted_importance_sampling(near)
    paired = first.minus(second, 0)
    assert paired.value == pytest.approx(first.value - second.value)
    assert paired.high - paired.low < 0.5 * (first.interval(0).high - first.interval(0).low)
    groups = tuple(f"g{i // 10}" for i in range(300))
    clustered = weighted_importance_sampling(dataclasses.replace(far, groups=groups)).interval(0)
    assert clustered.count == 30
    other = weighted_importance_sampling(dataclasses.replace(near, groups=groups))
    with pytest.raises(ValueError, match="other drives"):
        first.minus(other, 0)
