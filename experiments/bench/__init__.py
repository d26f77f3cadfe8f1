"""`wmplan bench <what>`: the figures that README and docs quote, measured and written to `docs/results/`.

One module a benchmark, each with its config and `run`. Nothing here is asserted; a goal missed is written down as
missed.
"""

__all__ = ["cache", "forecast", "ingest", "logs", "road", "rows", "study"]
