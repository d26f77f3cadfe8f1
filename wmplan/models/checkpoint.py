"""Learned models on disk: a folder with `model.safetensors`, `card.json` and `MODEL_CARD.md`, or nothing.

The card holds the digest of the weights; it is written last, so a folder with a card is whole.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import nn

from wmplan.contracts import WorldModel
from wmplan.errors import InputError
from wmplan.models.families import family_of
from wmplan.models.model_card import Card
from wmplan.models.precision import Precision, lowered, resolved
from wmplan.models.presets import preset_of

WEIGHTS, CARD, PAGE = "model.safetensors", "card.json", "MODEL_CARD.md"
IMAGINATION_VERSION = 3
"""Raised whenever code changes what given weights imagine: it is part of every model's digest."""


def save(folder: Path, network: nn.Module, card: Card) -> Card:
    """The card with the digest of the weights filled in, after all three files took their places."""
    weights = to_bytes({name: value.contiguous() for name, value in network.state_dict().items()})
    card = replace(card, weights_sha256=hashlib.sha256(weights).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / WEIGHTS, weights)
    _write(folder / PAGE, card.page().encode())
    _write(folder / CARD, card.to_json().encode())
    return card


def read_card(folder: Path) -> Card:
    """The card of a checkpoint.

    Raises:
        InputError: if the folder holds none, or one that cannot be used.
    """
    path = folder / CARD
    if not path.is_file():
        raise InputError(f"{path}: not found, expected the card of a trained model")
    return Card.from_json(_text(path), str(path))


def load(folder: Path, precision: Precision = "float32") -> WorldModel:
    """The world model of a checkpoint folder. Its digest tells precisions apart.

    Raises:
        InputError: if a file is missing or damaged, or belongs to another model, or the processor lacks the precision.
    """
    precision = resolved(precision)
    card = read_card(folder)
    preset, path = preset_of(card.preset), folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path}: not found, expected the weights that {CARD} describes")
    weights = path.read_bytes()
    found = hashlib.sha256(weights).hexdigest()
    if found != card.weights_sha256:
        raise InputError(f"{path}: sha256 is {found[:12]}..., expected {card.weights_sha256[:12]}... ({CARD}): damaged")
    network = _empty(card)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    tensors = from_bytes(weights)
    have = {name: tuple(value.shape) for name, value in tensors.items()}
    if have != wanted:
        odd = sorted(name for name in wanted.keys() | have.keys() if wanted.get(name) != have.get(name))[0]
        raise InputError(
            f"{path}: tensor {odd} has shape {have.get(odd)}, expected {wanted.get(odd)} of preset {preset.name} "
            "(a checkpoint of another model)"
        )
    network.load_state_dict(tensors)
    identity = f"{card.kind}/{IMAGINATION_VERSION}/{card.weights_sha256}/{card.horizon}/{preset}"
    identity += "" if precision == "float32" else f"/{precision}"
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    return family_of(card.kind).model(lowered(network, precision), digest, card.horizon)


def _empty(card: Card) -> nn.Module:
    """A network to load weights into; leaves the global random state alone."""
    with torch.random.fork_rng(devices=[]):
        return family_of(card.kind).network(preset_of(card.preset), card.config)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text ({error.reason}), expected the card of a trained model") from error


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
