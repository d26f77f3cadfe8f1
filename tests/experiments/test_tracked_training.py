"""A training in MLflow: its curve by stage and step, its headlines; and one line where there is no MLflow."""

from __future__ import annotations

import pytest

from experiments.tracked_training import upload_training
from wmplan.models.model_card import Card, Row


def card() -> Card:
    curve = tuple(("tokenizer", 50 * i, 1.0 / i) for i in range(1, 1200)) + (("on_policy", 50, 0.25),)
    row = Row("val", 600, 3.0, 0.3, 0.25, 0.1, 0.05, 0.03, 0.07)
    return Card("nano", 6, "abc", {"seed": 3}, {"scenes": 7}, ("g",), (row,), curve)


def test_curve_and_headlines_are_what_the_card_says(tmp_path):
    from mlflow.tracking import MlflowClient

    for name in ("card.json", "MODEL_CARD.md"):
        (tmp_path / name).write_text("text")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run_id = upload_training(tmp_path, card(), uri, "trainings")
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(run_id)
    assert run.data.params["seed"] == "3"
    assert run.data.params["scenes"] == "7"
    assert run.data.metrics["IoU gain/val/3s/ci_upper"] == pytest.approx(0.07)
    history = {m.step: m.value for m in client.get_metric_history(run_id, "loss/tokenizer")}
    assert history == {50 * i: pytest.approx(1.0 / i) for i in range(1, 1200)}
    assert [m.value for m in client.get_metric_history(run_id, "loss/on_policy")] == [0.25]
    assert {f.path for f in client.list_artifacts(run_id)} == {"card.json", "MODEL_CARD.md"}


def test_a_store_that_cannot_be_reached_is_one_line(tmp_path):
    (tmp_path / "no").touch()
    with pytest.raises(ConnectionError, match=r"^[^\n]+$"):
        upload_training(tmp_path, card(), f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'x.db'}", "trainings")
