"""A finished training in MLflow: its settings, its loss curves by stage, its IoU by horizon, its card."""

from __future__ import annotations

from pathlib import Path

from experiments.tracking import Headline, Page, experiment_of, reached, write_page
from wmplan.models.model_card import Card

MOST = 1000
"""MLflow takes so many metrics at once."""


def upload_training(folder: Path, card: Card, uri: str, experiment: str) -> str:
    """Id of the MLflow run of a training, after it was logged.

    Raises:
        ConnectionError: the store cannot be reached or refuses; the message is one line.
    """
    config = {name: str(value) for name, value in {**card.data, **card.config}.items()}
    headlines = tuple(
        item
        for row in card.metrics
        for item in (
            Headline(f"IoU/{row.split}/{row.seconds:g}s", row.model),
            Headline(f"IoU gain/{row.split}/{row.seconds:g}s", row.gain, row.gain_low, row.gain_high),
        )
    )
    page = Page(folder.name, config, {"kind": card.kind, "preset": card.preset}, headlines)
    return reached(lambda: _log(folder, card, uri, experiment, page))


def _log(folder: Path, card: Card, uri: str, experiment: str, page: Page) -> str:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    run_id = write_page(client, experiment_of(client, folder, uri, experiment), page, {})
    curve = [Metric(f"loss/{stage}", loss, 0, step) for stage, step, loss in card.curve]
    for first in range(0, len(curve), MOST):
        client.log_batch(run_id, metrics=curve[first : first + MOST])
    for name in ("card.json", "MODEL_CARD.md"):
        client.log_artifact(run_id, str(folder / name))
    client.set_terminated(run_id)
    return run_id
