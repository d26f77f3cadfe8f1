"""How far logged drives speak for a policy: weights, effective sample size, overlap over the horizon, and refusal.

References:
    Kong (1992) for the effective sample size; `reference/evaluation.md` 2, "When to refuse IS".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.ope.trajectories import Trajectories


@dataclass(frozen=True)
class Limits:
    """Beyond any of these, importance sampling is refused. Checked at the last decision."""

    least_ess: float = 50.0
    """effective sample size, drives"""
    least_ess_share: float = 0.1
    """effective sample size over the number of drives: below, the sample size flatters, and nominal 95 % intervals of
    WIS covered 56 to 88 % in simulations (docs/ope.md)"""
    most_share: float = 0.05
    """of all weight, on one drive"""
    least_mean_weight: float = 0.5
    """Weights average 1 in expectation. A lower mean says that drives which the policy would make are missing from the
    logs, which the effective sample size, computed from the drives that are there, cannot see."""


@dataclass(frozen=True)
class Overlap:
    """Figures at each decision, of the weights up to it.

    `ess` is (sum w)^2 / sum w^2, `max_share` is max w / sum w, `mean_weight` is 1 in expectation, `common` estimates
    the mass that both laws of drives share (1: the same law), `impossible` is the share of drives that the policy would
    never make, `clipped` the share of all weight that lies above 10 times the mean weight.
    """

    policy: str
    drives: int
    ess: Float[ndarray, "T"]
    max_share: Float[ndarray, "T"]
    mean_weight: Float[ndarray, "T"]
    common: Float[ndarray, "T"]
    impossible: Float[ndarray, "T"]
    clipped: Float[ndarray, "T"]


CLIP = 10.0
"""Weights above so many times the mean weight count as clipped mass."""


def overlap(logged: Trajectories) -> Overlap:
    """The figures for a policy with densities.

    Raises:
        ValueError: a side without densities.
    """
    log = logged.log_weights()
    most = log.max(axis=0)
    # Shares are of weights divided by the largest; with no possible drive left they are all zero.
    weights = np.exp(log - np.where(np.isfinite(most), most, 0.0))
    total, squares = weights.sum(0), (weights**2).sum(0)
    possible = total > 0.0
    safe = np.where(possible, total, 1.0)
    shares = weights / safe
    with np.errstate(over="ignore"):
        mean_weight = np.where(possible, np.exp(most + np.log(safe / len(log))), 0.0)
    return Overlap(
        logged.policy,
        len(logged),
        np.where(possible, total**2 / np.where(possible, squares, 1.0), 0.0),
        shares.max(0),
        mean_weight,
        np.exp(np.minimum(log, 0.0)).mean(0),
        (log == -np.inf).mean(0),
        np.maximum(shares - CLIP / len(log), 0.0).sum(0),
    )


def refusal(logged: Trajectories, limits: Limits) -> str:
    """Why importance sampling is refused for this policy and these logs; empty where it is not."""
    name = f"policy {logged.policy}"
    if logged.deterministic:
        return f"{name} is deterministic: its decisions have no density, so there is no propensity"
    if logged.target is None:
        return f"{name} states no density of its decisions"
    if logged.behaviour is None:
        return "the logs hold no propensities"
    seen = overlap(logged)
    steps = len(seen.ess)
    ess, share, mean = float(seen.ess[-1]), float(seen.max_share[-1]), float(seen.mean_weight[-1])
    upto = usable_decisions(seen, limits)
    until = f" after {steps} decisions (within limits up to {upto})"
    if not ess:
        return f"{name} would have made none of the {len(logged)} logged drives"
    least = max(limits.least_ess, limits.least_ess_share * len(logged))
    if ess < least:
        return f"{name}: effective sample size {ess:.1f}{until}, expected {least:g} or more of {len(logged)} drives"
    if share > limits.most_share:
        return f"{name}: one drive has {share:.0%} of all weight{until}, expected at most {limits.most_share:.0%}"
    if mean < limits.least_mean_weight:
        return f"{name}: weights average {mean:.2f}{until}, expected about 1: drives that it would make are missing"
    return ""


def usable_decisions(seen: Overlap, limits: Limits) -> int:
    """How many decisions from the first on stay within the limits."""
    fine = (
        (seen.ess >= max(limits.least_ess, limits.least_ess_share * seen.drives))
        & (seen.max_share <= limits.most_share)
        & (seen.mean_weight >= limits.least_mean_weight)
    )
    return int(np.argmin(fine)) if not fine.all() else len(fine)
