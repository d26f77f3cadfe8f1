"""Terms, judgement and truth of every candidate side by side: what every figure of an audit is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from critics.composite import Composite
from experiments import assembly
from experiments.audit.prepared import Audit
from experiments.audit.shards import CEILING, KINDS, POOLS, SCORES, TRUTH, read_plans, read_rows, shard
from wmplan.contracts import Terms
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.ranking import Verdict
from wmplan.rules import ego_progress, pdms
from wmplan.scene import STEP_S
from wmplan.start import start_of
from wmplan.store import SceneStore

LOGGED_PDMS = "pdms_against_log"


@dataclass(frozen=True)
class Joined:
    """`rows`: one row a scene and candidate, sorted, with what it is (`kind`, `distance_m`, `speed_mps`, `length_m`,
    `curvature_pm`, `end_speed_mps`), its terms, cost parts, `cost` and `verdict` by the model, and the truth
    (`real_*`). `by`: terms, cost parts, cost and verdict of the same rows by every contender. `skipped`: scenes
    that are missing, and why."""

    rows: pd.DataFrame
    by: Mapping[str, pd.DataFrame]
    terms: tuple[str, ...]
    calibration: int
    """Scenes that the support is calibrated on; 0 without a support."""
    skipped: Mapping[str, str]

    @property
    def groups(self) -> pd.Series:
        """The group of each scene, by scene id, in the order of the rows."""
        return self.rows.groupby("scene_id", sort=True)["group"].first()


def scenes_of(rows: pd.DataFrame) -> list[np.ndarray]:
    """The row numbers of each scene, scenes sorted."""
    return [np.asarray(members) for members in rows.groupby("scene_id", sort=True).indices.values()]


def join(audit: Audit, failed: Mapping[str, str]) -> Joined:
    """Everything that the steps left in the folder.

    Raises:
        InputError: fewer than two scenes.
    """
    composite = assembly.build_composite(audit.model, audit.config.horizon_s, audit.config.weights)
    store, skipped = SceneStore.open(audit.store), dict(failed)
    parts: list[pd.DataFrame] = []
    by: dict[str, list[pd.DataFrame]] = {}
    for scene_id, group in sorted(zip(audit.scene_ids, audit.groups)):
        if scene_id in skipped:
            continue
        real, notes = read_rows(shard(audit.run, TRUTH, scene_id))
        if "skipped" in notes:
            skipped[scene_id] = notes["skipped"]
            continue
        plans = read_plans(shard(audit.run, POOLS, scene_id), start_of(store.scene(scene_id)).speed)
        about = pd.concat([read_rows(shard(audit.run, KINDS, scene_id))[0], _shape(plans)], axis=1)
        about.insert(0, "scene_id", scene_id)
        about.insert(1, "group", group)
        about.insert(2, "row", np.arange(len(about), dtype=np.int32))
        for step in (SCORES, CEILING) if audit.config.placebos else (SCORES,):
            terms = read_rows(shard(audit.run, step, scene_id))[0]
            for name, part in terms.groupby("contender", sort=False):
                by.setdefault(str(name), []).append(_judged(composite, part))
        real[LOGGED_PDMS] = _against_the_log(real, float(notes["logged_m"]))
        parts.append(pd.concat([about, by[audit.name][-1], real.add_prefix("real_")], axis=1))
    if len(parts) < 2:
        raise InputError(f"audit: {len(parts)} scenes could be audited, expected at least 2 ({_first(skipped)})")
    support = [critic for critic in composite.critics if critic.name == "support"]
    return Joined(
        pd.concat(parts, ignore_index=True),
        {name: pd.concat(frames, ignore_index=True) for name, frames in by.items()},
        composite.columns,
        support[0].calibration_scenes if support else 0,  # type: ignore[attr-defined]
        skipped,
    )


def _against_the_log(real: pd.DataFrame, logged_m: float) -> np.ndarray:
    """PDMS with progress against how far the log's ego went; where the log does not say, nothing was to be made."""
    progress = ego_progress(real["progress_m"].to_numpy(), logged_m if np.isfinite(logged_m) else 0.0)
    contact, road, ttc, comfort = (
        real[name].to_numpy() for name in ("no_collision_pdms", "drivable_pdms", "ttc_pdms", "comfort")
    )
    return np.asarray(pdms(contact, road, ttc, progress, comfort))


def _judged(composite: Composite, part: pd.DataFrame) -> pd.DataFrame:
    terms = Terms(composite.columns, part[list(composite.columns)].to_numpy(dtype=np.float32))
    found = composite.judge(terms)
    frame = pd.DataFrame(terms.values, columns=list(terms.columns))
    for name in found.parts.columns:
        frame[name] = found.parts.column(name)
    frame["cost"] = found.total
    frame["verdict"] = [Verdict(int(v)).word for v in found.verdict]
    return frame


def _shape(plans: Plans) -> pd.DataFrame:
    states = plans.states.astype(np.float64)
    steps = np.hypot(*np.moveaxis(np.diff(states[:, :, :2], axis=1), -1, 0))
    length = steps.sum(1)
    turned = np.abs(np.diff(states[:, :, 2], axis=1)).sum(1)
    return pd.DataFrame(
        {
            "speed_mps": length / (states.shape[1] - 1) / STEP_S,
            "length_m": length,
            "curvature_pm": turned / np.maximum(length, 1.0),
            "end_speed_mps": states[:, -1, 3],
        }
    )


def _first(skipped: Mapping[str, str]) -> str:
    return next((f"first: {scene}: {why}" for scene, why in skipped.items()), "none failed")
