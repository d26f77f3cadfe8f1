"""The figures of a validation that were promised, each with its goal, among the project's results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.bench.rows import Rows
from experiments.validate.contenders import HORIZON_S
from experiments.validate.instrument import ACCURACY, CONTROL, INVERSE, LONG_RUN, REACTION, TWIN, Result
from wmplan.validation.layers import Gate
from wmplan.validation.long_run import AT_S, KEPT, SPANS
from wmplan.validation.probes import CEILING, FLOOR, FORESEEN

ISSUE = 4
GAIN = Gate(at_least=0.1)
BRACKET = (CEILING, FORESEEN, FLOOR, "cv", "persistence", "random-init")


@dataclass(frozen=True)
class Promised:
    """A figure of a part and what was promised of it; `beside` also writes it for who stands beside the model."""

    part: str
    metric: str
    goal: Gate | None = None
    beside: bool = False


LONG = tuple(LONG_RUN.values())
PROMISED = (
    Promised(REACTION, "reaction slope over the ceiling's", Gate(0.95, 1.05)),
    Promised(REACTION, "reaction slope, tracked", beside=True),
    Promised(REACTION, "reaction slope, all", beside=True),
    Promised(REACTION, "reaction Spearman, tracked", Gate(at_least=0.98), beside=True),
    Promised(REACTION, "reaction sign right, tracked", Gate(at_least=0.98), beside=True),
    Promised(REACTION, "reaction coverage", beside=True),
    Promised(REACTION, "spurious effect, m", Gate(at_most=0.1), beside=True),
    Promised(REACTION, "place of who reacts at the hardest braking, m", Gate(at_most=0.8), beside=True),
    Promised(TWIN, "reaction slope, tracked", beside=True),
    Promised(TWIN, "reaction Spearman, tracked", Gate(at_least=0.9), beside=True),
    Promised(CONTROL, "controllability rho_all", Gate(at_least=0.95), beside=True),
    Promised(CONTROL, "controllability coverage", Gate(at_least=1.0), beside=True),
    Promised(INVERSE, "inverse control over chance, all", Gate(at_most=0.2), beside=True),
    Promised(INVERSE, "inverse control over the best constant, all", Gate(at_most=0.3), beside=True),
    Promised("motion", "direction, displacement, all", Gate(at_least=0.9), beside=True),
    Promised("motion", "magnitude, displacement, all", Gate(0.95, 1.05), beside=True),
    *(Promised(ACCURACY, f"iou, any, {seconds} s", beside=True) for seconds in (1, 2, 3)),
    *(Promised(ACCURACY, f"iou, any, {seconds} s, minus cv", Gate(at_least=0.0)) for seconds in (1, 2, 3)),
    Promised("L1 calibration", "ece, after", Gate(at_most=0.02), beside=True),
    Promised("L1 decisions", "flip_rate", Gate(at_most=0.03), beside=True),
    *(
        Promised(part, f"still there after {at:g} s", KEPT if at == 10.0 else None, True)
        for part in LONG
        for at in AT_S
    ),
    *(Promised(part, f"reaction slope from {low} to {high} s", beside=True) for part in LONG for low, high in SPANS),
)
WHERE = {
    TWIN: ", wrong-parameter twin",
    LONG_RUN["free"]: ", imagined on and on",
    LONG_RUN["regrounded"]: ", re-grounded every 6 s",
}
"""What the name of a figure says of its part."""


def record_figures(results: Sequence[Result], model: str, scenes: int, label: str, command: str, folder: str) -> None:
    """Writes those that were measured. A difference keeps its goal where its whole interval does."""
    rows = Rows(ISSUE, command, folder, label)
    known = {(one.part, one.measure.metric, one.model): one.measure for one in results}
    rows.write(f"{model}: scenes measured", float(scenes))
    last = f"iou, any, {HORIZON_S:g} s"
    own, cv = (known.get((ACCURACY, last, name)) for name in (model, "cv"))
    if own is not None and cv is not None and cv.value > 0.0:
        gain = own.value / cv.value - 1.0
        rows.write(f"{model}: {last}, relative gain over cv", gain, str(GAIN), GAIN.cleared(gain), n=own.count)
    for one in PROMISED:
        for name in (model, *(BRACKET if one.beside else ())):
            measure = known.get((one.part, one.metric, name))
            if measure is None or (math.isnan(measure.value) and name != model):
                continue
            goal = one.goal if name == model else None
            shown = measure.low if ", minus " in one.metric else measure.value
            met = None if goal is None else bool(goal.cleared(shown))
            text = "" if goal is None else f"{goal}, the whole interval" if ", minus " in one.metric else str(goal)
            between = (measure.low, measure.high)
            rows.write(
                f"{name}: {one.metric}{WHERE.get(one.part, '')}", measure.value, text, met, between, measure.count
            )
