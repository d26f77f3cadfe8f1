"""How sure a figure is, whether two orders agree, and whether confidence ranks errors: all safe under ties.

Besides what stands here: `intervals` (Student, Hoeffding, Bernstein, prediction-powered), `policies` (agreement of an
order of policies), `selective` (risk and coverage), `selection` (the winner's curse), `placebos`, `conformal`.
"""

from wmplan.statistics.agreement import (
    kendall_tau_b,
    mmrv,
    ndcg,
    pairwise_accuracy,
    pearson,
    regret_at_k,
    spearman,
    top_k_recall,
    winners_curse,
)
from wmplan.statistics.bootstrap import (
    Interval,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_statistic,
    minimum_detectable,
    paired_bootstrap,
    paired_ratio_bootstrap,
)
from wmplan.statistics.discrimination import auroc, auroc_interval
from wmplan.statistics.measure import Measure

__all__ = [
    "Interval",
    "Measure",
    "auroc",
    "auroc_interval",
    "bootstrap_mean",
    "bootstrap_ratio",
    "bootstrap_statistic",
    "kendall_tau_b",
    "minimum_detectable",
    "mmrv",
    "ndcg",
    "paired_bootstrap",
    "paired_ratio_bootstrap",
    "pairwise_accuracy",
    "pearson",
    "regret_at_k",
    "spearman",
    "top_k_recall",
    "winners_curse",
]
