"""One self-contained HTML page that explains a finished study: trust, planners, agreement, scenes, failures."""

from experiments.report.page import write_report

__all__ = ["write_report"]
