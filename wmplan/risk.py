"""How the costs of M imagined samples become one: the mean, the worst, or in between. NumPy and JAX alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float


@runtime_checkable
class Risk(Protocol):
    """One cost a candidate from its samples' costs, lower is better; hashable, so that programs compile once for it.

    A sample that is not finite counts as +inf, and so does its candidate: whoever averages NaN away picks it.
    """

    def __call__(self, costs: Float[Any, "M *K"]) -> Float[Any, "*K"]: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Mean:
    """The expected cost: indifferent to risk."""

    def __call__(self, costs: Float[Any, "M *K"]) -> Float[Any, "*K"]:
        """The mean over samples."""
        return _weighted(_broken_is_infinite(costs), [1.0 / len(costs)] * len(costs))


@dataclass(frozen=True)
class Worst:
    """The dearest sample: certain to trust no good luck, and to be ruled by one sample."""

    def __call__(self, costs: Float[Any, "M *K"]) -> Float[Any, "*K"]:
        """The largest cost of any sample."""
        return _broken_is_infinite(costs).max(axis=0)


@dataclass(frozen=True)
class CVaR:
    """Conditional value at risk: the mean of the dearest share `alpha` of the samples.

    `alpha` 1 is the mean, `alpha` to 0 the worst. A share that cuts a sample takes the part of it.

    References:
        Rockafellar and Uryasev (2002), "Conditional value-at-risk for general loss distributions", Proposition 8.
    """

    alpha: float = 0.25
    """Share of the samples, above 0 and at most 1."""

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"CVaR.alpha is {self.alpha}, expected above 0 and at most 1")

    def __call__(self, costs: Float[Any, "M *K"]) -> Float[Any, "*K"]:
        """The mean cost of the dearest samples."""
        m = len(costs)
        xp = costs.__array_namespace__()
        ordered = xp.sort(_broken_is_infinite(costs), axis=0)[::-1]
        share = max(self.alpha * m, 1e-9)
        taken = [min(max(share - i, 0.0), 1.0) / share for i in range(m)]
        return _weighted(ordered, taken)


@dataclass(frozen=True)
class Entropic:
    """log(mean(exp(theta cost))) / theta: an average in which dear samples count more.

    `theta` to 0 is the mean, `theta` to infinity the worst. Per unit of cost.

    References:
        Howard and Matheson (1972), "Risk-sensitive Markov decision processes".
    """

    theta: float = 1.0
    """Aversion to risk, above 0."""

    def __post_init__(self) -> None:
        if not 0.0 < self.theta < float("inf"):
            raise ValueError(f"Entropic.theta is {self.theta}, expected a positive number")

    def __call__(self, costs: Float[Any, "M *K"]) -> Float[Any, "*K"]:
        """The entropic mean, taken from the dearest sample so that nothing overflows."""
        xp = costs.__array_namespace__()
        costs = _broken_is_infinite(costs)
        worst = costs.max(axis=0)
        known = xp.where(xp.isfinite(worst), worst, 0.0)
        below = xp.where(xp.isfinite(costs), self.theta * (costs - known[None]), 0.0)
        # expm1 and log1p keep the digits that exp would lose as theta goes to 0.
        mean = _weighted(xp.expm1(below), [1.0 / len(costs)] * len(costs))
        return xp.where(xp.isfinite(worst), known + xp.log1p(mean) / self.theta, xp.inf)


MEAN = Mean()


@dataclass(frozen=True)
class RiskConfig:
    """How the costs of the imagined samples become one."""

    kind: Literal["mean", "worst", "cvar", "entropic"] = "mean"
    """`mean`, `worst` sample, `cvar` (mean of the worst share `level`), `entropic` (with `level` as its theta)."""
    level: float = 0.25
    """Share of the samples for `cvar` (above 0, at most 1), theta for `entropic` (above 0); others do not use it."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> Risk:
        """The strategy.

        Raises:
            ValueError: a level that cannot be.
        """
        if self.kind == "cvar":
            return CVaR(self.level)
        if self.kind == "entropic":
            return Entropic(self.level)
        return MEAN if self.kind == "mean" else Worst()


AVERAGED = RiskConfig()


def _broken_is_infinite(costs: Float[Any, "M *K"]) -> Float[Any, "M *K"]:
    xp = costs.__array_namespace__()
    return xp.where(xp.isfinite(costs), costs, xp.inf)


def _weighted(costs: Float[Any, "M *K"], weights: list[float]) -> Float[Any, "*K"]:
    """The weighted sum, sample by sample in order: a row's last bit must not depend on how many rows there are."""
    total = weights[0] * costs[0]
    for weight, row in zip(weights[1:], costs[1:], strict=True):
        if weight > 0.0:
            total = total + weight * row
    return total
