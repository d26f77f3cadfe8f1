"""The parts of the instrument by layer: those that read a forecast (L1 to L3), and the probes of reaction (L4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wmplan.statistics import Measure
from wmplan.validation import (
    accuracy,
    action_use,
    controllability,
    drift,
    frame_rate,
    inverse_control,
    long_run,
    reaction,
)
from wmplan.validation.layers import Layer
from wmplan.validation.long_run import Mode
from wmplan.validation.memorisation import Bank
from wmplan.validation.probes import CEILING, SceneProbes

ACCURACY = accuracy.LAYER.name
DIAGNOSTICS = "diagnostics"
DRIFT, RATE = "two-chunk drift", "frame rate"
LONG_RUN: dict[Mode, str] = {"free": "long run, free", "regrounded": "long run, regrounded"}
REACTION, TWIN = "L4 reaction", "L4 reaction, twin"
CONTROL, INVERSE, USE = "L4 controllability", "L4 inverse control", "L4 action use"


@dataclass(frozen=True)
class Result:
    """A figure of one model in one part of a layer."""

    part: str
    model: str
    measure: Measure

    @property
    def layer(self) -> str:
        """L1, L2, L3, L4 or diagnostics."""
        return layer_of(self.part)


def forecast_parts(layers: Sequence[str], temperature: float | None, bank: Bank | None) -> list[Layer[Any]]:
    """What reads a forecast, of these layers; `temperature` is the model's own, fitted on training scenes as `bank`."""
    from critics import TaskCritic
    from wmplan.validation.registry import layers as registered

    known = registered(TaskCritic(), temperature, bank)
    return [layer for layer in known if layer_of(layer.name) in layers]


def layer_of(part: str) -> str:
    """L1, L2, L3, L4 or diagnostics."""
    return part[:2] if part[:2] in ("L1", "L2", "L3", "L4") else DIAGNOSTICS


Rows = Mapping[str, Mapping[str, Sequence[Any]]]
"""Rows by part, then by model, in the same order of scenes for every model."""


def summaries(rows: Rows, model: str, temperatures: Mapping[str, float], bank: Bank | None, seed: int) -> list[Result]:
    """Every figure of every model from the rows of all scenes, those of `model` against its baselines too."""
    results: list[Result] = []
    for part, by_model in rows.items():
        for name, own in by_model.items():
            found = _summary(part, name, temperatures, bank)(own, seed) if own else []
            results += [Result(part, name, measure) for measure in found]
            if part == ACCURACY and name == model:
                others = [by_model[other] for other in ("persistence", "cv") if by_model.get(other) and other != model]
                results += [Result(part, name, m) for m in accuracy.summarise_against(own, others, seed)]
            if part == REACTION and own:
                over = reaction.slope_over_ceiling(own, by_model[CEILING], seed)
                results.append(Result(part, name, over))
    return results


def probe_rows(found: Mapping[str, SceneProbes]) -> dict[str, dict[str, Any]]:
    """One scene's probes by part and model; parts that say nothing of the scene are left out."""
    parts: dict[str, dict[str, Any]] = {REACTION: {name: one.reaction for name, one in found.items()}}
    controls = {name: one.control for name, one in found.items() if one.control is not None}
    uses = {name: one.use for name, one in found.items() if one.use is not None}
    twins = {name: one.twin for name, one in found.items() if one.twin is not None}
    parts |= {CONTROL: controls, INVERSE: controls, USE: uses, TWIN: twins}
    return {part: by_model for part, by_model in parts.items() if by_model}


def cleared(results: Sequence[Result], model: str, layer: str) -> tuple[bool | None, list[str]]:
    """Whether the model keeps every gate of a layer, and which it does not keep; None where none was measured.

    A gate without a figure is not kept, except in L1, where it is that of a class which the data lacks. The twin is
    another truth, reported beside the layer and no part of its verdict.
    """
    gated = [r for r in results if r.model == model and r.layer == layer and r.measure.gate and r.part != TWIN]
    gated = [r for r in gated if not (layer == "L1" and math.isnan(r.measure.value))]
    if not gated:
        return None, []
    missed = [
        f"{r.part.removeprefix(layer).strip()}: {r.measure.metric} is {_number(r.measure.value)}, gate {r.measure.gate}"
        for r in gated
        if r.measure.cleared is not True
    ]
    return not missed, missed


def _summary(
    part: str, name: str, temperatures: Mapping[str, float], bank: Bank | None
) -> Callable[[Sequence[Any], int], list[Measure]]:
    known: dict[str, Callable[[Sequence[Any], int], list[Measure]]] = {
        REACTION: reaction.summarise,
        TWIN: reaction.summarise,
        CONTROL: controllability.summarise,
        INVERSE: inverse_control.summarise,
        USE: action_use.summarise,
        DRIFT: drift.summarise,
        RATE: frame_rate.summarise,
        **dict.fromkeys(LONG_RUN.values(), long_run.summarise),
    }
    if part in known:
        return known[part]
    layers = forecast_parts((layer_of(part),), temperatures.get(name), bank)
    return next(layer for layer in layers if layer.name == part).summarise


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3g}"
