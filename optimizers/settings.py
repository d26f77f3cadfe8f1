"""What every optimizer's config has in common: checks across fields, and the digest that names a setting."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

ALGORITHM_VERSION = 2
"""Part of every digest. Raise it when the same config would propose other candidates than before."""


def digest_of(name: str, config: Any) -> str:
    """16 hex digits that name the optimizer and all fields of its config."""
    text = f"{name}:{ALGORITHM_VERSION}:{sorted(dataclasses.asdict(config).items())}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def per_round(owner: str, budget: int, rounds: int) -> int:
    """Candidates a round.

    Raises:
        ValueError: if the budget does not divide into the rounds.
    """
    if rounds < 1 or budget < 1 or budget % rounds:
        raise ValueError(f"{owner}.budget is {budget}, expected a positive multiple of rounds ({rounds})")
    return budget // rounds


def require(owner: str, field: str, value: Any, allowed: bool, expected: str) -> None:
    """Nothing, where the value is allowed.

    Raises:
        ValueError: otherwise, naming the field, the value and what was expected.
    """
    if not allowed:
        raise ValueError(f"{owner}.{field} is {value}, expected {expected}")
