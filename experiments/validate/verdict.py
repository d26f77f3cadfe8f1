"""What a validation says: which layers the model cleared on which data, and everything in one JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.files import write_text
from experiments.results import commit
from experiments.validate.contenders import name_of
from experiments.validate.instrument import Result, cleared
from experiments.validate.measuring import SceneRows
from experiments.validate.record import FILE, SCHEMA_VERSION
from experiments.validate.scenes import Scenes
from experiments.validate.settings import Settings, ValidateCommand


@dataclass(frozen=True)
class LayerVerdict:
    """One layer: cleared or not (None: nothing in it was measured), and which gates the model does not keep."""

    layer: str
    cleared: bool | None
    missed: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What was measured on what, and what follows."""

    out: Path
    config: ValidateCommand
    model: str
    model_digest: str
    data: str
    data_digest: str
    scenes: int
    groups: int
    causal: int
    sweep: tuple[float, float]
    temperatures: dict[str, float]
    layers: tuple[LayerVerdict, ...]
    refused: tuple[tuple[str, str], ...]

    def summary(self) -> dict[str, Any]:
        """What a report needs of it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {"name": self.model, "digest": self.model_digest},
            "data": {"name": self.data, "digest": self.data_digest, "scenes": self.scenes, "groups": self.groups},
            "layers": {one.layer: {"cleared": one.cleared, "missed": list(one.missed)} for one in self.layers},
            "commit": commit(),
        }


def verdict_of(
    out: Path,
    config: ValidateCommand,
    spec: str,
    model_digest: str,
    scenes: Scenes,
    settings: Settings,
    found: Sequence[SceneRows],
    results: Sequence[Result],
) -> Verdict:
    """The verdict on a model from all its figures."""
    assert settings.sweep is not None, "the sweep is fitted before anything is measured"
    name = name_of(spec)
    verdicts = tuple(LayerVerdict(layer, *_both(cleared(results, name, layer))) for layer in config.layers)
    refused = tuple((one.scene_id, f"{part}: {reason}") for one in found for part, reason in one.refused.items())
    return Verdict(
        out,
        config,
        name,
        model_digest,
        scenes.words,
        scenes.digest,
        len(found),
        len({one.group for one in found}),
        sum(one.causal or 0 for one in found),
        (settings.sweep.low, settings.sweep.high),
        dict(settings.temperatures),
        verdicts,
        refused,
    )


def write_json(verdict: Verdict, results: Sequence[Result]) -> Path:
    """Path of `validation.json`, after it was written whole."""
    content = verdict.summary() | {
        "config": asdict(verdict.config),
        "causal_road_users": verdict.causal,
        "sweep_mps2": list(verdict.sweep),
        "temperatures": verdict.temperatures,
        "measures": [{"part": one.part, "model": one.model} | _plain(asdict(one.measure)) for one in results],
        "refused": [{"scene": scene, "reason": reason} for scene, reason in verdict.refused],
    }
    return write_text(verdict.out / FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _both(found: tuple[bool | None, list[str]]) -> tuple[bool | None, tuple[str, ...]]:
    return found[0], tuple(found[1])


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same with null for what is no number."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
