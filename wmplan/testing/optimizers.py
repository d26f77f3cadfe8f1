"""The rules that every optimizer keeps, as a suite that anyone can run over an optimizer of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy import ndarray

from wmplan.contracts import Optimizer, Proposal
from wmplan.plans import Plans, Start
from wmplan.randomness import fold_in

COMPILED = "/jax/core/compile/backend_compile_duration"
TOLERANCE = 1e-3
"""Controls after a permuted tell may differ by this: sums run in another order."""

Costs = Callable[[Plans], ndarray]


def check_optimizer(optimizer: Optimizer, *starts: Start) -> None:
    """Nothing, if the optimizer keeps the contract from these starts (give at least two different ones).

    Proposals have one shape, finite controls where feasible, and a label a row. The same key gives the same bytes,
    whatever was planned in between. Controls and costs that are told stay untouched, and so does the state. NaN costs
    as +inf, spreads nowhere, and controls of a row that costs +inf are not read; when nothing is finite the plan does
    not move; a candidate of infinite cost is never the best. The order of rows in `tell` does not matter. A second
    plan compiles nothing.

    Raises:
        AssertionError: naming the first rule that is broken.
    """
    assert isinstance(optimizer, Optimizer), f"{type(optimizer).__name__} lacks a member of the Optimizer protocol"
    assert len(starts) >= 2, f"check_optimizer: {len(starts)} starts, expected at least 2"
    name = optimizer.name
    assert optimizer.digest, f"{name}: the digest is empty"
    first = [_run(optimizer, i, start, _effort) for i, start in enumerate(starts)]
    with _Compilations() as compiled:
        again = [_run(optimizer, i, start, _effort) for i, start in reversed(list(enumerate(starts)))][::-1]
        _run(optimizer, 99, starts[-1], lambda plans: _effort(plans)[::-1])
    for i, (a, b) in enumerate(zip(first, again, strict=True)):
        assert _bytes(a) == _bytes(b), f"{name}: start {i}, the same key gave other candidates"
    assert compiled.count == 0, f"{name}: planning again compiled {compiled.count} programs, expected none"
    for i, start in enumerate(starts):
        where = f"{name}: start {i}"
        _check_proposals(optimizer, first[i], where)
        _check_tell(optimizer, i, start, where)
        _check_broken_rows(optimizer, i, start, where)
        _check_infinite_costs(optimizer, i, start, where)


def _effort(plans: Plans) -> ndarray:
    """A smooth cost with its own optimum in each scene: 10 m/s along y = 1 m, gently."""
    states, controls = plans.states[:, 1:].astype(np.float64), plans.controls.astype(np.float64)
    cost = 0.05 * (states[..., 3] - 10.0) ** 2 + 0.15 * (states[..., 1] - 1.0) ** 2
    return (cost + 0.02 * controls[..., 0] ** 2 + 50.0 * controls[..., 1] ** 2).sum(axis=1)


def _run(optimizer: Optimizer, key: int, start: Start, costs: Costs) -> list[Proposal]:
    """The proposals of all rounds, finalists last."""
    state = optimizer.init(fold_in(key, "init"), start)
    proposals = []
    for round_ in range(optimizer.rounds):
        proposal = optimizer.ask(fold_in(key, "ask", round_), state)
        proposals.append(proposal)
        state = optimizer.tell(state, *_priced(proposal, start, costs))
    return [*proposals, optimizer.finalists(state)]


def _priced(proposal: Proposal, start: Start, costs: Costs) -> tuple[ndarray, ndarray]:
    """What the loop tells: controls as rolled, and +inf for what cannot be driven."""
    plans = Plans.from_controls(proposal.controls, start.speed)
    return plans.controls, np.where(proposal.infeasible == 0, costs(plans), np.inf)


def _check_proposals(optimizer: Optimizer, proposals: list[Proposal], name: str) -> None:
    asked = len(proposals[0].controls)
    assert asked == optimizer.candidates, f"{name}: asks for {asked} rows, expected {optimizer.candidates}"
    for i, proposal in enumerate(proposals):
        where = f"{name}, " + ("finalists" if i == optimizer.rounds else f"round {i}")
        rows, steps = proposal.controls.shape[:2]
        assert steps == optimizer.horizon_steps, f"{where}: {steps} steps, expected {optimizer.horizon_steps}"
        assert rows > 0, f"{where}: no candidates"
        assert proposal.infeasible.shape == (rows,), f"{where}: {proposal.infeasible.shape} flags of {rows} rows"
        assert len(proposal.labels) == rows, f"{where}: {len(proposal.labels)} labels of {rows} rows"
        feasible = proposal.controls[proposal.infeasible == 0]
        assert np.isfinite(feasible).all(), f"{where}: a feasible row is not finite"


def _check_tell(optimizer: Optimizer, key: int, start: Start, name: str) -> None:
    route = start.route.copy()
    state = optimizer.init(fold_in(key, "init"), start)
    proposal = optimizer.ask(fold_in(key, "ask", 0), state)
    controls, costs = _priced(proposal, start, _effort)
    kept, leaves = (controls.copy(), costs.copy()), _leaves(copy.deepcopy(state))
    told = optimizer.tell(state, controls, costs)
    untouched = np.array_equal(controls, kept[0]) and np.array_equal(costs, kept[1])
    assert untouched, f"{name}: tell changed the controls or costs it was given"
    assert _leaves(state) == leaves, f"{name}: tell changed the state it was given"
    assert np.array_equal(start.route, route), f"{name}: the start was changed"
    order = np.random.default_rng(0).permutation(len(costs))
    permuted = optimizer.tell(state, controls[order], costs[order])
    pairs = [(optimizer.finalists(told), optimizer.finalists(permuted))]
    if optimizer.rounds > 1:
        pairs.append((optimizer.ask(fold_in(key, "ask", 1), told), optimizer.ask(fold_in(key, "ask", 1), permuted)))
    for part, other in pairs:
        apart = float(np.abs(part.controls - other.controls).max())
        assert apart <= TOLERANCE, f"{name}: candidates told in another order lead elsewhere, by {apart:.3g}"


def _check_broken_rows(optimizer: Optimizer, key: int, start: Start, name: str) -> None:
    state = optimizer.init(fold_in(key, "init"), start)
    proposal = optimizer.ask(fold_in(key, "ask", 0), state)
    controls, costs = _priced(proposal, start, _effort)
    row = int(np.argmin(costs))
    refused, broken, unread = costs.copy(), costs.copy(), controls.copy()
    refused[row], broken[row], unread[row] = np.inf, np.nan, np.nan
    expected = _bytes([optimizer.finalists(optimizer.tell(state, controls, refused))])
    found = _bytes([optimizer.finalists(optimizer.tell(state, controls, broken))])
    assert found == expected, f"{name}: a NaN cost is not +inf"
    found = _bytes([optimizer.finalists(optimizer.tell(state, unread, refused))])
    assert found == expected, f"{name}: NaN controls of a row that costs +inf are read"
    before = _bytes([optimizer.finalists(state)])
    for value in (np.inf, np.nan):
        nothing = optimizer.tell(state, controls, np.full(len(costs), value))
        assert _bytes([optimizer.finalists(nothing)]) == before, f"{name}: costs that are all {value} move the plan"


def _check_infinite_costs(optimizer: Optimizer, key: int, start: Start, name: str) -> None:
    def half(plans: Plans) -> ndarray:
        costs = _effort(plans)
        return np.where(costs < np.median(costs), np.inf, costs)

    proposals = _run(optimizer, key, start, half)
    _check_proposals(optimizer, proposals, f"{name}, half of the costs +inf")
    broken = _run(optimizer, key, start, lambda plans: np.where(np.isinf(half(plans)), np.nan, half(plans)))
    assert _bytes(proposals) == _bytes(broken), f"{name}: NaN costs lead elsewhere than +inf costs"
    nothing = _run(optimizer, key, start, lambda plans: np.full(len(plans), np.inf))
    _check_proposals(optimizer, nothing, f"{name}, all costs +inf")

    told = [_priced(proposal, start, half) for proposal in proposals[:-1]]
    forbidden = {row.tobytes() for controls, costs in told for row in controls[~np.isfinite(costs)]}
    allowed = {row.tobytes() for controls, costs in told for row in controls[np.isfinite(costs)]}
    rolled = Plans.from_controls(proposals[-1].controls, start.speed).controls
    for row, label in zip(rolled, proposals[-1].labels, strict=True):
        wins = label == "best" and bool(allowed) and row.tobytes() in forbidden - allowed
        assert not wins, f"{name}: a candidate of infinite cost is the best"


def _bytes(proposals: list[Proposal]) -> list[bytes]:
    return [part for p in proposals for part in (p.controls.tobytes(), p.infeasible.tobytes(), repr(p.labels).encode())]


def _leaves(state: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree_util.tree_leaves(state)]


class _Compilations:
    """Counts what JAX compiles while it is open."""

    _open: list[_Compilations] = []  # noqa: RUF012
    _listening = False

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> _Compilations:
        # JAX has no public way to take one listener off again: a single one stays, and counts for whoever is open.
        if not _Compilations._listening:
            jax.monitoring.register_event_duration_secs_listener(_Compilations._heard)
            _Compilations._listening = True
        _Compilations._open.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _Compilations._open.remove(self)

    @staticmethod
    def _heard(event: str, duration_secs: float, **details: Any) -> None:
        if event == COMPILED:
            for counter in _Compilations._open:
                counter.count += 1
