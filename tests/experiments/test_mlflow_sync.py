"""`wmplan mlflow sync`: what an unreachable server left behind comes there later, once, whatever sort of run it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from experiments.cli import main
from experiments.mlflow_sync import runs_under
from experiments.tracking import RECORD, UPLOAD, Headline, Page, logged_to, owed, upload
from wmplan.models.model_card import Card

NOWHERE = "http://127.0.0.1:9"
CHILDREN = [Page("a", {}, {}, (Headline("value", 1.0),)), Page("b", {}, {}, ())]
STUDY = Page("study", {"seed": "1"}, {}, ())


def audit(folder: Path) -> Path:
    """What a finished audit leaves, as far as MLflow is told of it."""
    folder.mkdir(parents=True)
    config = {"config": {"seed": 0, "mlflow": True, "tracking_uri": "", "experiment": "wmplan"}}
    (folder / "config.json").write_text(json.dumps({"digest": "d", "commit": "c", **config}))
    head = {"name": "pairwise_accuracy within scenes", "value": 0.9, "low": 0.8, "high": None}
    found = {"scenes": 3, "groups": 2, "candidates": 16, "headlines": [head], "skipped": []}
    (folder / "audit.json").write_text(json.dumps(found))
    row = {"critic": "cost", "real": "real_pdms", "metric": "pairwise_accuracy", "value": 0.9, "low": 0.8, "high": 1.0}
    pd.DataFrame([{"contender": name, **row} for name in ("nano", "cv")]).to_parquet(folder / "rankings.parquet")
    return folder


def training(folder: Path) -> Path:
    """What a finished training leaves, weights left out."""
    folder.mkdir(parents=True)
    card = Card("nano", 6, "abc", {"seed": 3}, {"scenes": 7}, ("g",), (), (("tokenizer", 50, 0.5),))
    (folder / "card.json").write_text(card.to_json())
    (folder / "model.safetensors").touch()
    return folder


def counted(store: Path) -> tuple[int, int]:
    """Runs in a store that are not deleted, and those of them that are parents."""
    with sqlite3.connect(store) as base:
        runs = base.execute("select count(*) from runs where lifecycle_stage = 'active'").fetchone()[0]
        children = "select run_uuid from tags where key = 'mlflow.parentRunId'"
        asked = f"select count(*) from runs where lifecycle_stage = 'active' and run_uuid not in ({children})"
        return runs, base.execute(asked).fetchone()[0]


def test_what_a_server_out_of_reach_left_is_synced_later_and_only_once(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, store = tmp_path / "runs", tmp_path / "mlflow.db"
    study = Path(shutil.copytree(first, runs / "study", ignore=shutil.ignore_patterns("mlflow*", "mlruns")))
    audit(runs / "deeper" / "audit")
    training(runs / "model")
    assert [sort.name for _, sort in runs_under(runs)] == ["audit", "training", "study"]
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    assert main(["mlflow", "sync", str(runs), f"tracking_uri={NOWHERE}"]) == 1
    said = capsys.readouterr().err
    assert f"3 runs are not at {NOWHERE}; nothing is lost" in said
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in before} == before
    assert [place.uri for place in owed(study)] == [NOWHERE]
    # Another store, as where the server came back, is brought up to date; then nothing is left to be done.
    uri = f"tracking_uri=sqlite:///{store}"
    assert main(["mlflow", "sync", str(runs), uri]) == 0
    assert "3 finished runs, 3 logged now" in capsys.readouterr().out
    once = counted(store)
    assert once == (10, 3)  # the study with five children, the audit with two, the training
    assert main(["mlflow", "sync", str(runs), uri]) == 0
    assert "3 finished runs, 0 logged now" in capsys.readouterr().out
    assert counted(store) == once
    # A folder that forgot where it was logged is known to the store.
    (study / RECORD).unlink()
    assert main(["mlflow", "sync", str(study), uri]) == 0
    assert counted(store) == once
    assert main(["mlflow", "sync", str(study), uri, "again=true"]) == 0
    assert counted(store)[1] == 4


def test_what_is_owed_goes_where_it_should_have_gone(tmp_path: Path) -> None:
    """Without an address: to the store that could not be reached; a training that was told of none is left out."""
    from experiments.tracked_training import pages

    runs = tmp_path / "runs"
    model = training(runs / "model")
    training(runs / "untold")
    place = tmp_path / "later" / "here"
    place.parent.touch()  # a file where a folder should be: the store cannot be made
    uri = f"sqlite:///{place / 'mlflow.db'}"
    with pytest.raises(ConnectionError, match=r"^[^\n]+$"):
        upload(model, uri, "trainings", *pages(model))
    place.parent.unlink()
    place.mkdir(parents=True)
    assert main(["mlflow", "sync", str(runs)]) == 0
    assert counted(place / "mlflow.db") == (1, 1)
    assert logged_to(model, uri)
    assert not owed(model)
    assert not (runs / "untold" / RECORD).exists()


def test_an_upload_that_was_cut_off_is_not_left_beside_the_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    ended: list[str] = []

    def dies(client: MlflowClient, run_id: str, *more: object) -> None:
        ended.append(run_id)
        if len(ended) == 2:
            raise OSError("the line is dead")
        finish(client, run_id, *more)

    finish = MlflowClient.set_terminated
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", dies)
        with pytest.raises(ConnectionError, match="the line is dead"):
            upload(tmp_path, "", "wmplan", STUDY, CHILDREN)
    assert counted(tmp_path / "mlflow.db") == (3, 1)
    whole = upload(tmp_path, "", "wmplan", STUDY, CHILDREN)
    assert counted(tmp_path / "mlflow.db") == (3, 1)
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        active = "select run_uuid from runs where lifecycle_stage = 'active'"
        query = f"select run_uuid from tags where key = '{UPLOAD}' and run_uuid in ({active})"
        assert base.execute(query).fetchall() == [(whole,)]
        states = f"select distinct status from runs where run_uuid in ({active})"
        assert base.execute(states).fetchall() == [("FINISHED",)]


def test_nothing_to_sync_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mlflow", "sync", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "no finished study, ope, audit or training there" in said
    assert said.count("\n") == 1
    assert main(["upload", str(tmp_path)]) == 2
