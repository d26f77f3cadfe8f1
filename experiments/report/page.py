"""The page: everything that a run folder holds, put into the template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from experiments.agreement import LOG_REPLAY
from experiments.files import write_text
from experiments.finished import FinishedStudy, provenance
from experiments.progress import track
from experiments.report import plots, tables
from experiments.report.scenes import ScenePictures
from experiments.report.trust import trust_of

REPORT = "report.html"
SCENES_SHOWN = 8
"""Scenes with pictures; every scene is in the tables."""


def write_report(run: Path, store: Path, model: str) -> Path:
    """Path of the report, after it was written whole into the run folder."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("template.html.j2").render(**contents(FinishedStudy.open(run), Path(store), model))
    return write_text(run / REPORT, page)


def contents(run: FinishedStudy, store: Path, model: str) -> dict[str, Any]:
    """Everything that the template asks for."""
    config = run.about["config"]
    trust = trust_of(model, run.agreement)
    chosen = _scenes_to_show(run)
    pictures = ScenePictures(run, store, model)
    shown = [pictures.section(scene, place) for place, scene in enumerate(track(chosen, "report", len(chosen)))]
    unseen, everything = run.agreement["scenes"]["unseen"], run.agreement["scenes"]["all"]
    subset = "unseen" if unseen >= 5 else "all"
    return {
        "title": f"Ranked-action study: {config['name']}",
        "subtitle": f"{', '.join(sorted(run.ledger['dataset'].unique()))} · model {Path(model).name} · "
        f"{config['samples']} imagined samples · {config['horizon_s']:g} s · seed {config['seed']}",
        "cards": _cards(run),
        "layers": trust.layers,
        "trust_text": trust.text,
        "trust_warning": trust.warning,
        "verdicts": _verdicts(run.ledger),
        "planners_text": _planners_text(subset, unseen, everything),
        "planner_table": _planner_table(run, subset),
        "pair_table": _pair_table(run.agreement["pairs"][subset]),
        "pair_text": "Difference of the mean real score on shared scenes, 95 % paired bootstrap over scenes; the last "
        "column is the smallest true difference that a study of this size would find in four of five cases.",
        "agreement_text": _agreement_text(subset, unseen, everything),
        "agreement_rows": _agreement_table(run.agreement),
        "agreement_plots": [
            plot
            for plot in (
                plots.planners_plot(run.agreement["planners"][subset]),
                plots.executed_plot(run.agreement["executed"][subset]),
                plots.cost_plot(run.outcomes),
                plots.support_plot(run.ledger),
            )
            if plot is not None
        ],
        "scenes_text": f"{len(shown)} of {run.decisions['scene_id'].nunique()} scenes: those in which the planners' "
        "real scores differ most, those in which the executed plan was ranked worst, and others at equal steps through "
        "the list. The tables sort by a click on a column's head; hovering over a head explains it.",
        "scenes": shown,
        "failure_table": _failure_table(run),
        "config": json.dumps(provenance(run.about), indent=1, default=str),
        "glossary": tables.glossary([*run.ledger.columns, "accel", "curvature"]),
    }


def _cards(run: FinishedStudy) -> list[dict[str, str]]:
    decisions, imagined = run.decisions, int(run.timings["imagined"].sum())
    counts = decisions["status"].value_counts()
    return [
        {"value": f"{decisions['scene_id'].nunique():,}", "label": "scenes"},
        {"value": f"{decisions['planner'].nunique()}", "label": "planners"},
        {"value": f"{len(run.ledger):,}", "label": "candidates in the ledger"},
        {"value": f"{imagined:,}", "label": "candidates imagined (the rest came from the cache)"},
        {"value": f"{int(counts.get('no_plan', 0))} / {int(counts.get('failed', 0))}", "label": "no plan / failed"},
    ]


def _verdicts(ledger: pd.DataFrame) -> list[dict[str, str]]:
    drivable = ledger[ledger["infeasible"] == 0]
    counts = drivable["verdict"].value_counts()
    return [
        {
            "name": name,
            "count": f"{int(counts.get(name, 0)):,}",
            "share": f"{counts.get(name, 0) / max(len(drivable), 1):.0%}",
        }
        for name in ("trusted", "downweighted", "refused")
    ]


def _planners_text(subset: str, unseen: int, everything: int) -> str:
    which = "all scenes" if unseen == everything or subset == "all" else "the scenes whose traffic the model never saw"
    return (
        "The real score is the PDMS form (collisions, drivable area, time-to-collision, progress, comfort) of each "
        "chosen plan, driven open loop among the road users <i>as they were logged</i>: they do not react. Scores are "
        f"over {which} ({unseen if subset == 'unseen' else everything}), with a 95 % scene bootstrap. "
        "<code>log_replay</code> drives what the log's ego drove."
    )


def _planner_table(run: FinishedStudy, subset: str) -> str:
    medians = run.timings.groupby("planner")["seconds"].median()
    chosen = run.ledger[run.ledger["chosen"]].groupby("planner")
    cost = chosen["cost"].mean()
    support = chosen["support_p"].median() if "support_p" in run.ledger else pd.Series(dtype=float)
    refused = (
        run.ledger[run.ledger["infeasible"] == 0].groupby("planner")["verdict"].apply(lambda v: (v == "refused").mean())
    )
    rows = [
        {
            "planner": row["planner"],
            "real score": _with_interval(row["score"]),
            "planned": row["planned"],
            "no plan": row["no_plan"],
            "failed": row["failed"],
            "mean imagined cost": float(cost.get(row["planner"], np.nan)),
            "median support p": float(support.get(row["planner"], np.nan)),
            "candidates refused": f"{refused[row['planner']]:.0%}" if row["planner"] in refused else "–",
            "median s a scene": float(medians.get(row["planner"], np.nan)),
        }
        for row in run.agreement["planners"][subset]
    ]
    return tables.table(pd.DataFrame(rows), text=("planner",))


def _pair_table(pairs: list[dict[str, Any]]) -> str:
    rows = [
        {
            "pair": f"{pair['first']} − {pair['second']}",
            "difference": _with_interval(pair["difference"]),
            "detectable": pair["minimum_detectable"],
            "clear": _clear(pair["difference"]),
        }
        for pair in pairs
        if LOG_REPLAY not in (pair["first"], pair["second"]) and pair["difference"]["value"] is not None
    ]
    return tables.table(pd.DataFrame(rows), text=("pair", "clear")) if rows else ""


def _agreement_text(subset: str, unseen: int, everything: int) -> str:
    return (
        "Real outcomes came from a sealed file after all planning was over. Three questions: is what the driver did "
        "cheaper than perturbations of it; does the cost of what he did predict trouble in the next 3 s (hard braking "
        "beyond 3 m/s², time-to-collision below 1.5 s); does the imagined order of a scene's plans match the order of "
        "their real scores. Each stands beside a placebo that must lie at one half. "
        f"<b>Unseen</b> are the {unseen} of {everything} compared scenes whose traffic the model was not trained on: "
        "only they say something about new data."
        + (" The plots show them." if subset == "unseen" else " The plots show all scenes.")
    )


def _agreement_table(agreement: Mapping[str, Any]) -> str:
    rows = []
    for name in ("unseen", "all"):
        executed, order = agreement["executed"][name], agreement["order"][name]
        figures = [
            ("executed plan cheaper than a perturbation", executed["pairwise_accuracy"], executed["placebo"]),
            ("executed plan cheapest of all", executed["cheapest"], None),
            ("pairs of plans ordered as their real scores", order["pairwise_accuracy"], order["placebo"]),
            ("Spearman of imagined and real order", order["spearman"], None),
        ]
        figures += [
            (
                f"AUROC: cost predicts {item['event'].replace('_', ' ')} ({item['positives']} cases)",
                item["auroc"],
                item["placebo"],
            )
            for item in agreement["prediction"][name]
        ]
        rows += [
            {
                "figure": label,
                "scenes": name,
                "value": _with_interval(value),
                "placebo": _with_interval(placebo) if placebo else "",
                "n": value["n"],
                "note": value["reason"] or "",
            }
            for label, value, placebo in figures
        ]
    return tables.table(pd.DataFrame(rows), text=("figure", "scenes", "note"))


def _failure_table(run: FinishedStudy) -> str:
    trouble = run.decisions[run.decisions["status"] != "planned"][["scene_id", "planner", "status", "message"]]
    skipped = pd.DataFrame(run.agreement["skipped"], columns=["scene_id", "why"])
    skipped = skipped.rename(columns={"why": "message"}).assign(planner=LOG_REPLAY, status="not compared")
    both = pd.concat([trouble, skipped[trouble.columns]], ignore_index=True)
    return tables.table(both, text=("scene_id", "planner", "status", "message")) if len(both) else ""


def _scenes_to_show(run: FinishedStudy) -> list[str]:
    """Scenes where planners differ most, where the executed plan ranked worst, and others at equal steps."""
    everything = sorted(run.decisions["scene_id"].unique())
    picked: list[str] = []
    if len(run.outcomes):
        driven = run.outcomes[run.outcomes["kind"] == "chosen"].groupby("scene_id")["real_pdms"]
        picked += list((driven.max() - driven.min()).sort_values(ascending=False, kind="stable").index[:2])
        compared = run.outcomes[run.outcomes["kind"] != "chosen"]
        place = compared.assign(place=compared.groupby("scene_id")["cost"].rank(pct=True))
        worst = (
            place[place["kind"] == "executed"]
            .set_index("scene_id")["place"]
            .sort_values(ascending=False, kind="stable")
        )
        picked += list(worst.index[:2])
    steps = np.linspace(0, len(everything) - 1, SCENES_SHOWN, dtype=int)
    picked += [everything[i] for i in steps]
    return list(dict.fromkeys(picked))[:SCENES_SHOWN]


def _with_interval(interval: Mapping[str, Any]) -> str:
    if interval["value"] is None:
        return "–"
    if interval["lower"] is None or interval["upper"] is None:
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} [{interval['lower']:.3f}, {interval['upper']:.3f}]"


def _clear(interval: Mapping[str, Any]) -> str:
    if interval["lower"] is None:
        return "unknown"
    return "yes" if interval["lower"] > 0 or interval["upper"] < 0 else "no, the interval holds 0"
