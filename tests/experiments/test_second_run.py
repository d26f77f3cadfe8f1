"""A study that was done before computes nothing anew, and anything that could change a result makes it compute."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import worker
from experiments.files import sha256
from experiments.kept import Kept, folder_digest, key_of
from experiments.ledger import LEDGER, PER_SCENE, TIMINGS, finished
from experiments.prepared import Study, prepare
from experiments.processes import Done
from experiments.study import StudyConfig, plan_scenes, recall, run

Make = Callable[..., StudyConfig]
FILES = (LEDGER, PER_SCENE, TIMINGS, "outcomes.parquet", "agreement.json")


def test_a_second_run_loads_nothing_to_compute_with_and_writes_the_same_bytes(first: Path, place: Path, studied_apart):
    loaded, said = studied_apart("again", "report=false")
    assert loaded == []
    assert "3 of 3 scenes were planned by an equal study before" in said
    for name in FILES:
        assert sha256(place / "again" / name) == sha256(first / name), name


def test_the_store_of_a_second_run_is_its_own(first: Path, place: Path, config: Make):
    """It starts as a copy of an empty one."""
    counts = []
    for name in ("logged", "logged_again"):
        assert run(config(out=str(place / name), mlflow=True)) == 0
        with sqlite3.connect(place / name / "mlflow.db") as base:
            counts.append(base.execute("select count(*) from runs").fetchone())
            places = [row[0] for row in base.execute("select artifact_location from experiments where name = 'wmplan'")]
            default = base.execute("select count(*) from experiments where name = 'Default'").fetchone()
        assert places == [(place / name / "mlruns").resolve().as_uri()]
        assert default == (1,)
    assert counts == [(6,), (6,)]


def test_a_changed_seed_recalls_nothing(first: Path, place: Path, config: Make):
    same, other = prepare(config(out=str(place / "same"))), prepare(config(out=str(place / "other"), seed=3))
    assert set(recall(same, same.scene_ids)) == set(same.scene_ids)
    assert recall(other, other.scene_ids) == ()
    without = replace(same, cache=None, run=place / "without")
    assert recall(without, without.scene_ids) == ()


def test_scenes_in_which_a_planner_failed_are_planned_again(
    first: Path, place: Path, config: Make, monkeypatch: pytest.MonkeyPatch
):
    study = prepare(config(out=str(place / "broken"), optimizers=("cem",), baselines=("idm",)))
    desk = worker.open_desk(study)
    broken = study.scene_ids[1]

    class Broken:
        """A policy that fails in one scene."""

        name = "idm"

        def plan(self, scene, start, key):
            if scene.scene_id == broken:
                raise MemoryError("not now")
            return desk.planners["idm"].plan(scene, start, key)

    def here(factory: str, settings: Study, tasks: list[str], *_: object) -> Iterator[Done]:
        plan = worker.planning(settings)
        yield from (Done(task, plan(task)) for task in tasks)

    failing = worker.Desk(desk.scorer, {**desk.planners, "idm": Broken()})
    monkeypatch.setattr(worker, "require_sealed", lambda study: None)
    monkeypatch.setattr(worker, "open_desk", lambda study: failing)
    monkeypatch.setattr("experiments.processes.run_tasks", here)
    plan_scenes(study)
    assert set(finished(study.run, study.digest, study.scene_ids)) == set(study.scene_ids)
    again = prepare(config(out=str(place / "whole"), optimizers=("cem",), baselines=("idm",)))
    assert set(recall(again, again.scene_ids)) == set(study.scene_ids) - {broken}


def test_what_is_damaged_or_lies_under_another_key_counts_as_not_there(tmp_path: Path):
    kept, content = Kept(tmp_path / "kept"), bytes(range(256))
    assert kept.read("a") is None
    kept.write("a", content)
    assert kept.read("a") == content
    path = tmp_path / "kept" / "a"
    whole = path.read_bytes()
    path.with_name("b").write_bytes(whole)
    assert kept.read("b") is None
    for place in (0, 40, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert kept.read("a") is None
    path.write_bytes(whole[:100])
    assert kept.read("a") is None


def test_a_disk_that_refuses_costs_a_line_and_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("in the way")
    Kept(tmp_path / "file" / "kept").write("a", b"content")
    assert "works that out anew" in capsys.readouterr().err


def test_a_key_depends_on_every_part_and_the_source(monkeypatch: pytest.MonkeyPatch):
    keys = [key_of("a", 1, "x"), key_of("a", 1, "y"), key_of("a", "1", "x"), key_of("b", 1, "x")]
    monkeypatch.setattr("experiments.kept.source_digest", lambda: "other source")
    keys.append(key_of("a", 1, "x"))
    monkeypatch.setattr("experiments.kept.surroundings", lambda: ("another torch",))
    keys.append(key_of("a", 1, "x"))
    assert len(set(keys)) == len(keys)


def test_the_digest_of_a_folder_sees_names_and_bytes(tmp_path: Path):
    seen = {folder_digest(tmp_path / "none"), folder_digest(tmp_path)}
    (tmp_path / "weights").write_bytes(b"ab")
    seen.add(folder_digest(tmp_path))
    (tmp_path / "weights").write_bytes(b"ac")
    seen.add(folder_digest(tmp_path))
    (tmp_path / "weights").rename(tmp_path / "card")
    seen.add(folder_digest(tmp_path))
    assert len(seen) == 5
