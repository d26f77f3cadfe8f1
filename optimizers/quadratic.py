"""A parametrised quadratic program: canonicalised once by cvxpy, solved by OSQP's own update for all parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from numpy import ndarray

SETTINGS = {
    "eps_abs": 1e-6,
    "eps_rel": 1e-6,
    "eps_prim_inf": 1e-6,
    "max_iter": 4000,
    "adaptive_rho": 1,
    # By the clock, the answer would depend on the machine's load.
    "adaptive_rho_interval": 25,
    "verbose": False,
}
RHO = 0.1
"""Step size that every batch starts from; the solver adapts it from solve to solve."""
SHARE = 1e-3
"""Share of the largest weight in a certificate of infeasibility from which a bound counts as part of the conflict."""


@dataclass(frozen=True)
class Answer:
    """What the solver found, judged in float64 on the unscaled program.

    `unknown` is None where there is no solution; `conflict` then names the bounds that cannot hold together (empty
    where the solver stopped without a proof). `violation` is the largest violation of a row, `stationarity` the largest
    entry of the gradient of the Lagrangian, `gap` the difference of primal and dual objective relative to their size.
    """

    unknown: Float[ndarray, "N"] | None
    conflict: tuple[str, ...]
    violation: float
    stationarity: float
    gap: float
    iterations: int


class QuadraticProgram:
    """A cvxpy problem whose data are affine in its parameters (DPP), kept as that affine map and one OSQP workspace.

    cvxpy's own `solve` takes five times as long as the solver for programs of this size; here it is asked once for the
    map, and its answer is checked at another point.
    """

    def __init__(self, problem: Any, unknown: Any, parameters: Sequence[Any], bounds: Sequence[Any]) -> None:
        """`parameters` is the order of values in `solve`; `bounds` are those of them that a conflict may be named by.

        Raises:
            ValueError: if the problem is not DPP, or its quadratic form depends on a parameter.
        """
        if not problem.is_dcp(dpp=True):
            raise ValueError("QuadraticProgram: the problem is not DPP: its data are not affine in its parameters")
        self._parameters = tuple(parameters)
        self._sizes = [int(np.prod(p.shape, dtype=int)) for p in self._parameters]
        rng = np.random.default_rng(0)
        # No entry may vanish by chance, or the sparsity would change; so the map is read off between generic points.
        nominal = rng.uniform(0.5, 1.0, sum(self._sizes))
        first = _data(problem, self._parameters, nominal)
        columns = []
        for i in range(len(nominal)):
            moved = nominal.copy()
            moved[i] += 1.0
            columns.append(_data(problem, self._parameters, moved).vector - first.vector)
        slopes = np.stack(columns, axis=1)
        slopes[np.abs(slopes) < 1e-12] = 0.0
        self._slopes = sp.csr_array(slopes)
        self._offset = first.vector - self._slopes @ nominal
        other = rng.uniform(0.5, 1.0, len(nominal))
        there = _data(problem, self._parameters, other)
        if not np.allclose(there.vector, self._offset + self._slopes @ other, atol=1e-9):
            raise ValueError("QuadraticProgram: the program's data are not affine in its parameters")
        if (there.p != first.p).nnz:
            raise ValueError("QuadraticProgram: the quadratic form depends on a parameter")
        self._first = first
        self._rows = _merged(first, there)
        self._names = self._rows_of(bounds, slopes[-len(first.upper) :])
        self._columns = first.column_of(unknown)
        self._solver: Any = None

    def solve(self, values: Sequence[Float[ndarray, "..."] | float], warm: bool) -> Answer:
        """The optimum for these values of the parameters; `warm` goes on from the last one solved."""
        theta = np.concatenate([np.ravel(np.asarray(value, dtype=np.float64)) for value in values])
        q, a, lower, upper = self._rows.program(self._first, self._offset + self._slopes @ theta)
        crossed = lower - upper
        if crossed.max() > 0.0:
            # OSQP would keep the data it had before; such rows are their own proof.
            proof = np.where(crossed == crossed.max(), 1.0, 0.0)
            return Answer(None, self._conflict(proof, both=True), np.inf, np.inf, np.inf, 0)
        if self._solver is None:
            import osqp

            self._solver = osqp.OSQP()
            self._solver.setup(sp.triu(self._first.p, format="csc"), q, a, lower, upper, rho=RHO, **SETTINGS)
        else:
            self._solver.update(q=q, l=lower, u=upper, Ax=a.data)
        if not warm:
            self._solver.update_settings(rho=RHO)
            self._solver.warm_start(x=np.zeros(len(q)), y=np.zeros(len(upper)))
        return self._judged(self._solver.solve(raise_error=False), q, a, lower, upper)

    def _judged(self, found: Any, q: ndarray, a: Any, lower: ndarray, upper: ndarray) -> Answer:
        status, iterations = str(found.info.status), int(found.info.iter)
        if not status.startswith("solved"):
            proof = found.prim_inf_cert if "primal infeasible" in status else None
            # What failed must not be where the next program starts from.
            self._solver.warm_start(x=np.zeros(len(q)), y=np.zeros(len(upper)))
            return Answer(None, self._conflict(proof), np.inf, np.inf, np.inf, iterations)
        x, y = np.array(found.x), np.array(found.y)
        at = a @ x
        violation = max(float((at - upper).max()), float((lower - at).max()), 0.0)
        curved = self._first.p @ x
        stationarity = float(np.abs(curved + q + a.T @ y).max())
        bounded = np.isfinite(lower)
        support = float(np.maximum(y, 0.0) @ upper + np.minimum(y[bounded], 0.0) @ lower[bounded])
        primal, dual = float(0.5 * x @ curved + q @ x), float(-0.5 * x @ curved) - support
        gap = abs(primal - dual) / (1.0 + abs(primal) + abs(dual))
        return Answer(x[self._columns], (), violation, stationarity, gap, iterations)

    def _conflict(self, proof: ndarray | None, both: bool = False) -> tuple[str, ...]:
        """Names of the bounds with weight in a certificate of infeasibility, heaviest first; `both`: of both sides."""
        if proof is None or not np.isfinite(proof).all():
            return ()
        weights: dict[str, float] = {}
        for name, row, sign in self._names:
            weight = float(proof[row])
            weights[name] = max(weights.get(name, 0.0), abs(weight) if both else sign * weight)
        largest = max(weights.values(), default=0.0)
        heavy = [name for name in weights if weights[name] > SHARE * largest]
        return tuple(sorted(heavy, key=lambda name: -weights[name]))

    def _rows_of(self, bounds: Sequence[Any], slopes: ndarray) -> list[tuple[str, int, float]]:
        """A bound's name, a row that it bounds, and the side, from how the right sides depend on the parameters."""
        starts = np.concatenate([[0], np.cumsum(self._sizes)]).astype(int)
        found = []
        for bound in bounds:
            i = next(i for i, parameter in enumerate(self._parameters) if parameter is bound)
            for row in np.flatnonzero(np.abs(slopes[:, starts[i] : starts[i + 1]]).sum(axis=1) > 0.0):
                upper = np.flatnonzero(self._rows.above == row)
                lower = np.flatnonzero(self._rows.below == row)
                found += [(bound.name(), int(at), 1.0) for at in upper] + [
                    (bound.name(), int(at), -1.0) for at in lower
                ]
        return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of the program that is solved: `above` and `below` are the canonical rows that bound it from either side.

    `below` is -1 where nothing does. `entries` are the canonical matrix's that are left, `pattern` is where they stand.
    """

    above: ndarray
    below: ndarray
    entries: ndarray
    pattern: Any

    def program(self, first: _Canonical, vector: ndarray) -> tuple[ndarray, Any, ndarray, ndarray]:
        """Linear cost, matrix, lower and upper bounds from all that depends on parameters."""
        n, m = len(first.q), len(first.upper)
        a = sp.csc_matrix((vector[n:-m][self.entries], self.pattern.indices, self.pattern.indptr), self.pattern.shape)
        right = vector[-m:]
        upper = right[self.above]
        lower = np.where(self.below < 0, -np.inf, -right[self.below])
        return vector[:n], a, np.where(first.equal[self.above], upper, lower), upper


def _merged(first: _Canonical, other: _Canonical) -> _Rows:
    """Pairs of rows that bound the same expression from both sides as one: the solver needs half the iterations."""
    dense = np.concatenate([first.a.toarray(), other.a.toarray()], axis=1)
    partner, dropped = np.full(len(dense), -1), np.zeros(len(dense), bool)
    seen: dict[bytes, int] = {}
    for row in np.flatnonzero(~first.equal):
        # Adding zero turns -0.0 into 0.0, whose bytes differ.
        twin = seen.get((-dense[row] + 0.0).round(9).tobytes(), -1)
        if twin >= 0 and partner[twin] < 0:
            partner[twin], dropped[row] = row, True
        else:
            seen[(dense[row] + 0.0).round(9).tobytes()] = int(row)
    above = np.flatnonzero(~dropped)
    numbered = sp.csc_matrix((np.arange(1, first.a.nnz + 1), first.a.indices, first.a.indptr), first.a.shape)
    pattern = sp.csc_matrix(numbered.tocsr()[above])
    pattern.sort_indices()
    return _Rows(above, partner[above], pattern.data - 1, pattern)


@dataclass(frozen=True, eq=False)
class _Canonical:
    """A program in OSQP's form at one set of parameters: 0.5 x' p x + q' x, rows `equal` or at most `upper`."""

    p: Any
    q: ndarray
    a: Any
    upper: ndarray
    equal: ndarray
    cone: Any

    @property
    def vector(self) -> ndarray:
        """All that depends on parameters."""
        return np.concatenate([self.q, self.a.data, self.upper])

    def column_of(self, variable: Any) -> slice:
        """Where the variable's values stand in x."""
        begin = self.cone.var_id_to_col[variable.id]
        return slice(begin, begin + variable.size)


def _data(problem: Any, parameters: Sequence[Any], theta: ndarray) -> _Canonical:
    """The canonical form at these values."""
    import cvxpy as cp

    at = 0
    for parameter in parameters:
        size = int(np.prod(parameter.shape, dtype=int))
        parameter.value = theta[at : at + size].reshape(parameter.shape)
        at += size
    data = problem.get_problem_data(cp.OSQP)[0]
    a = sp.vstack([data["A"], data["F"]]).tocsc()
    a.sort_indices()
    upper = np.concatenate([data["b"], data["G"]])
    equal = np.arange(len(upper)) < len(data["b"])
    return _Canonical(
        sp.csc_matrix(data["P"]), np.asarray(data["q"]), sp.csc_matrix(a), upper, equal, data["param_prob"]
    )
