"""The ledger of one decision: order, choice, and "no plan" with its reasons."""

import numpy as np
import pytest

from wmplan.contracts import Infeasible, Terms
from wmplan.plans import Plans
from wmplan.ranking import Judgement, Ranking, Verdict


def ranking(total, verdict, infeasible=None, reasons=None) -> Ranking:
    rows = len(total)
    judgement = Judgement(
        Terms(("cost_task",), np.array(total, dtype=np.float32)[:, None]),
        np.array(total, dtype=np.float64),
        np.array(verdict, dtype=np.int8),
        tuple(reasons or [""] * rows),
        (~np.isfinite(np.array(total))).astype(np.int32),
    )
    plans = Plans.from_controls(np.zeros((rows, 30, 2)), 5.0)
    terms = Terms(("a",), np.arange(rows, dtype=np.float32)[:, None])
    flags = np.zeros(rows, np.int32) if infeasible is None else np.array(infeasible, dtype=np.int32)
    return Ranking("scene", "cem", plans, tuple(f"r{i}" for i in range(rows)), flags, terms, judgement)


def test_the_cheapest_eligible_candidate_is_chosen():
    r = ranking([0.1, 0.5, 0.2, 0.3, np.inf], [Verdict.REFUSED, 0, 0, Verdict.DOWNWEIGHTED, 0], [0, 0, 4, 0, 0])
    assert r.chosen == 3
    assert r.rank.tolist() == [1, 3, 4, 2, 5]
    assert r.cost[2] == np.inf
    frame = r.frame()
    assert frame["chosen"].tolist() == [False, False, False, True, False]
    assert frame["verdict"].tolist() == ["refused", "trusted", "trusted", "downweighted", "trusted"]
    assert len(frame) == 5
    assert r.message == ""


def test_ties_keep_the_order_of_proposal():
    r = ranking([1.0, 0.0, 0.0], [0, 0, 0])
    assert r.chosen == 1
    assert r.rank.tolist() == [3, 1, 2]


def test_no_plan_says_why():
    r = ranking(
        [0.1, 0.2, np.inf, 0.4],
        [Verdict.REFUSED, Verdict.REFUSED, Verdict.REFUSED, 0],
        [0, 0, 0, int(Infeasible.SPEED | Infeasible.CURVATURE)],
        ["support p 0.004 < 0.01", "support p 0.002 < 0.01", "non-finite term pdms", ""],
    )
    assert r.chosen is None
    assert r.message.startswith("no plan: 2 x support p, ")
    assert "1 x non-finite term pdms" in r.message
    assert "1 x infeasible speed+curvature" in r.message
    assert not r.frame()["chosen"].any()


def test_nothing_proposed():
    assert ranking([], []).message == "no plan: no candidates"


def test_selection_keeps_rows_together():
    judgement = ranking([0.3, 0.1, 0.2], [0, 1, 2], reasons=["a", "b", "c"]).judgement.select([2, 0])
    assert judgement.total.tolist() == [0.2, 0.3]
    assert judgement.reasons == ("c", "a")
    assert judgement.eligible.tolist() == [False, True]


def test_rows_that_do_not_match_are_refused():
    r = ranking([0.1, 0.2], [0, 0])
    with pytest.raises(ValueError, match="labels has 1 rows, expected 2"):
        Ranking("s", "p", r.plans, ("x",), r.infeasible, r.terms, r.judgement)
