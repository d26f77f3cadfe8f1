"""A scene that goes on: what planners chose and what they did not, executed among traffic that reacts."""

from __future__ import annotations

import base64
import html
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.finished import plans_of
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.scene import Future, Scene
from wmplan.scores import real_outcome
from wmplan.simulator.live import live
from wmplan.simulator.render import render
from wmplan.start import start_of

MOST = 8
"""Candidates in a picture."""


@dataclass(frozen=True)
class Shown:
    """Base64 of the picture (PNG, or a GIF where it moves), and what it shows; without a picture, why there is none."""

    picture: str
    kind: str
    caption: str


def executed_picture(scene: Scene, future: Future, rows: pd.DataFrame, moves: bool) -> Shown:
    """Candidates of one scene side by side, executed: every planner's choice, then others from cheap to dear.

    `rows` are the scene's rows of the ledger.
    """
    picked = candidates(rows)
    if not len(picked):
        return Shown("", "", "")
    start = start_of(scene)
    plans = Plans.concatenate([plans_of(picked.iloc[[i]], start.speed) for i in range(len(picked))])
    try:
        alive = live(scene, future)
        done = alive.execute(plans)
    except InputError as error:
        return Shown("", "", f"This scene does not become a road: {html.escape(str(error))}.")
    replayed = real_outcome(scene, future, plans, start)
    came = alive.judge(done, start, float(replayed.column("expert_progress_m")[0]))
    with tempfile.TemporaryDirectory() as folder:
        kind = "gif" if moves else "png"
        path = render(Path(folder) / f"executed.{kind}", done, scene.road_map, came)
        picture = base64.b64encode(path.read_bytes()).decode()
    words = zip(picked["planner"].astype(str), picked["chosen"].astype(bool), picked["cost"].astype(float))
    named = [
        f"{i}: {html.escape(planner)}{' (its choice)' if chosen else ''}, cost {cost:.3f}"
        for i, (planner, chosen, cost) in enumerate(words)
    ]
    return Shown(
        picture,
        kind,
        "Executed, not imagined: candidates on a road where everybody else reacts (IDM on the way each took), "
        f"with their real scores. {'; '.join(named)}.",
    )


def candidates(rows: pd.DataFrame) -> pd.DataFrame:
    """Every planner's choice, then candidates at equal steps from the cheapest to the dearest, at most `MOST`."""
    chosen = rows[rows["chosen"]].sort_values("planner", kind="stable")
    costs = rows["cost"].astype(float)
    others = rows[(costs < float("inf")) & ~rows["chosen"]].sort_values("cost", kind="stable")
    seats = max(MOST - len(chosen), 0)
    if len(others) > seats:
        steps = [round(i * (len(others) - 1) / max(seats - 1, 1)) for i in range(seats)]
        others = others.iloc[steps]
    return pd.concat([chosen.iloc[:MOST], others])
