"""The review queue: scenes in which the support refuses what the critics would choose, for a person to look at.

Nothing of the truth stands in it: it is what a person would get who has to decide without knowing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from experiments.audit.joined import Joined, scenes_of
from experiments.audit.prepared import Audit
from experiments.audit.selecting import choices, without_support
from experiments.audit.shards import POOLS, read_plans, shard
from experiments.report.pictures import REAL_COLOUR, plot_scene
from experiments.report.plots import Plot, png
from wmplan.start import start_of
from wmplan.store import SceneStore

REVIEW = "review.parquet"
COLUMNS = (
    "scene_id", "group", "why", "refused_share", "tempting_row", "tempting_kind", "tempting_cost", "tempting_support_p",
    "chosen_row", "chosen_kind", "chosen_cost", "chosen_support_p", "cost_of_refusing",
)  # fmt: skip


def queue(joined: Joined) -> pd.DataFrame:
    """A row a scene whose cheapest candidate (without the support's part) is refused, dearest refusals first.

    `cost_of_refusing` is how much more the chosen candidate costs than the tempting one, NaN where nothing may be
    chosen.
    """
    rows = joined.rows
    bare, refused = without_support(rows), (rows["verdict"] == "refused").to_numpy()
    usable = np.isfinite(bare)
    tempting = choices(rows, -bare, usable)
    chosen = choices(rows, -rows["cost"].to_numpy(np.float64), ~refused & usable)
    found = []
    for want, take, members in zip(tempting, chosen, scenes_of(rows)):
        if want < 0 or not refused[want]:
            continue
        a, b = rows.iloc[want], rows.iloc[take] if take >= 0 else None
        found.append(
            {
                "scene_id": a["scene_id"],
                "group": a["group"],
                "why": "every candidate is refused" if b is None else "the cheapest candidate is refused",
                "refused_share": float(refused[members].mean()),
                **_of("tempting", a, float(bare[want])),
                **_of("chosen", b, float(bare[take])),
                "cost_of_refusing": float(bare[take] - bare[want]) if b is not None else np.nan,
            }
        )
    frame = pd.DataFrame(found, columns=list(COLUMNS))
    return frame.sort_values("cost_of_refusing", ascending=False, na_position="first", kind="stable", ignore_index=True)


def pictures(audit: Audit, joined: Joined, review: pd.DataFrame) -> Iterator[Plot]:
    """The first scenes of the queue: refused candidates grey, the tempting one dashed, the chosen one outlined."""
    store = SceneStore.open(audit.store)
    for line in review.head(audit.config.pictures).to_dict("records"):
        scene = store.scene(str(line["scene_id"]))
        plans = read_plans(shard(audit.run, POOLS, scene.scene_id), start_of(scene).speed)
        mine = joined.rows[joined.rows["scene_id"] == scene.scene_id]
        costs = np.where(mine["verdict"] == "refused", np.inf, without_support(mine))
        chosen = int(line["chosen_row"]) if line["chosen_row"] >= 0 else None
        fig, ax = plot_scene(scene, plans, costs, chosen)
        path = plans.states[int(line["tempting_row"]), :, :2]
        ax.plot(*path.T, "--", color=REAL_COLOUR, lw=2.0, zorder=7, label="cheapest, refused")
        ax.legend(fontsize=7, frameon=False, loc="upper right")
        instead = "." if chosen is None else f"; instead: {line['chosen_kind']}, cost {line['chosen_cost']:.3f}."
        yield Plot(
            png(fig),
            f"{scene.scene_id}: {line['why']} ({line['tempting_kind']}, cost {line['tempting_cost']:.3f}, support p "
            f"{line['tempting_support_p']:.3g}); {line['refused_share']:.0%} of the pool is refused{instead}",
        )


def _of(prefix: str, row: pd.Series | None, cost: float) -> dict[str, object]:
    if row is None:
        return {f"{prefix}_row": -1, f"{prefix}_kind": "", f"{prefix}_cost": np.nan, f"{prefix}_support_p": np.nan}
    p = float(row["support_p"]) if "support_p" in row else np.nan
    return {
        f"{prefix}_row": int(row["row"]),
        f"{prefix}_kind": row["kind"],
        f"{prefix}_cost": cost,
        f"{prefix}_support_p": p,
    }
