"""One cost from many terms: reproducible from the saved row, never won by what is not finite."""

import numpy as np
import pandas as pd
import pytest

from critics import COST_PARTS, Composite, CostWeights, TaskCritic, VistaCritic, recompute, total_of_parts
from wmplan.contracts import Terms
from wmplan.errors import InputError
from wmplan.ranking import Ranking, Verdict


class Given:
    """A critic whose columns are given; the composite is under test, not it."""

    name, digest = "given", "given"

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns

    def terms(self, context, plans, imagined):
        raise NotImplementedError


NAMES = (
    *TaskCritic().columns,
    *VistaCritic.columns,
    "support_s",
    "support_p",
    "support_excess",
    "probe_accel",
    "probe_error",
)


def random_terms(rows: int, seed: int = 0) -> Terms:
    values = np.random.default_rng(seed).uniform(0.0, 1.0, (rows, len(NAMES)))
    terms = Terms(NAMES, values.astype(np.float32))
    p = terms.column("support_p")
    terms.values[:, NAMES.index("support_excess")] *= p < 0.05
    terms.values[:, NAMES.index("vista_log_reward")] *= -0.1
    return terms


@pytest.mark.parametrize("form", ["pdms", "nuplan", "dense"])
def test_total_is_recomputed_from_the_saved_row(tmp_path, toy, form):
    weights = CostWeights(form=form)
    terms = random_terms(40)
    terms.values[3, 5], terms.values[7, 0] = np.nan, np.inf
    judged = Composite([Given(NAMES)], weights).judge(terms)
    infeasible = np.zeros(40, dtype=np.int32)
    infeasible[11] = 2
    plans = toy.constant([0.0] * 40)
    ranking = Ranking("scene", "cem", plans, ("sample",) * 40, infeasible, terms, judged)
    ranking.frame().to_parquet(tmp_path / "ledger.parquet")
    saved = pd.read_parquet(tmp_path / "ledger.parquet")
    assert recompute(saved, weights).tobytes() == saved["cost"].to_numpy().tobytes()
    usual = saved["infeasible"] == 0
    finite = np.isfinite(saved["cost"])
    assert total_of_parts(saved)[finite].tobytes() == saved["cost"].to_numpy()[finite].tobytes()
    assert set(np.flatnonzero(~finite)) == {3, 7, 11}
    assert saved.loc[usual & ~finite, "nonfinite"].ge(1).all()
    other = CostWeights(form=form, collision=weights.collision + 1.0)
    assert not np.array_equal(recompute(saved, other), saved["cost"])


@pytest.mark.parametrize("column", range(0, len(NAMES), 4))
@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_non_finite_never_wins(column, bad):
    terms = random_terms(5)
    terms.values[2, column] = bad
    judged = Composite([Given(NAMES)]).judge(terms)
    assert judged.total[2] == np.inf
    assert judged.verdict[2] == Verdict.REFUSED
    assert judged.nonfinite[2] >= 1
    assert f"non-finite term {NAMES[column]}" in judged.reasons[2]
    assert judged.nonfinite[[0, 1, 3, 4]].tolist() == [0, 0, 0, 0]
    assert np.isfinite(judged.total[[0, 1, 3, 4]]).all()


def test_cost_falls_with_every_good_thing():
    composite = Composite([Given(NAMES)], CostWeights(probe=0.02))
    for column, sign in [
        ("pdms", -1), ("collision_cost", 1), ("offroad_cost", 1), ("progress_cost", 1), ("discomfort_cost", 1),
        ("lateral_cost", 1), ("ttc_cost", 1), ("red_light_cost", 1), ("speed_cost", 1), ("direction_cost", 1),
        ("vista_log_reward", -1), ("probe_error", 1),
    ]:  # fmt: skip
        low, high = random_terms(6), random_terms(6)
        high.values[:, NAMES.index(column)] += 0.01
        difference = composite.judge(high).total - composite.judge(low).total
        assert np.all(np.sign(difference) == sign), column


def test_verdicts_at_their_thresholds():
    terms = random_terms(6)
    p = np.array([0.0099, 0.0101, 0.0499, 0.0501, 0.5, 1.0])
    terms.values[:, NAMES.index("support_p")] = p
    terms.values[:, NAMES.index("support_excess")] = 1.0
    judged = Composite([Given(NAMES)]).judge(terms)
    assert judged.verdict.tolist() == [2, 1, 1, 0, 0, 0]
    assert judged.reasons[0] == "support p 0.0099 < 0.01"
    assert judged.reasons[2] == "support p 0.0499 < 0.05"
    assert judged.reasons[3] == ""
    # Twice the weight times one half where downweighted, nothing inside.
    part = np.float32(CostWeights().support)
    np.testing.assert_array_equal(judged.parts.column("cost_support"), [part, part, part, 0.0, 0.0, 0.0])


def test_the_support_penalty_rises_for_ever_and_never_beyond_its_weight():
    terms = random_terms(6)
    excess = np.array([0.0, 0.1, 1.0, 10.0, 1e4, np.inf])
    terms.values[:, NAMES.index("support_p")] = 0.001
    terms.values[:, NAMES.index("support_excess")] = excess
    weights = CostWeights(support=0.5, downweight_factor=2.0)
    judged = Composite([Given(NAMES)], weights).judge(terms)
    penalty = judged.parts.column("cost_support")
    assert penalty[0] == 0.0
    assert np.all(np.diff(penalty[:5]) > 0.0)
    assert np.all(penalty[:5] < 1.0)
    assert judged.total[5] == np.inf
    assert judged.nonfinite[5] > 0


def test_without_support_nothing_is_trusted():
    names = TaskCritic().columns
    judged = Composite([Given(names)]).judge(Terms(names, np.zeros((2, len(names)), np.float32)))
    assert judged.verdict.tolist() == [1, 1]
    assert judged.reasons == ("no support estimate",) * 2


def test_no_rows():
    judged = Composite([Given(NAMES)]).judge(Terms(NAMES, np.zeros((0, len(NAMES)), np.float32)))
    assert judged.total.shape == (0,)
    assert judged.parts.columns == COST_PARTS


def test_digests_tell_settings_apart():
    task = TaskCritic()
    a, b = Composite([task]), Composite([task], CostWeights(collision=6.0))
    assert a.digest != b.digest
    assert a.terms_digest == b.terms_digest
    assert Composite([task, VistaCritic()]).terms_digest != a.terms_digest


@pytest.mark.parametrize(
    ("field", "value"), [("collision", -1.0), ("score", np.nan), ("reward_scale", 0.0), ("refuse_p", 0.2)]
)
def test_absurd_weights_are_named(field, value):
    with pytest.raises(InputError, match=f"CostWeights.{field}"):
        CostWeights(**{field: value})


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="no critic gives collision_cost"):
        Composite([VistaCritic()])
    with pytest.raises(InputError, match="no column pdms"):
        recompute(pd.DataFrame({name: [0.0] for name in NAMES if name != "pdms"}), CostWeights())
