"""Estimates and truth, joined last: one table of drives, refused where the two sides are of different scenes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from experiments.ope import shards
from experiments.ope.closed_loop import COLUMNS
from experiments.ope.preparing import Prepared
from experiments.ope.working import KNOWING, LONG_S, OPEN_LOOP, PATH, road_side
from wmplan.errors import InputError

OPEN = "open-loop"
SHOWN = 3
"""Scenes that a refusal lists of each side."""


@dataclass(frozen=True)
class Joined:
    """A row for each scene, side, policy and draw; what went wrong, by whom; the group of each scene.

    A drive whose figures are no numbers counts as the worst, 0, and is listed. `truths` are the sides that are true,
    the first of the estimates' own length.
    """

    values: pd.DataFrame
    failures: pd.DataFrame
    groups: dict[str, str]
    truths: tuple[str, ...]
    estimators: tuple[str, ...]
    weighed: pd.DataFrame

    @property
    def scenes(self) -> list[str]:
        """Ids of the scenes, sorted."""
        return sorted(self.groups)

    def table(self, side: str, score: str, policies: Sequence[str]) -> Float[ndarray, "P S"]:
        """The mean score over draws of these policies in every scene."""
        mine = self.values[self.values["side"] == side]
        return (
            mine.pivot_table(index="policy", columns="scene_id", values=score, aggfunc="mean")
            .loc[list(policies), self.scenes]
            .to_numpy(np.float64)
        )


def join(run: Prepared, failed: dict[str, dict[str, str]]) -> Joined:
    """Everything that was found out, as one table. `failed` names scenes that could not be done, by step.

    Raises:
        InputError: no scene is left, or estimates and truth are of other scenes or policies.
    """
    settings, source = run.settings, run.truth_from
    command = settings.command
    wanted = {one.scene_id: one.group for one in settings.scenes}
    lost = {scene for scenes in failed.values() for scene in scenes}
    estimates, road = shards.read(settings.out, shards.ESTIMATES), shards.read(source, shards.ROAD)
    if not len(estimates) or not len(road):
        reasons = [why for scenes in failed.values() for why in scenes.values()]
        raise InputError(f"ope: no scene could be done, expected one or more (first: {[*reasons, 'no reason'][0]})")
    check_same(set(estimates["scene_id"]) - lost, set(road["scene_id"]) - lost, "scenes")
    check_same(set(estimates["policy"]), set(road["policy"]), "policies")
    replay = shards.read(source, shards.REPLAY)
    rows = pd.concat([part for part in (estimates, replay, road) if len(part)], ignore_index=True)
    rows = rows[rows["scene_id"].isin(set(wanted) - lost) & rows["policy"].isin(settings.policies)]
    groups = {scene: wanted[scene] for scene in sorted(set(rows["scene_id"]))}
    if not groups:
        raise InputError("ope: no scene is left of those that were asked for, expected one or more")
    sides = set(rows["side"])
    if lacking := sorted(set(KNOWING) & set(command.beside) - sides):
        without = ", ".join(lacking)
        raise InputError(f"{source}: its truth was made without {without}, expected it there, or beside without it")
    truths = tuple(dict.fromkeys((road_side(command.horizon_s), road_side(LONG_S))))
    failures = [
        {"kind": step, "scene_id": scene, "policy": "", "reason": why}
        for step, scenes in failed.items()
        for scene, why in sorted(scenes.items())
    ]
    failures += [{"kind": "trial", "scene_id": "", "policy": name, "reason": why} for name, why in run.rejected.items()]
    bad = ~np.isfinite(rows[list(COLUMNS)].to_numpy(np.float64)).all(axis=1)
    for (policy, side), mine in rows[bad].groupby(["policy", "side"]):
        why = f"{len(mine)} drives on side {side} are no numbers and count as 0"
        failures.append({"kind": "drive", "scene_id": mine["scene_id"].iloc[0], "policy": policy, "reason": why})
    rows.loc[bad, list(COLUMNS)] = 0.0
    estimators = [name for name in _asked(run) if name in sides]
    if OPEN in command.beside:
        opened = open_loop(rows, shards.read(source, shards.EGO), command.scores, round(command.horizon_s / 0.5))
        rows = pd.concat([rows, opened], ignore_index=True)
        estimators.append(OPEN)
    values = rows.drop(columns=list(PATH)).assign(failed=np.concatenate([bad, np.zeros(len(rows) - len(bad), bool)]))
    order = ["scene_id", "side", "policy", "draw"]
    values = values.sort_values(order, kind="stable").reset_index(drop=True)
    names = ("kind", "scene_id", "policy", "reason")
    return Joined(
        values[[*order, *COLUMNS, "crowded", "failed"]],
        pd.DataFrame(failures, columns=list(names)),
        groups,
        truths,
        tuple(estimators),
        shards.read(settings.out, shards.WEIGHED),
    )


def check_same(estimated: set[str], true: set[str], what: str) -> None:
    """Raises InputError that lists the difference, where the two sides are not of the same scenes (or policies)."""
    if estimated == true:
        return
    parts = []
    for name, more in (("estimates", estimated - true), ("truth", true - estimated)):
        shown = ", ".join(sorted(more)[:SHOWN]) + (f" and {len(more) - SHOWN} more" if len(more) > SHOWN else "")
        parts += [f"only {name} have {len(more)}: {shown}"] if more else []
    raise InputError(f"ope: estimates and truth are of other {what}: {'; '.join(parts)}; expected the same")


def open_loop(rows: pd.DataFrame, ego: pd.DataFrame, scores: Iterable[str], frames: int) -> pd.DataFrame:
    """Minus the mean distance (m) of each policy's plan from where the log's ego was, in place of every score.

    The plan of a policy that only reacts is how it drives where others keep their velocity. Where the log does not
    show the ego, the frame is left out; a scene in which it is never shown, or a drive that is no number, has the worst
    distance of all.
    """
    mine = rows[rows["side"] == OPEN_LOOP]
    ego = ego[ego["seconds"] <= frames * 0.5 + 1e-6]
    places = {str(scene): part[["x", "y"]].to_numpy() for scene, part in ego.groupby("scene_id")}
    away = np.full(len(mine), np.nan)
    for i, (scene, x, y) in enumerate(zip(mine["scene_id"], mine[PATH[0]], mine[PATH[1]])):
        log = places[str(scene)][: len(x)]
        gap = np.hypot(np.asarray(x)[: len(log)] - log[:, 0], np.asarray(y)[: len(log)] - log[:, 1])
        away[i] = np.nanmean(gap) if np.isfinite(gap).any() else np.nan
    away = np.where(np.isfinite(away), away, np.nanmax(away) if np.isfinite(away).any() else 0.0)
    return mine.assign(side=OPEN, crowded=0, **dict.fromkeys(COLUMNS, np.nan)).assign(**dict.fromkeys(scores, -away))


def _asked(run: Prepared) -> tuple[str, ...]:
    """Estimators asked for, in that order: cv may be there for the sake of open-loop alone."""
    return (*(name for name, _ in run.settings.specs), *run.settings.command.beside)
