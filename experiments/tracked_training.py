"""A finished training in MLflow: its settings, its loss curves by stage, its IoU by horizon, its card."""

from __future__ import annotations

from pathlib import Path

from experiments.tracking import Headline, Page, upload
from wmplan.models.checkpoint import read_card
from wmplan.models.model_card import Card

EXPERIMENT = "wmplan training"


def upload_training(folder: Path, card: Card, uri: str, experiment: str = EXPERIMENT) -> str:
    """Id of the MLflow run of a training, after it was logged.

    Raises:
        ConnectionError: the store cannot be reached or refuses; the message is one line, and the folder notes that the
            run is owed (`wmplan mlflow sync`).
    """
    return upload(folder, uri, experiment, page_of(folder, card), [])


def pages(folder: Path) -> tuple[Page, list[Page]]:
    """The page of the training in a folder, and no others.

    Raises:
        InputError: no readable card there.
    """
    return page_of(folder, read_card(folder)), []


def page_of(folder: Path, card: Card) -> Page:
    """What a card says."""
    config = {name: str(value) for name, value in {**card.data, **card.config}.items()}
    headlines = tuple(
        item
        for row in card.metrics
        for item in (
            Headline(f"IoU/{row.split}/{row.seconds:g}s", row.model),
            Headline(f"IoU gain/{row.split}/{row.seconds:g}s", row.gain, row.gain_low, row.gain_high),
        )
    )
    curve = tuple((f"loss/{stage}", step, loss) for stage, step, loss in card.curve)
    return Page(folder.name, config, {"kind": card.kind, "preset": card.preset}, headlines, curve)
