"""What a model has cleared of the validation layers L1 to L5, said in words at the top of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.validate.record import FILE, Recorded, recorded

MEANINGS = {
    "L1": "forecast: occupancy above constant velocity and persistence on held-out scenes at 1, 2 and 3 s",
    "L2": "distributions: speeds, gaps and responses jointly like the real ones",
    "L3": "consistency: road users persist, none teleports",
    "L4": "reaction: road users answer the ego as they should under other actions",
    "L5": "ranking within scenes: pairs of plans are ordered as their real scores, above chance; an order of policies "
    "needs more planners than a study has",
}
LEAST_SCENES = 30
"""Fewer unseen scenes (groups drawn by the bootstrap) clear nothing."""


@dataclass(frozen=True)
class Layer:
    """One validation layer: whether the model cleared it, otherwise its state in a word."""

    name: str
    cleared: bool
    state: str
    meaning: str


@dataclass(frozen=True)
class Trust:
    """The layers and what follows from them."""

    layers: tuple[Layer, ...]
    text: str
    warning: bool


def trust_of(model: str, agreement: Mapping[str, Any]) -> Trust:
    """What the model's card, the record of `wmplan validate` beside it and this study's own agreement say.

    A layer is cleared if it was on some data; the words say on which. Layers that nobody measured are not cleared.
    """
    from experiments.assembly import forecast_cleared

    forecast = forecast_cleared(model)
    known = validated(model)
    unseen = agreement["order"]["unseen"]["pairwise_accuracy"]
    enough = unseen["n"] >= LEAST_SCENES
    above = enough and unseen["lower"] is not None and unseen["lower"] > 0.5
    states = {
        "L1": ("cleared" if forecast else "not cleared" if forecast is False else "not measured", bool(forecast)),
        **{layer: ("not measured", False) for layer in ("L2", "L3", "L4")},
        **{layer: (found.state, bool(found.cleared)) for layer, found in known.items() if layer in MEANINGS},
        "L5": ("within scenes" if above else "not cleared" if enough else "too few scenes", above),
    }
    layers = tuple(Layer(name, done, state, MEANINGS[name]) for name, (state, done) in states.items())
    done = [layer.name for layer in layers if layer.cleared]
    ranks = (
        f"On the unseen scenes of this study {unseen['value']:.0%} of pairs of plans are ordered as their real scores "
        f"[{unseen['lower']:.0%}, {unseen['upper']:.0%}]; one half is chance. "
        if unseen["value"] is not None and unseen["lower"] is not None
        else "This study has too few unseen scenes to say whether the imagined order agrees with the real one. "
    )
    text = (
        f"{'Cleared: ' + ', '.join(done) + '. ' if done else 'No layer is cleared. '}{ranks}"
        f"{_reaction(known)} Read the ranking as an ordering of plans under this model, not as a prediction of "
        "outcomes."
    )
    return Trust(layers, text, warning=not above)


def validated(model: str) -> dict[str, Recorded]:
    """What `wmplan validate record=true` wrote of this very model, by layer; nothing for one without a checkpoint."""
    if not (Path(model) / FILE).is_file():
        return {}
    from wmplan.models import load_model

    return recorded(Path(model), load_model(model).digest)


def _reaction(known: Mapping[str, Recorded]) -> str:
    """What may be thought of how imagined road users answer the ego."""
    unmeasured = [layer for layer in ("L2", "L3", "L4") if layer not in known]
    said = [f"{layer} is {found.state}." for layer, found in sorted(known.items()) if layer in MEANINGS]
    if unmeasured:
        said.append(f"Not measured for this model (wmplan validate does): {', '.join(unmeasured)}.")
    if "L4" not in known or not known["L4"].cleared:
        said.append("Nothing here shows that imagined road users react to the ego as real ones would.")
    return " ".join(said)
