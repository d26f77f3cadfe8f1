"""Which term put a rival behind the choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from critics.weights import COST_PARTS, CostWeights
from experiments.audit.deciding import TERMS, TOGETHER, closing, deciding
from experiments.audit.joined import Joined
from wmplan.rules import pdms

WEIGHTS = CostWeights(shaping=0.01)


def joined(*candidates: dict[str, float]) -> Joined:
    """One scene; a candidate is flawless but for what it says."""
    flawless = {**dict.fromkeys(TERMS, 1.0), "dense": 0.0, **{f"collision_{i}": 0.0 for i in range(1, 7)}}
    rows = pd.DataFrame([flawless | one for one in candidates])
    score = pdms(*(rows[name].to_numpy() for name in TERMS))
    rows["cost_task"] = WEIGHTS.score * (1.0 - score) + WEIGHTS.shaping * rows["dense"]
    for name in COST_PARTS[1:]:
        rows[name] = rows.get(name, pd.Series(np.zeros(len(rows)))).fillna(0.0)
    rows["cost"] = rows[list(COST_PARTS)].sum(axis=1)
    rows = rows.assign(scene_id="s", group="g", row=np.arange(len(rows)), kind="cem")
    rows["verdict"] = rows.get("verdict", pd.Series(["trusted"] * len(rows))).fillna("trusted")
    return Joined(rows, {}, TERMS, 0, {})


@pytest.mark.parametrize(
    ("flaw", "term"),
    [
        ({"no_collision": 0.0, "collision_4": 0.9, "collision_2": 0.2, "dense": 3.0}, "no_collision"),
        ({"drivable_pdms": 0.0, "dense": 3.0}, "drivable_pdms"),
        ({"progress_pdms": 0.5, "comfort": 0.9}, "progress_pdms"),
        ({"comfort": 0.0, "ttc": 0.9}, "comfort"),
        ({"dense": 0.4}, "dense terms"),
        ({"cost_support": 0.02, "dense": 0.4}, "cost_support"),
        # Off the road and into somebody: taking back one of them alone changes nothing.
        ({"no_collision": 0.0, "drivable_pdms": 0.0}, TOGETHER),
    ],
)
def test_what_closes_most_of_the_gap_decided(flaw, term):
    found = deciding(joined({}, flaw), WEIGHTS)
    line = found.decisions.iloc[0]
    assert (line["chosen_row"], line["runner_up_row"], line["term"]) == (0, 1, term)
    assert line["step"] == (4 if term == "no_collision" else 0)
    assert found.shares.to_dict() == {term: 1.0}
    assert found.steps.to_dict() == ({4: 1.0} if term == "no_collision" else {})


def test_a_single_flaw_closes_the_whole_gap():
    table = joined({}, {"ttc": 0.0}, {"progress_pdms": 0.3}, {"cost_reward": 0.01}, {"dense": 2.0})
    rivals, chosen = table.rows.iloc[1:], table.rows.iloc[0]
    closed = closing(rivals, chosen, WEIGHTS)
    gap = rivals["cost"].to_numpy() - chosen["cost"]
    np.testing.assert_allclose(closed.max(axis=1), gap, atol=1e-12)
    assert [closed.columns[i] for i in closed.to_numpy().argmax(1)] == [
        "ttc",
        "progress_pdms",
        "cost_reward",
        "dense terms",
    ]


def test_what_is_refused_is_no_rival_and_other_costs_have_no_such_terms():
    table = joined({}, {"comfort": 0.0, "verdict": "refused"}, {"dense": 0.5}, {"dense": 0.7})
    found = deciding(table, WEIGHTS)
    assert found.shares.to_dict() == {"dense terms": 1.0}
    assert found.decisions["margin"].iloc[0] == pytest.approx(0.005)
    alone = joined({}, {"verdict": "refused"})
    assert not len(deciding(alone, WEIGHTS).decisions)
    assert deciding(table, replace(WEIGHTS, form="nuplan")) is None
