"""`wmplan ope`: what each policy is worth by every estimator, against what it is truly worth on a road.

Estimates first, in processes that cannot open the truth; then the truth; joined last. Exit status: 0 done, 3 done with
failures that are listed, 1 an input that cannot be used. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import time

from experiments.ope.carrying import estimate, find_truth, share_missing, weigh
from experiments.ope.joining import join
from experiments.ope.preparing import Prepared, prepare
from experiments.ope.recorded import Watch, record
from experiments.ope.results import Finished, finish
from experiments.ope.settings import OpeCommand
from experiments.ope.tables import show

FAILED_STATUS = 3


def run(command: OpeCommand) -> int:
    """Estimate, find the truth, join; show, draw, log and record what came out; the exit status."""
    began = time.perf_counter()
    with Watch() as watch:
        prepared = prepare(command)
        fresh = share_missing(prepared)
        found = carry_out(prepared)
        if command.page:
            from experiments.ope.page import write_page

            write_page(found)
    seconds = time.perf_counter() - began
    show(found, seconds)
    if command.mlflow:
        from experiments.ope.mlflow_pages import track

        track(found, command)
    if command.record:
        record(found, command, seconds, fresh, watch.peak_bytes)
    return FAILED_STATUS if len(found.failures) else 0


def evaluate_policies(command: OpeCommand) -> Finished:
    """The finished run.

    Raises:
        InputError: a command that cannot be carried out; truth and estimates of other scenes.
    """
    return carry_out(prepare(command))


def carry_out(prepared: Prepared) -> Finished:
    """The finished run of what was prepared.

    Raises:
        InputError: no scene could be done; truth and estimates of other scenes.
    """
    failed = {"estimates": estimate(prepared), "truth": find_truth(prepared)}
    weigh(prepared)
    return finish(prepared, join(prepared, failed))
