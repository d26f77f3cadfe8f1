"""Critics turn imagined futures into named terms, and the terms into one cost with a verdict: task terms, Vista's
reward, the inverse-control probe and the support density. `default_critics` gives all of a model's as one `Composite`;
`fit_critics` fits those that learn from logs."""

from critics.composite import COST_PARTS, Composite, CostWeights, recompute, total_of_parts
from critics.fitting import FitConfig, FittedCritics, LoggedAction, default_critics, fit_critics
from critics.inverse_control import InverseControlProbe, ProbeConfig, collect_responses
from critics.probe_summary import ProbeSummary, probe_summary
from critics.support import SupportConfig, SupportDensity
from critics.support_features import SupportExamples
from critics.support_neighbours import NeighboursConfig, SupportNeighbours
from critics.task import TaskConfig, TaskCritic
from critics.vista import VistaConfig, VistaCritic

__all__ = [
    "COST_PARTS",
    "Composite",
    "CostWeights",
    "FitConfig",
    "FittedCritics",
    "InverseControlProbe",
    "LoggedAction",
    "NeighboursConfig",
    "ProbeConfig",
    "ProbeSummary",
    "SupportConfig",
    "SupportDensity",
    "SupportExamples",
    "SupportNeighbours",
    "TaskConfig",
    "TaskCritic",
    "VistaConfig",
    "VistaCritic",
    "collect_responses",
    "default_critics",
    "fit_critics",
    "probe_summary",
    "recompute",
    "total_of_parts",
]
