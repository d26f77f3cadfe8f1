"""The rules that every critic keeps, as a suite that anyone can run over a critic of their own."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from wmplan.contracts import Context, Critic, Imagined, Terms
from wmplan.plans import Plans


def check_critic(critic: Critic, context: Context, plans: Plans, imagined: Imagined) -> None:
    """Nothing, if the critic keeps the contract on this scene.

    Rows are independent: the terms of a subset, of another order, or of one candidate are the same bytes. Asked twice
    it says the same; inputs stay untouched. What is not finite in one candidate's imagination or plan leaves the other
    rows alone, and in its own row gives either the same term (of a critic that does not look there) or a non-finite
    one: never another number.

    Raises:
        AssertionError: naming the first rule that is broken.
    """
    assert isinstance(critic, Critic), f"{type(critic).__name__} lacks a member of the Critic protocol"
    name, count = critic.name, len(plans)
    assert count >= 3, f"check_critic: {count} plans, expected at least 3"
    assert critic.digest, f"{name}: the digest is empty"
    assert len(set(critic.columns)) == len(critic.columns), f"{name}: a column appears twice"
    before = _bytes(context, plans, imagined)
    whole = critic.terms(context, plans, imagined)
    assert isinstance(whole, Terms), f"{name}: terms gives {type(whole).__name__}, expected Terms"
    assert whole.columns == tuple(critic.columns), f"{name}: terms has other columns than the critic"
    assert whole.values.shape == (count, len(critic.columns)), f"{name}: {whole.values.shape} terms of {count} plans"
    assert whole.values.dtype == np.float32, f"{name}: terms are {whole.values.dtype}, expected float32"
    assert _bytes(context, plans, imagined) == before, f"{name}: context, plans or imagined were changed"
    _same(whole.values, critic.terms(context, plans, imagined), f"{name}: asked twice, other terms")
    for rows in ([0], [count - 1], [2, 0], list(range(count))[::-1], list(range(1, count))):
        part = critic.terms(context, plans.select(rows), _rows(imagined, rows))
        _same(whole.values[rows], part, f"{name}: candidates {rows} alone differ from the same among {count}")
    _check_nonfinite(critic, context, plans, imagined, whole)


def _check_nonfinite(critic: Critic, context: Context, plans: Plans, imagined: Imagined, whole: Terms) -> None:
    others = [k for k in range(len(plans)) if k != 1]
    for field in ("occupancy", "velocity", "latents"):
        for bad in (np.nan, np.inf):
            broken = getattr(imagined, field).clone()
            broken[1] = bad
            found = critic.terms(context, plans, dataclasses.replace(imagined, **{field: broken}))
            _row_stays_or_breaks(critic, whole, found, others, f"{field} of {bad}")
    states = plans.states.copy()
    states[1, -1] = np.nan
    found = critic.terms(context, Plans(plans.controls, states), imagined)
    _row_stays_or_breaks(critic, whole, found, others, "a plan of nan")


def _row_stays_or_breaks(critic: Critic, whole: Terms, found: Terms, others: list[int], what: str) -> None:
    _same(whole.values[others], Terms(found.columns, found.values[others]), f"{critic.name}: {what} reaches other rows")
    for column, clean, value in zip(critic.columns, whole.values[1], found.values[1], strict=True):
        kept = not np.isfinite(value) or value == clean
        assert kept, f"{critic.name}: {what} turns {column} from {clean} into {value}, expected no finite change"


def _rows(imagined: Imagined, rows: list[int]) -> Imagined:
    return Imagined(imagined.occupancy[rows], imagined.velocity[rows], imagined.latents[rows], imagined.grid)


def _same(expected: np.ndarray, found: Terms, message: str) -> None:
    equal = np.array_equal(expected, found.values, equal_nan=True)
    if not equal:
        differs = ~((expected == found.values) | (np.isnan(expected) & np.isnan(found.values)))
        columns = [found.columns[j] for j in np.flatnonzero(differs.any(0))]
        raise AssertionError(f"{message}: {', '.join(columns)}")


def _bytes(context: Context, plans: Plans, imagined: Imagined) -> tuple[bytes, ...]:
    tensors: list[Tensor] = [context.raster.static, context.raster.history]
    tensors += [imagined.occupancy, imagined.velocity, imagined.latents]
    parts = [tensor.contiguous().numpy().tobytes() for tensor in tensors]
    if isinstance(context.encoded, torch.Tensor):
        parts.append(context.encoded.contiguous().numpy().tobytes())
    return (*parts, plans.controls.tobytes(), plans.states.tobytes())
