"""Critics turn imagined futures into named terms, and the terms into one cost with a verdict: task terms, Vista's
reward, the inverse-control probe and the support density. `default_critics` gives all of a model's as one `Composite`;
`fit_critics` fits those that learn from logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from critics.composite import Composite, recompute, total_of_parts
    from critics.fitting import FitConfig, FittedCritics, LoggedAction, default_critics, fit_critics
    from critics.inverse_control import InverseControlProbe, ProbeConfig, collect_responses
    from critics.recovery import ProbeSummary, probe_summary
    from critics.support import SupportConfig, SupportDensity
    from critics.support_features import SupportExamples
    from critics.support_neighbours import NeighboursConfig, SupportNeighbours
    from critics.task import TaskConfig, TaskCritic
    from critics.vista import VistaConfig, VistaCritic
    from critics.weights import COST_PARTS, CostWeights

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

if not TYPE_CHECKING:
    # Whoever only configures or reads a study needs no torch: a name is imported when it is asked for.
    _HOME = {
        "critics.composite": (
            "Composite",
            "recompute",
            "total_of_parts",
        ),
        "critics.fitting": (
            "FitConfig",
            "FittedCritics",
            "LoggedAction",
            "default_critics",
            "fit_critics",
        ),
        "critics.inverse_control": (
            "InverseControlProbe",
            "ProbeConfig",
            "collect_responses",
        ),
        "critics.recovery": (
            "ProbeSummary",
            "probe_summary",
        ),
        "critics.support": (
            "SupportConfig",
            "SupportDensity",
        ),
        "critics.support_features": ("SupportExamples",),
        "critics.support_neighbours": (
            "NeighboursConfig",
            "SupportNeighbours",
        ),
        "critics.task": (
            "TaskConfig",
            "TaskCritic",
        ),
        "critics.vista": (
            "VistaConfig",
            "VistaCritic",
        ),
        "critics.weights": (
            "COST_PARTS",
            "CostWeights",
        ),
    }

    def __getattr__(name: str) -> object:
        import importlib

        for module, names in _HOME.items():
            if name in names:
                return getattr(importlib.import_module(module), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
