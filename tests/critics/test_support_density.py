"""Support density: a planted hole, conformal validity, penalties inside and outside, files."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from critics import Composite, CostWeights, SupportConfig, SupportDensity, SupportNeighbours, TaskCritic
from critics.support import _Mixture
from critics.support_features import SupportExamples, action_features, lead_gap
from critics.support_neighbours import nearest_squared
from wmplan.errors import InputError
from wmplan.ranking import Verdict


def logging_policy(n: int, seed: int, name: str) -> SupportExamples:
    """A ring of accelerations and curvatures whose size depends on the speed: dense band, hole in the middle."""
    rng = np.random.default_rng(seed)
    speed = rng.uniform(3.0, 15.0, n)
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    radius = 1.0 + 0.1 * speed + rng.normal(0.0, 0.05, n)
    return ring(speed, angle, radius, rng, name)


def ring(speed, angle, radius, rng, name) -> SupportExamples:
    n = len(speed)
    actions = np.concatenate(
        [
            radius[:, None] * np.cos(angle)[:, None] + rng.normal(0.0, 0.05, (n, 3)),
            0.05 * (radius[:, None] * np.sin(angle)[:, None] + rng.normal(0.0, 0.05, (n, 3))),
            rng.normal(0.0, 0.3, (n, 3)),
        ],
        axis=1,
    )
    contexts = np.stack([speed, rng.normal(0.0, 0.01, n), rng.uniform(1.0, 3.7, n)], axis=1)
    return SupportExamples(actions, contexts, tuple(f"{name}{i}" for i in range(n)))


@pytest.fixture(scope="module")
def density() -> SupportDensity:
    return SupportDensity.fit(logging_policy(1500, 0, "t"), logging_policy(400, 1, "c"))


@pytest.fixture(scope="module")
def neighbours() -> SupportNeighbours:
    return SupportNeighbours.fit(logging_policy(1500, 0, "t"), logging_policy(400, 1, "c"))


@pytest.fixture(scope="module", params=["density", "neighbours"])
def estimator(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("radius", [0.0, 5.0])
def test_hole_and_outside_are_told_from_the_band(estimator, radius):
    rng = np.random.default_rng(5)
    inside = logging_policy(300, 7, "q")
    speed = rng.uniform(3.0, 15.0, 300)
    query = ring(speed, rng.uniform(0.0, 2.0 * np.pi, 300), np.full(300, radius), rng, "q")
    scores = np.concatenate([estimator.nonconformity(e.actions, e.contexts) for e in (inside, query)])
    assert roc_auc_score(np.repeat([0, 1], 300), scores) > 0.95


def test_the_situation_matters(density):
    rng = np.random.default_rng(5)
    slow, fast = np.full(300, 3.0), np.full(300, 15.0)
    usual_when_fast = ring(fast, rng.uniform(0.0, 6.28, 300), np.full(300, 2.5), rng, "q")
    at_low_speed = usual_when_fast.contexts.copy()
    at_low_speed[:, 0] = slow
    high = density.nonconformity(usual_when_fast.actions, at_low_speed)
    assert np.median(high - density.nonconformity(usual_when_fast.actions, usual_when_fast.contexts)) > 2.0


def test_refusal_rate_under_the_logging_policy(estimator):
    fresh = logging_policy(4000, 9, "f")
    p = estimator.conformal.p_value(estimator.nonconformity(fresh.actions, fresh.contexts))
    for alpha in (0.01, 0.05, 0.2):
        # Beta-distributed rate given one calibration set of n, and binomial noise of the test: four deviations.
        n = len(estimator.conformal.scores)
        band = 4.0 * np.sqrt(alpha * (1 - alpha) * (1.0 / n + 1.0 / 4000)) + 1.0 / n
        assert abs((p < alpha).mean() - alpha) < band


def test_p_values_count_the_calibration_scores(density):
    scores = np.sort(density.conformal.scores)
    n = len(scores)
    np.testing.assert_allclose(
        density.conformal.p_value(scores[[0, n // 2, n - 1]]), (1 + np.array([n, n - n // 2, 1])) / (n + 1)
    )
    assert density.conformal.p_value(np.array([scores[-1] + 1.0]))[0] == 1.0 / (n + 1)
    assert np.isnan(density.conformal.p_value(np.array([np.nan])))[0]


def test_excess_is_zero_exactly_where_the_action_is_inside(toy, density):
    context = toy.context(toy.start(9.0))
    rng = np.random.default_rng(2)
    from wmplan.plans import Plans

    plans = Plans.from_controls(rng.normal(size=(300, 1, 2)) * [1.5, 0.08] + np.zeros((1, 30, 1)), 9.0)
    terms = density.assess(context.raster, plans)
    p, excess = terms.column("support_p"), terms.column("support_excess")
    assert 20 < (p < 0.05).sum() < 290
    assert np.all(excess[p >= 0.05] == 0.0)
    assert np.all(excess[p < 0.05] > 0.0)

    # Inside the support the order of candidates does not depend on the penalty's weight.
    critic = TaskCritic()
    whole = critic.terms(context, plans, toy.boxes(300, [(25.0, 1.0, 0.0, 2.0, 4.6, 1.9, 0)]))
    from wmplan.contracts import Terms

    joined = Terms.join([whole, terms])
    inside = np.flatnonzero(p >= 0.05)
    costs = [Composite([critic, density], CostWeights(support=w)).judge(joined) for w in (0.0, 5.0)]
    np.testing.assert_array_equal(costs[0].total[inside], costs[1].total[inside])
    assert np.all(costs[1].total[p < 0.05] > costs[0].total[p < 0.05])
    verdict = costs[1].verdict
    np.testing.assert_array_equal(verdict == Verdict.REFUSED, p < 0.01)
    np.testing.assert_array_equal(verdict == Verdict.TRUSTED, p >= 0.05)


def test_nearest_neighbours_against_scipy():
    rng = np.random.default_rng(0)
    logged, points = rng.normal(size=(200, 12)), rng.normal(size=(30, 12))
    distance, _ = cKDTree(logged).query(points, k=5)
    found = nearest_squared(torch.from_numpy(points), torch.from_numpy(logged), 5).sqrt().numpy()
    np.testing.assert_allclose(found, distance, rtol=1e-12)
    alone = nearest_squared(torch.from_numpy(points[7:8]), torch.from_numpy(logged), 5).sqrt().numpy()
    np.testing.assert_array_equal(found[7:8], alone)


def test_neighbours_against_pytorch3d():
    ops = pytest.importorskip("pytorch3d.ops")
    rng = np.random.default_rng(0)
    logged, points = (torch.from_numpy(rng.normal(size=(n, 12))) for n in (200, 30))
    theirs = ops.knn_points(points[None], logged[None], K=5).dists[0]
    torch.testing.assert_close(theirs, nearest_squared(points, logged, 5), rtol=1e-12, atol=0.0)


def test_neighbours_come_back_from_a_file(tmp_path, neighbours):
    neighbours.save(tmp_path / "n.safetensors")
    again = SupportNeighbours.load(tmp_path / "n.safetensors")
    fresh = logging_policy(50, 3, "f")
    assert again.digest == neighbours.digest
    np.testing.assert_array_equal(
        again.nonconformity(fresh.actions, fresh.contexts), neighbours.nonconformity(fresh.actions, fresh.contexts)
    )


def test_mixture_density_against_scipy():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 12))
    factors = np.stack([np.tril(rng.normal(size=(12, 12)) * 0.3) + np.eye(12) for _ in range(3)])
    weights = np.array([0.5, 0.3, 0.2])
    points = rng.normal(size=(7, 12))
    for first in (0, 9):
        expected = sum(
            w * multivariate_normal(m[first:], (f @ f.T)[first:, first:]).pdf(points[:, first:])
            for w, m, f in zip(weights, means, factors)
        )
        np.testing.assert_allclose(_Mixture(weights, means, factors).log_density(points, first), np.log(expected))


def test_action_features_of_a_known_plan(toy):
    from wmplan.plans import Plans

    controls = np.zeros((1, 30, 2))
    controls[0, :10, 0] = np.linspace(0.05, 0.95, 10)
    controls[0, 10:20, 0], controls[0, :, 1] = 1.0, 0.01
    features = action_features(Plans.from_controls(controls, 10.0))[0]
    np.testing.assert_allclose(features[:3], [0.5, 1.0, 0.0], atol=1e-3)
    np.testing.assert_allclose(features[3:6], 0.01, atol=1e-5)
    np.testing.assert_allclose(features[6:], [1.0, 0.0, 0.0], atol=1e-2)


@pytest.mark.parametrize(
    ("x", "y", "gap"), [(15.5, 0.5, 15.5 - 2.4), (15.5, 5.5, 40.0), (-8.5, 0.5, 40.0), (None, None, 40.0)]
)
def test_lead_gap(toy, x, y, gap):
    history = torch.zeros(4, 5, toy.grid.rows, toy.grid.cols)
    if x is not None:
        history[-1, 0, int(y - toy.grid.y_min), int(x - toy.grid.x_min)] = 1.0
    assert lead_gap(toy.context(toy.start(), history=history).raster) == pytest.approx(gap, abs=1e-6)


def test_saved_and_loaded_is_the_same(tmp_path, toy, density):
    path = tmp_path / "support.safetensors"
    density.save(path)
    again = SupportDensity.load(path)
    assert again.digest == density.digest
    context, plans = toy.context(toy.start()), toy.constant([0.0, -3.0, 2.0])
    assert (
        again.assess(context.raster, plans).values.tobytes() == density.assess(context.raster, plans).values.tobytes()
    )
    assert [p.name for p in tmp_path.iterdir()] == ["support.safetensors"]

    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        SupportDensity.load(tmp_path / "flipped.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut\.safetensors: not a safetensors file"):
        SupportDensity.load(tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="no such file"):
        SupportDensity.load(tmp_path / "nothing.safetensors")
    from critics import InverseControlProbe

    with pytest.raises(InputError, match=r"schema is wmplan\.support/1, expected wmplan\.probe/1"):
        InverseControlProbe.load(path)


def test_what_cannot_be_fitted_is_said():
    train, calibration = logging_policy(100, 0, "t"), logging_policy(30, 1, "c")
    with pytest.raises(InputError, match="group t0 is in both"):
        SupportDensity.fit(train, SupportExamples(calibration.actions, calibration.contexts, ("t0",) * 30))
    with pytest.raises(InputError, match="10 calibration scenes"):
        SupportDensity.fit(train, logging_policy(10, 1, "c"))
    with pytest.raises(InputError, match="12 training scenes"):
        SupportDensity.fit(logging_policy(12, 1, "t"), calibration)
    broken = train.actions.copy()
    broken[3, 2] = np.nan
    with pytest.raises(InputError, match="training scene 3 has a non-finite feature"):
        SupportDensity.fit(SupportExamples(broken, train.contexts, train.groups), calibration)


def test_few_scenes_can_downweight_but_not_refuse():
    density = SupportDensity.fit(logging_policy(100, 0, "t"), logging_policy(50, 1, "c"), SupportConfig(components=2))
    assert density.conformal.p_value(np.array([1e9]))[0] == pytest.approx(1 / 51)
