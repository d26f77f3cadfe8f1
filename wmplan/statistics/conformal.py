"""What a refusal rule calibrated by split-conformal p-values promises: the band that its refusal rate must fall into.

References:
    Vovk (2012), conditional validity of inductive conformal predictors: the rate given a calibration set is Beta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import betabinom


@dataclass(frozen=True)
class RefusalBand:
    """How many of `trials` new scenes are refused where p < alpha, if nothing has changed: mean rate and band."""

    rate: float
    low: float
    high: float
    trials: int
    reason: str = ""


def refusal_band(*, calibration: int, trials: int, alpha: float, level: float = 0.95) -> RefusalBand:
    """The band of refusal rates, with the noise of the calibration set besides the binomial's.

    With n calibration scenes and continuous scores the chance of p < alpha given them is Beta(k, n + 1 - k) with
    k = ceil(alpha (n + 1)) - 1. Where k = 0 nothing can be refused.

    Raises:
        ValueError: no calibration scene, no trial, or an alpha outside (0, 1).
    """
    if calibration < 1 or trials < 1 or not 0.0 < alpha < 1.0:
        raise ValueError(
            f"refusal_band: {calibration} scenes, {trials} trials, alpha {alpha}, expected 1, 1, in (0, 1)"
        )
    k = math.ceil(alpha * (calibration + 1) - 1e-9) - 1
    if k == 0:
        return RefusalBand(0.0, 0.0, 0.0, trials, f"{calibration} scenes are too few: no p-value is below {alpha}")
    law = betabinom(trials, k, calibration + 1 - k)
    low, high = law.ppf((1.0 - level) / 2.0), law.ppf((1.0 + level) / 2.0)
    return RefusalBand(k / (calibration + 1), float(low) / trials, float(high) / trials, trials)
