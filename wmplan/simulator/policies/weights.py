"""Learned policies on disk: one safetensors file each, beside a card that says where it comes from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from wmplan.errors import InputError
from wmplan.simulator.ego_view import OBSERVATION
from wmplan.simulator.policies.learned import Learned


@dataclass(frozen=True)
class Card:
    """Where a learned policy comes from: the maps and steps it was trained on, the command that repeats it, the commit
    and the hardware that it ran on."""

    maps: str
    steps: int
    command: str
    commit: str
    hardware: str


def save_policy(path: Path, policy: Learned, card: Card) -> Path:
    """Path of the weights, after they and their card (same name, `.json`) are written; never half-written."""
    tensors = {"mean": np.asarray(policy.mean), "std": np.asarray(policy.std)}
    for i, (kernel, bias) in enumerate(zip(policy.kernels, policy.biases)):
        tensors |= {f"kernel{i}": np.asarray(kernel), f"bias{i}": np.asarray(bias)}
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, save({name: np.ascontiguousarray(t, dtype=np.float32) for name, t in tensors.items()}))
    _write(path.with_suffix(".json"), (json.dumps(asdict(card), indent=1) + "\n").encode())
    return path


def load_policy(path: Path) -> Learned:
    """The policy, drawing its choices.

    Raises:
        InputError: no such file, not these tensors, or made for another view of the road.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"policy {path}: {error}, expected weights in safetensors") from error
    layers = sum(name.startswith("kernel") for name in tensors)
    expected = {"mean", "std", *(f"{part}{i}" for part in ("kernel", "bias") for i in range(layers))}
    if set(tensors) != expected or not layers:
        raise InputError(f"policy {path}: tensors {sorted(tensors)}, expected mean, std, kernel0, bias0 and so on")
    if tensors["mean"].shape != (OBSERVATION,):
        size = tensors["mean"].shape
        raise InputError(f"policy {path}: mean of shape {size}, expected ({OBSERVATION},): trained on another view")
    return Learned(
        tensors["mean"],
        tensors["std"],
        tuple(tensors[f"kernel{i}"] for i in range(layers)),
        tuple(tensors[f"bias{i}"] for i in range(layers)),
        np.zeros((), np.float32),
    )


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
