"""What decided: the term, and for a contact the imagined step, that puts each rival behind the chosen candidate.

A rival's cost is worked out again with one of its terms replaced by that of the chosen one; what closes most of
the gap decided. Where nothing closes any of it, several terms did together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from critics.weights import COST_PARTS, CostWeights
from experiments.audit.joined import Joined, scenes_of
from experiments.audit.selecting import choices
from wmplan.rules import pdms

TERMS = ("no_collision", "drivable_pdms", "ttc", "progress_pdms", "comfort")
"""What PDMS is made of, in the order of `wmplan.rules.pdms`."""
OTHERS = ("dense terms", *COST_PARTS[1:])
TOGETHER = "several together"
DECISIONS = "decisions.parquet"


@dataclass(frozen=True)
class Deciding:
    """`decisions`: a row a scene with its choice, the runner-up, the margin between them, the term and (for a contact)
    the step that decided. `shares`: of all pairs of choice and rival, which term decided. `steps`: of those that a
    contact decided, in which imagined step (from 1) the rival touches most."""

    decisions: pd.DataFrame
    shares: pd.Series
    steps: pd.Series


def deciding(joined: Joined, weights: CostWeights) -> Deciding | None:
    """What decided between the gated choice and every other candidate that is not refused; None where the cost is not
    made of PDMS."""
    if weights.form != "pdms":
        return None
    rows = joined.rows
    cost = rows["cost"].to_numpy(np.float64)
    may = np.isfinite(cost) & (rows["verdict"] != "refused").to_numpy()
    found, names, steps = [], [], []
    for chosen, members in zip(choices(rows, -cost, may), scenes_of(rows)):
        rivals = members[may[members] & (members != chosen)]
        if chosen < 0 or not len(rivals):
            continue
        closed = closing(rows.iloc[rivals], rows.iloc[chosen], weights)
        most = closed.to_numpy()
        term = [str(closed.columns[i]) if row[i] > 0.0 else TOGETHER for i, row in zip(most.argmax(1), most)]
        step = _steps(rows.iloc[rivals], rows.iloc[chosen])
        second = int(np.argmin(cost[rivals]))
        names += term
        steps += [int(s) for s, name in zip(step, term) if name == "no_collision"]
        found.append(
            {
                "scene_id": rows["scene_id"].iloc[chosen],
                "chosen_row": int(rows["row"].iloc[chosen]),
                "chosen_kind": rows["kind"].iloc[chosen],
                "runner_up_row": int(rows["row"].iloc[rivals[second]]),
                "runner_up_kind": rows["kind"].iloc[rivals[second]],
                "margin": float(cost[rivals[second]] - cost[chosen]),
                "term": term[second],
                "step": int(step[second]) if term[second] == "no_collision" else 0,
            }
        )
    shares = pd.Series(names, dtype="object").value_counts(normalize=True)
    touched = pd.Series(steps, dtype="int64").value_counts(normalize=True).sort_index()
    return Deciding(pd.DataFrame(found), shares, touched)


def closing(rivals: pd.DataFrame, chosen: pd.Series, weights: CostWeights) -> pd.DataFrame:
    """How much less each rival would cost with one term replaced by the chosen one's; a column a term."""
    own = [rivals[name].to_numpy(np.float64) for name in TERMS]
    score = _score(own)
    found = {}
    for i, name in enumerate(TERMS):
        replaced = [np.full(len(rivals), float(chosen[name])) if i == j else column for j, column in enumerate(own)]
        found[name] = weights.score * (_score(replaced) - score)
    dense = rivals["cost_task"].to_numpy(np.float64) - weights.score * (1.0 - score)
    best = _score([np.array([float(chosen[name])]) for name in TERMS])[0]
    found[OTHERS[0]] = dense - (float(chosen["cost_task"]) - weights.score * (1.0 - best))
    for name in OTHERS[1:]:
        found[name] = rivals[name].to_numpy(np.float64) - float(chosen[name])
    return pd.DataFrame(found)


def _score(columns: list[ndarray]) -> Float[ndarray, "K"]:
    contact, road, ttc, progress, comfort = columns
    return pdms(contact, road, ttc, progress, comfort)


def _steps(rivals: pd.DataFrame, chosen: pd.Series) -> Int[ndarray, "K"]:
    names = [name for name in rivals.columns if name.startswith("collision_") and name[10:].isdigit()]
    more = rivals[names].to_numpy(np.float64) - chosen[names].to_numpy(np.float64)
    return more.argmax(axis=1) + 1
