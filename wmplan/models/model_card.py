"""What a trained model is, says it was trained on, reaches, and must not be used for: `card.json`, and as a page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.models.families import FAMILIES

SCHEMA_VERSION = 1
LIMITS = (
    "Ranks and evaluates plans offline. It certifies nothing on the road and must not run in a vehicle.",
    "Imagines 3 s ahead at 0.5 s steps inside its preset's window; what is thinner or faster than that is missed.",
    "Trusted only near the actions of its training logs: use it with the support estimate, never alone.",
    "Other road users react as those of the training logs did; rare reactions are learned poorly.",
)


@dataclass(frozen=True)
class Row:
    """IoU (threshold 0.5, mean over 4 samples) at one horizon, and the gain over constant velocity with its 95 %
    interval (bootstrap over groups of scenes)."""

    split: str
    scenes: int
    seconds: float
    model: float
    cv: float
    persistence: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class Card:
    """Everything of a checkpoint that is not a tensor.

    `groups` are those that the model was trained on, so that a study can mark scenes seen in training. `config` and
    `data` hold plain values by field name.
    """

    preset: str
    horizon: int
    weights_sha256: str
    config: dict[str, Any]
    data: dict[str, Any]
    groups: tuple[str, ...]
    metrics: tuple[Row, ...]
    curve: tuple[tuple[str, int, float], ...] = ()
    limits: tuple[str, ...] = LIMITS
    kind: str = "ar"
    schema_version: int = SCHEMA_VERSION
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """The text of `card.json`."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> Card:
        """The card that a text holds.

        Raises:
            InputError: if it is no card, or one of another kind or version; `where` names the file.
        """
        try:
            values = json.loads(text)
            kind, version = values["kind"], values["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{where}: {' '.join(str(error).split())}, expected the card of a model") from error
        if kind not in FAMILIES:
            raise InputError(f"{where}: kind is {kind!r}, expected one of {', '.join(FAMILIES)}")
        if version != SCHEMA_VERSION:
            raise InputError(f"{where}: schema_version is {version!r}, expected {SCHEMA_VERSION}")
        missing = [f.name for f in fields(Card) if f.name not in values]
        if missing:
            raise InputError(f"{where}: field {missing[0]} is missing")
        try:
            values["metrics"] = tuple(_row(row) for row in values["metrics"])
            for name in ("groups", "limits", "notes"):
                values[name] = tuple(values[name])
            values["curve"] = tuple((str(s), int(n), float(loss)) for s, n, loss in values["curve"])
            return Card(**{f.name: values[f.name] for f in fields(Card)})
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {' '.join(str(error).split())}, expected the card of a model") from error

    def page(self) -> str:
        """`MODEL_CARD.md`."""
        title = f"# World model `{self.kind}`, preset `{self.preset}`"
        lines = [title, "", "Written by `wmplan train`; do not edit.", ""]
        lines += ["## What it must not be used for", "", *(f"- {limit}" for limit in self.limits), ""]
        lines += [*(f"- {note}" for note in self.notes), ""] if self.notes else []
        lines += ["## Forecast", ""]
        if self.metrics:
            lines += [
                "IoU of what is occupied by anybody (threshold 0.5, mean over samples), given the ego's true motion.",
                "",
                "| split | scenes | horizon | model | persistence | constant velocity | gain over it (95 %) |",
                "|---|---|---|---|---|---|---|",
            ]
            for row in self.metrics:
                lines.append(
                    f"| {row.split} | {row.scenes} | {row.seconds:g} s | {row.model:.3f} | {row.persistence:.3f} | "
                    f"{row.cv:.3f} | {row.gain:+.3f} ({row.gain_low:+.3f} to {row.gain_high:+.3f}) |"
                )
        else:
            lines += ["Not measured: the store has no validation scenes."]
        lines += ["", "## Data", "", *(f"- {key}: {value}" for key, value in sorted(self.data.items()))]
        lines += [f"- groups trained on: {len(self.groups)}, listed in `card.json`"]
        lines += ["", "## Configuration", "", *(f"- {key}: {value}" for key, value in sorted(self.config.items()))]
        return "\n".join([*lines, "", f"Weights: sha256 {self.weights_sha256}", ""])


def _row(values: dict[str, Any]) -> Row:
    """A row of a card; those of cards written before there was more than one family name the model `ar`."""
    return Row(**{"model" if name == "ar" else name: value for name, value in values.items()})


def rows_of(
    split: str,
    iou: dict[str, Float[ndarray, "T"]],
    gain: Float[ndarray, "T 3"],
    seconds: Float[ndarray, "T"],
    scenes: int,
) -> tuple[Row, ...]:
    """The card's rows at whole seconds; horizons at which no scene holds anything are left out."""
    chosen = [i for i, s in enumerate(seconds) if abs(s - round(float(s))) < 1e-6 and np.isfinite(gain[i]).all()]
    return tuple(
        Row(
            split, scenes, float(seconds[i]), *(float(iou[name][i]) for name in ("model", "cv", "persistence")),
            *(float(x) for x in gain[i]),
        )
        for i in chosen
    )  # fmt: skip
