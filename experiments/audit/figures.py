"""All figures of an audit, and those with a goal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.audit.contenders import ROAD, ROAD_SHUFFLED
from experiments.audit.joined import Joined
from experiments.audit.pooling import SHAKEN
from experiments.audit.prepared import Audit
from experiments.audit.selecting import Selecting, selecting
from experiments.audit.support import (
    Bin,
    Confound,
    Doubt,
    Refusals,
    Told,
    by_support,
    confounds,
    doubts,
    refusals,
    told,
)
from experiments.audit.within import COST, PERMUTED, SCORES, Within, within
from wmplan.statistics import Interval

ACCURACY = "pairwise_accuracy"
GOAL_ACCURACY, GOAL_AUROC, GOAL_SPEARMAN, GOAL_AURC, GOAL_CURSE, GOAL_STOP = 0.90, 0.95, 0.6, 1.5, 0.5, 0.05


@dataclass(frozen=True)
class Headline:
    """A figure with its goal. `met` is None where nothing was promised; `note` says what is behind a miss."""

    name: str
    value: Interval
    goal: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """Everything that was found out."""

    within: Within
    bins: tuple[Bin, ...]
    doubts: tuple[Doubt, ...]
    told: tuple[Told, ...]
    refusals: tuple[Refusals, ...]
    confounds: tuple[Confound, ...]
    selecting: Selecting
    headlines: tuple[Headline, ...]


def figures(audit: Audit, joined: Joined) -> Figures:
    """The figures of what was joined."""
    seed, resamples = audit.config.seed, audit.config.resamples
    found = Figures(
        within(joined, audit.name, seed, resamples),
        tuple(by_support(joined, seed, resamples)),
        tuple(doubts(joined, seed, resamples)),
        tuple(told(joined, seed, resamples)),
        tuple(refusals(joined)),
        tuple(confounds(joined, seed, resamples)),
        selecting(joined, seed, resamples),
        (),
    )
    heads = [*_ranking(found, audit.name), *_support(found), *_selection(found)]
    return Figures(**{**found.__dict__, "headlines": tuple(heads)})


def _ranking(found: Figures, model: str) -> Iterator[Headline]:
    own = found.within.of(model)
    assert own is not None, "the model is always ranked"
    for name, value in own.metrics.items():
        goal = f"at least {GOAL_ACCURACY:.2f}" if name == ACCURACY else ""
        yield Headline(f"{name} within scenes, {model}", value, goal, value.value >= GOAL_ACCURACY if goal else None)
    for real, words in zip(SCORES[1:], ("nuPlan's score", "PDMS against the log's progress")):
        other = found.within.of(model, COST, real)
        if other is not None:
            yield Headline(f"pairwise_accuracy within scenes, {model}, by {words}", other.metrics[ACCURACY])
    permuted = found.within.of(PERMUTED)
    if permuted is not None:
        value = permuted.metrics[ACCURACY]
        met = value.low <= 0.5 <= value.high
        yield Headline("pairwise_accuracy within scenes, labels permuted", value, "0.5 within the interval", met)
    ceiling = found.within.of(ROAD)
    if ceiling is not None:
        yield Headline("pairwise_accuracy within scenes, the true futures (ceiling)", ceiling.metrics[ACCURACY])
    for one in found.within.differences:
        if one.real != SCORES[0] or one.metric != ACCURACY or one.placebo in (ROAD, ROAD_SHUFFLED):
            continue
        yield Headline(
            f"pairwise_accuracy within scenes, {model} above {one.placebo}",
            one.interval,
            "significantly above 0",
            one.interval.low > 0.0,
        )
    both = found.within.of(ROAD), found.within.of(ROAD_SHUFFLED)
    if both[0] is not None and both[1] is not None:
        lost = both[0].metrics[ACCURACY].value - both[1].metrics[ACCURACY].value
        count = both[0].metrics[ACCURACY].count
        value = Interval(lost, math.nan, math.nan, count, "a difference of two means")
        yield Headline("pairwise_accuracy that hangs on who reacts to what (true futures, shuffled)", value)


def _support(found: Figures) -> Iterator[Headline]:
    for one in found.told:
        if one.name == "support" and math.isnan(one.distance_m):
            goal = f"at least {GOAL_AUROC}" if one.kind == SHAKEN else ""
            what = "shaken" if one.kind == SHAKEN else "smoothly perturbed, 0.5 to 8 m"
            met = one.auroc.value >= GOAL_AUROC if goal else None
            yield Headline(f"support: AUROC of driven against {what} actions", one.auroc, goal, met)
    for row in found.refusals:
        value = Interval(row.rate, math.nan, math.nan, row.trials, "one binomial count")
        goal = f"{row.band.low:.3f} to {row.band.high:.3f}" if not row.band.reason else ""
        met = row.inside if goal else None
        yield Headline(f"support: refusal rate of driven actions at {row.alpha:g}", value, goal, met, row.band.reason)
    for doubt in found.doubts:
        if doubt.name != "support":
            continue
        note = f"no estimator without ties could reach more than {doubt.highest:.2f} here"
        met = doubt.correlation.value >= GOAL_SPEARMAN
        yield Headline(
            "support against the critic's error, Spearman", doubt.correlation, f"at least {GOAL_SPEARMAN}", met, note
        )
        oracle = doubt.curve.oracle_aurc
        ratio = doubt.aurc.value / oracle if oracle > 0.0 else math.nan
        value = Interval(ratio, doubt.aurc.low / oracle, doubt.aurc.high / oracle, doubt.aurc.count) if oracle else (
            Interval(math.nan, math.nan, math.nan, doubt.aurc.count, "no errors")
        )  # fmt: skip
        note = f"AURC {doubt.aurc.value:.4f}, oracle {oracle:.4f}, random {doubt.curve.random:.4f}"
        yield Headline("support: AURC over the oracle's", value, f"at most {GOAL_AURC}", ratio <= GOAL_AURC, note)


def _selection(found: Figures) -> Iterator[Headline]:
    one = found.selecting
    size = one.ungated.sizes[-1]
    ungated, gated = one.ungated.curse[-1], one.gated.curse[-1]
    yield Headline(f"winner's curse at {size} candidates, ungated", ungated)
    yield Headline(f"winner's curse at {size} candidates, gated", gated)
    # Where choosing from everything brings no curse there is nothing for a gate to halve.
    curse = ungated.low > 0.0
    ratio = gated.value / ungated.value if curse else math.nan
    value = Interval(ratio, math.nan, math.nan, ungated.count, "" if curse else "no curse without the gate")
    met = ratio <= GOAL_CURSE if curse else None
    yield Headline(f"winner's curse at {size} candidates, gated over ungated", value, f"at most {GOAL_CURSE}", met)
    stop = one.stop
    yield Headline(
        "stop bias: a standing candidate chosen where the log moves", stop, f"under {GOAL_STOP}", stop.value < GOAL_STOP
    )
    pairs = Interval(float(one.reordered), math.nan, math.nan, one.inside, "a count of pairs")
    yield Headline("pairs inside the support that the penalty reorders", pairs, "0", one.reordered == 0)
