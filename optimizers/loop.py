"""The ask/tell/finalists loop: from an optimizer and a way to price plans to one chosen plan and all that was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int32
from numpy import ndarray

from wmplan.contracts import Optimizer, Proposal
from wmplan.plans import Plans, Start
from wmplan.randomness import fold_in

FINALISTS = -1
"""The round number of finalists."""


@runtime_checkable
class Evaluate(Protocol):
    """Prices plans, one cost a row, lower is better.

    Called at most once a round (`FINALISTS` last) with the rows that can be driven, in their order; not at all where
    there is none. It may keep what it computed: over all calls its rows are the rows with `Optimized.evaluated`.
    """

    def __call__(self, round_: int, plans: Plans) -> Float[ndarray, "K"]: ...


@dataclass(frozen=True)
class Optimized:
    """Every row that an optimizer asked for, finalists last, and the one chosen.

    `controls` of `plans` are what was rolled: rounded to the grid. `costs` is +inf for rows that were not evaluated
    (infeasible, or not finite when rolled) and for those whose cost was not finite; `nonfinite` marks the latter two.
    `chosen` is the cheapest row, a finalist where it ties with a sample; None where no row has a finite cost.
    """

    plans: Plans
    rounds: Int32[ndarray, "N"]
    rows: Int32[ndarray, "N"]
    labels: tuple[str, ...]
    infeasible: Int32[ndarray, "N"]
    evaluated: Bool[ndarray, "N"]
    nonfinite: Bool[ndarray, "N"]
    costs: Float[ndarray, "N"]
    chosen: int | None

    def plan(self) -> Plans | None:
        """The chosen plan alone (K = 1); None where there is none."""
        return None if self.chosen is None else self.plans.select([self.chosen])


def plan(optimizer: Optimizer, evaluate: Evaluate, start: Start, key: int) -> Optimized:
    """All candidates of one plan with their costs, and the cheapest of them.

    `key` is a seed from `fold_in`; the result depends on nothing else than the arguments.

    Raises:
        wmplan.errors.InputError: if the start is unusable.
        ValueError: if `evaluate` gives another number of costs than it got plans.
    """
    state = optimizer.init(fold_in(key, "init"), start)
    parts: list[_Part] = []
    for round_ in range(optimizer.rounds):
        part = _evaluated(optimizer.ask(fold_in(key, "ask", round_), state), round_, evaluate, start)
        state = optimizer.tell(state, part.plans.controls, part.costs)
        parts.append(part)
    parts.append(_evaluated(optimizer.finalists(state), FINALISTS, evaluate, start))
    costs = np.concatenate([part.costs for part in parts])
    finalist_first = np.concatenate([np.full(len(part.costs), part.round_ != FINALISTS) for part in parts])
    chosen = int(np.lexsort((finalist_first, costs))[0])
    return Optimized(
        plans=Plans.concatenate([part.plans for part in parts]),
        rounds=np.concatenate([np.full(len(part.costs), part.round_, np.int32) for part in parts]),
        rows=np.concatenate([np.arange(len(part.costs), dtype=np.int32) for part in parts]),
        labels=tuple(label for part in parts for label in part.labels),
        infeasible=np.concatenate([part.infeasible for part in parts]),
        evaluated=np.concatenate([part.evaluated for part in parts]),
        nonfinite=np.concatenate([part.nonfinite for part in parts]),
        costs=costs,
        chosen=chosen if np.isfinite(costs[chosen]) else None,
    )


@dataclass(frozen=True)
class _Part:
    round_: int
    plans: Plans
    labels: tuple[str, ...]
    infeasible: Int32[ndarray, "K"]
    evaluated: Bool[ndarray, "K"]
    nonfinite: Bool[ndarray, "K"]
    costs: Float[ndarray, "K"]


def _evaluated(proposal: Proposal, round_: int, evaluate: Evaluate, start: Start) -> _Part:
    with np.errstate(invalid="ignore"):
        plans = Plans.from_controls(proposal.controls, start.speed)
    rolled = np.isfinite(plans.states).all(axis=(1, 2)) & np.isfinite(plans.controls).all(axis=(1, 2))
    evaluated = rolled & (proposal.infeasible == 0)
    costs = np.full(len(plans), np.inf)
    if evaluated.any():
        given = np.asarray(evaluate(round_, plans.select(np.flatnonzero(evaluated))), dtype=np.float64)
        if given.shape != (int(evaluated.sum()),):
            raise ValueError(f"evaluate gave costs of shape {given.shape}, expected ({int(evaluated.sum())},)")
        costs[evaluated] = given
    broken = ~rolled | (evaluated & ~np.isfinite(costs))
    return _Part(
        round_, plans, proposal.labels, proposal.infeasible, evaluated, broken, np.where(broken, np.inf, costs)
    )
