"""The study's invariants: recomputable totals, the same bytes whatever the workers, failures that count, resuming."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from critics import CostWeights, recompute, total_of_parts
from experiments import agreement, worker
from experiments.files import sha256
from experiments.ledger import LEDGER, PER_SCENE, finished, merge, shard_path
from experiments.prepared import Study, prepare
from experiments.study import StudyConfig, run
from wmplan.contracts import Context, Imagined, Proposal, Terms
from wmplan.errors import InputError
from wmplan.plans import Plans, Start

Make = Callable[..., StudyConfig]
TABLES = (LEDGER, PER_SCENE, "outcomes.parquet")


def test_every_total_can_be_recomputed_from_its_saved_row(first: Path) -> None:
    ledger = pd.read_parquet(first / LEDGER)
    assert len(ledger) > 3 * 2 * 32
    saved = ledger["cost"].to_numpy()
    assert np.isfinite(saved).mean() > 0.5
    np.testing.assert_array_equal(recompute(ledger, CostWeights()), saved)
    drivable = (ledger["infeasible"] == 0).to_numpy()
    np.testing.assert_array_equal(total_of_parts(ledger[drivable]), saved[drivable])


def test_ledger_is_sorted_and_the_chosen_row_is_the_cheapest_eligible(first: Path) -> None:
    ledger = pd.read_parquet(first / LEDGER)
    keys = list(zip(ledger["scene_id"], ledger["planner"], ledger["row"]))
    assert keys == sorted(keys)
    decisions = pd.read_parquet(first / PER_SCENE).set_index(["scene_id", "planner"])
    for key, rows in ledger.groupby(["scene_id", "planner"]):
        eligible = rows[rows["eligible"]]
        chosen = rows[rows["chosen"]]
        assert len(chosen) == 1
        assert chosen["cost"].iloc[0] == eligible["cost"].min()
        assert decisions.loc[key, "chosen_row"] == chosen["row"].iloc[0]
        assert decisions.loc[key, "candidates"] == len(rows)


def test_saved_controls_roll_to_the_plan_that_was_scored(first: Path) -> None:
    row = pd.read_parquet(first / LEDGER).query("label == 'policy' and planner == 'constant_velocity'").iloc[0]
    assert not np.asarray(row["accel"]).any()
    assert len(row["curvature"]) == 30


def test_same_bytes_with_one_worker_and_without_any_cache(first: Path, place: Path, config: Make) -> None:
    out = place / "one_worker_no_cache"
    assert run(config(out=str(out), workers=1, cache="")) == 0
    for name in TABLES:
        assert sha256(out / name) == sha256(first / name), name


def test_rows_of_a_scene_do_not_depend_on_other_scenes_or_their_order(
    first: Path, place: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"cache": "", "baselines": ()}
    together = in_process(config(out=str(place / "together"), **settings))
    planned(replace(together, scene_ids=together.scene_ids[::-1]), monkeypatch, worker.open_desk(together))
    alone = in_process(config(out=str(place / "alone"), limit=1, **settings))
    planned(alone, monkeypatch, worker.open_desk(alone))
    rows = pd.read_parquet(together.run / LEDGER)
    rows = rows[rows["scene_id"] == alone.scene_ids[0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(alone.run / LEDGER), rows, check_exact=True)
    other = in_process(config(out=str(place / "other_seed"), limit=1, seed=1, **settings))
    planned(other, monkeypatch, worker.open_desk(other))
    drawn = pd.read_parquet(other.run / LEDGER)
    assert not np.array_equal(np.stack(drawn["accel"]), np.stack(rows["accel"]))


def test_killed_in_the_middle_the_same_command_goes_on_with_what_is_cached(first: Path, place: Path) -> None:
    out = place / "killed"
    words = ["study", "logs=store", f"logs.path={place / 'store'}", "model=cv", "optimizers=[cem,lattice]"]
    terms = shutil.copytree(place / "cache", place / "terms_only", ignore=shutil.ignore_patterns("kept", "compared"))
    words += ["candidates=32", "samples=2", f"out={out}", f"cache={terms}", "report=false", "mlflow=false"]
    command = [sys.executable, "-m", "experiments.cli", *words, "workers=1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 240
    while not list(out.glob("scenes/*.parquet")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("scenes/*.parquet")}
    assert kept
    assert not (out / "agreement.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in TABLES:
        assert sha256(out / name) == sha256(first / name), name
    for name, written in kept.items():
        assert (out / "scenes" / name).stat().st_mtime_ns == written, "a finished scene was planned again"
    assert pd.read_parquet(first / "timings.parquet")["imagined"].sum() > 100
    assert pd.read_parquet(out / "timings.parquet")["imagined"].sum() == 0, "what is in the cache was imagined again"


def test_a_damaged_cache_costs_imagination_and_is_said_once(
    first: Path, place: Path, config: Make, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(place / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("kept", "compared"))
    terms = sorted((tmp_path / "cache" / "terms").glob("*/*.rows"))
    for path in terms:
        content = bytearray(path.read_bytes())
        content[300] ^= 16
        path.write_bytes(bytes(content))
    assert run(config(out=str(tmp_path / "out"), cache=str(tmp_path / "cache"))) == 0
    for name in TABLES:
        assert sha256(tmp_path / "out" / name) == sha256(first / name), name
    said = capfd.readouterr()
    assert (said.out + said.err).count(f"{len(terms)} damaged places dropped") == 1
    timings = pd.read_parquet(tmp_path / "out" / "timings.parquet")
    assert timings["imagined"].sum() == len(terms), "one row of each scene"
    for path in terms:
        whole = place / path.relative_to(tmp_path)
        assert path.stat().st_size == whole.stat().st_size, "imagined again, stored again"


@pytest.mark.parametrize("damage", ["cut short", "a bit flipped"])
def test_a_damaged_shard_counts_as_not_there(first: Path, tmp_path: Path, config: Make, damage: str) -> None:
    study = prepare(config())
    for scene in study.scene_ids:
        path = shard_path(tmp_path, scene)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(shard_path(first, scene).read_bytes())
    assert set(finished(tmp_path, study.digest, study.scene_ids)) == set(study.scene_ids)
    path = shard_path(tmp_path, study.scene_ids[0])
    content = bytearray(path.read_bytes())
    content[700] ^= 16
    path.write_bytes(content[:1000] if damage == "cut short" else content)
    assert set(finished(tmp_path, study.digest, study.scene_ids)) == set(study.scene_ids[1:])
    assert finished(tmp_path, "another study", study.scene_ids) == ()


def test_another_study_in_the_same_folder_is_refused_in_one_line(first: Path, config: Make) -> None:
    before = sha256(first / LEDGER)
    with pytest.raises(InputError, match=r"holds another study .* overwrite=true"):
        prepare(config(seed=99))
    assert sha256(first / LEDGER) == before


def test_a_folder_with_other_things_is_not_taken(tmp_path: Path, config: Make) -> None:
    (tmp_path / "thesis.tex").write_text("dear to someone")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not empty"):
            prepare(config(out=str(tmp_path), overwrite=overwrite))
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "no_such"}, "no_such"),
        ({"optimizers": ("cem", "cme")}, "cme"),
        ({"baselines": ("idmm",)}, "idmm"),
        ({"horizon_s": 0.7}, "horizon_s"),
        ({"horizon_s": 4.0}, "baselines"),
        ({"settings": ("cem.round=3",)}, "rounds"),
        ({"settings": ("mppi.rounds=3",)}, "mppi.rounds"),
        ({"candidates": 0}, "candidates"),
        ({"optimizers": (), "baselines": ()}, "at least one"),
    ],
)
def test_bad_values_are_named_in_one_line(
    first: Path, tmp_path: Path, config: Make, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(InputError) as caught:
        prepare(config(out=str(tmp_path / "new"), **changes))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_mlflow_has_one_parent_and_a_child_per_planner(first: Path) -> None:
    with sqlite3.connect(first / "mlflow.db") as base:
        runs = base.execute("select run_uuid, name, status, artifact_uri from runs").fetchall()
        parents = dict(base.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall())
        metrics = base.execute("select run_uuid, key, value from metrics").fetchall()
        params = dict(base.execute("select key, value from params where key = 'candidates'").fetchall())
    study = [row for row in runs if row[0] not in parents]
    assert len(study) == 1
    assert set(parents.values()) == {study[0][0]}
    planners = {row[1] for row in runs if row[0] in parents}
    assert planners == {"cem", "lattice", "constant_velocity", "idm", "log_replay"}
    assert {row[2] for row in runs} == {"FINISHED"}
    assert params == {"candidates": "32"}
    names = {key for run_id, key, _ in metrics if run_id in parents}
    assert {"real_pdms", "real_pdms/ci_lower", "real_pdms/ci_upper"} <= names
    assert len(names) <= 12
    artifacts = Path(study[0][3].removeprefix("file://"))
    assert artifacts.is_relative_to(first)
    for name in (LEDGER, PER_SCENE, "config.json", "agreement.json"):
        assert sha256(artifacts / name) == sha256(first / name)


def test_planning_refuses_a_process_that_could_read_the_future(first: Path, config: Make) -> None:
    with pytest.raises(RuntimeError, match="sealed futures"):
        worker.planning(prepare(config()))


# ------------------------------------------------------------------- what planners and critics may do wrong


def in_process(config: StudyConfig) -> Study:
    """The prepared study, its folder empty."""
    return prepare(replace(config, overwrite=True))


def planned(study: Study, monkeypatch: pytest.MonkeyPatch, desk: worker.Desk) -> pd.DataFrame:
    """Decisions after every scene was planned in this process with this desk."""
    monkeypatch.setattr(worker, "require_sealed", lambda study: None)
    monkeypatch.setattr(worker, "open_desk", lambda study: desk)
    plan = worker.planning(study)
    for scene in study.scene_ids:
        plan(scene)
    return merge(study.run, study.digest, study.columns, study.scene_ids, study.planners, {})


class Fails:
    """An optimizer that cannot start where the ego is faster than a bound."""

    name, digest, rounds, candidates, horizon_steps = "cem", "fails", 1, 4, 30

    def __init__(self, beyond: float) -> None:
        self.beyond = beyond

    def init(self, key: int, start: Start) -> float:
        if start.speed > self.beyond:
            raise ArithmeticError("cannot think\nthat fast")
        return start.speed

    def ask(self, key: int, state: float) -> Proposal:
        return Proposal(np.zeros((4, 30, 2), np.float32), np.zeros(4, np.int32), ("sample",) * 4)

    def tell(self, state: float, controls: np.ndarray, costs: np.ndarray) -> float:
        return state

    def finalists(self, state: float) -> Proposal:
        return self.ask(0, state)


def test_a_failing_planner_is_listed_and_counts_and_others_go_on(
    first: Path, place: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wmplan.start import start_of
    from wmplan.store import SceneStore

    study = in_process(config(out=str(place / "failing"), optimizers=("cem",), baselines=("idm",)))
    store = SceneStore.open(study.store)
    speeds = {scene: start_of(store.scene(scene)).speed for scene in study.scene_ids}
    slowest = min(speeds, key=speeds.__getitem__)
    desk = worker.open_desk(study)
    desk.planners["cem"] = Fails(speeds[slowest])
    decisions = planned(study, monkeypatch, desk).set_index(["scene_id", "planner"])
    for scene in study.scene_ids:
        assert decisions.loc[(scene, "idm"), "status"] == "planned"
        row = decisions.loc[(scene, "cem")]
        assert row["status"] == ("planned" if scene == slowest else "failed")
        assert row["message"] == ("" if scene == slowest else "ArithmeticError: cannot think that fast")
    monkeypatch.setattr("experiments.processes.run_tasks", in_this_process)
    found = json.loads(agreement.run(study).read_text())
    line = next(row for row in found["planners"]["all"] if row["planner"] == "cem")
    assert (line["planned"], line["failed"]) == (1, 2)
    outcomes = pd.read_parquet(study.run / "outcomes.parquet")
    won = outcomes[(outcomes["planner"] == "cem") & (outcomes["kind"] == "chosen")]["real_pdms"]
    assert line["score"]["value"] == pytest.approx(float(won.sum()) / 3.0)


def in_this_process(
    factory: str, settings: Study, tasks: tuple[str, ...], workers: int, sealed: tuple[Path, ...], how: object
):
    """`run_tasks` without processes."""
    from experiments.configs import load
    from experiments.processes import Done

    handle = load(factory)(settings)
    for task in tasks:
        yield Done(task, handle(task))


class Spoils:
    """A critic that breaks the cheapest candidates: NaN where the plan brakes, -inf where it turns left."""

    name, columns, digest = "spoils", ("spoiled",), "spoils"

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        values = np.where(plans.controls[:, :, 0].mean(axis=1) < 0.0, np.nan, 0.0)
        values = np.where(plans.controls[:, :, 1].mean(axis=1) > 0.0, -np.inf, values)
        return Terms(self.columns, values[:, None].astype(np.float32))


def test_what_is_not_finite_is_counted_and_never_chosen(
    first: Path, place: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from critics import Composite

    study = in_process(config(out=str(place / "spoiled"), cache="", baselines=()))
    desk = worker.open_desk(study)
    composite = Composite([*desk.scorer.composite.critics, Spoils()])
    desk = worker.Desk(replace(desk.scorer, composite=composite), desk.planners)
    study = replace(study, columns=composite.columns)
    decisions = planned(study, monkeypatch, desk)
    ledger = pd.read_parquet(study.run / LEDGER)
    bad = ledger["spoiled"].isna() | np.isinf(ledger["spoiled"])
    bad &= ledger["infeasible"] == 0
    assert 20 < bad.sum() < len(ledger)
    assert np.isposinf(ledger.loc[bad, "cost"]).all()
    assert (ledger.loc[bad, "verdict"] == "refused").all()
    assert (ledger.loc[bad, "nonfinite"] > 0).all()
    assert not ledger.loc[bad, "chosen"].any()
    counted = bad.groupby([ledger["scene_id"], ledger["planner"]]).sum()
    saved = decisions.set_index(["scene_id", "planner"])["nonfinite"]
    pd.testing.assert_series_equal(saved.sort_index(), counted.sort_index(), check_names=False, check_dtype=False)


class Nothing(Spoils):
    """A critic without a finite word."""

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        return Terms(self.columns, np.full((len(plans), 1), np.nan, np.float32))


def test_where_nothing_is_finite_there_is_no_plan_and_the_reasons_are_counted(
    first: Path, place: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from critics import Composite

    study = in_process(config(out=str(place / "nothing"), cache="", limit=1))
    desk = worker.open_desk(study)
    composite = Composite([*desk.scorer.composite.critics, Nothing()])
    desk = worker.Desk(replace(desk.scorer, composite=composite), desk.planners)
    decisions = planned(replace(study, columns=composite.columns), monkeypatch, desk)
    assert set(decisions["status"]) == {"no_plan"}
    assert (decisions["chosen_row"] == -1).all()
    for row in decisions.itertuples():
        assert row.message.startswith("no plan: ")
        assert f"{row.candidates - row.infeasible} x non-finite term spoiled" in row.message


def test_every_shard_has_the_schema_of_the_ledger(first: Path) -> None:
    wanted = pq.read_schema(first / LEDGER)
    for path in first.glob("scenes/*.parquet"):
        assert pq.read_schema(path).remove_metadata().equals(wanted.remove_metadata())
