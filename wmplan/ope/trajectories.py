"""Logged drives with the densities of their decisions under who drove and under the policy that is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from wmplan.errors import InputError


@dataclass(frozen=True)
class Trajectories:
    """N drives of at most T decisions, one a scene.

    `rewards[i, t]` is what decision t brought until the next; `behaviour` and `target` are the logarithms of its
    density under the logged behaviour and under `policy`, given everything before it. None: there is none. `mask` is
    True up to a drive's last decision; what lies behind it counts for nothing: a drive that ends early earns no more.
    `target` may be -inf where the policy would never decide so. `groups` names what shares traffic (empty: each scene
    for itself).
    """

    policy: str
    scenes: tuple[str, ...]
    rewards: Float[ndarray, "N T"]
    mask: Bool[ndarray, "N T"]
    behaviour: Float[ndarray, "N T"] | None
    target: Float[ndarray, "N T"] | None
    deterministic: bool = False
    discount: float = 1.0
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.discount <= 1.0:
            raise InputError(f"trajectories: discount {self.discount}, expected above 0 and at most 1")
        if not len(self.scenes) == len(self.rewards) or (self.groups and len(self.groups) != len(self.scenes)):
            raise InputError(
                f"trajectories: {len(self.scenes)} scenes, {len(self.rewards)} drives, {len(self.groups)} groups, "
                "expected as many of each"
            )
        if not self.rewards.size:
            raise InputError("trajectories: no decisions, expected one drive or more")
        if (self.mask[:, 1:] & ~self.mask[:, :-1]).any() or not self.mask[:, 0].all():
            i = int(np.argmax((self.mask[:, 1:] & ~self.mask[:, :-1]).any(1) | ~self.mask[:, 0]))
            raise InputError(
                f"scene {self.scenes[i]}: mask has a gap, expected decisions without one from the first on"
            )
        self._check("reward", self.rewards, np.isfinite(self.rewards), "a finite number")
        if self.behaviour is not None:
            # What was done had some density; -inf here means densities of another version or of another action.
            self._check("behaviour", self.behaviour, np.isfinite(self.behaviour), "a finite logarithm of a density")
        if self.target is not None:
            fine = ~np.isnan(self.target) & (self.target < np.inf)
            self._check("target", self.target, fine, "a logarithm of a density below +inf")

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def drawn(self) -> tuple[str, ...]:
        """The group of each drive: what a bootstrap draws together."""
        return self.groups or self.scenes

    @property
    def paid(self) -> Float[ndarray, "N T"]:
        """Discounted rewards, zero behind a drive's end."""
        steps = np.arange(self.rewards.shape[1])
        return np.where(self.mask, self.rewards, 0.0) * self.discount**steps

    @property
    def returns(self) -> Float[ndarray, "N"]:
        """The discounted return of each drive."""
        return self.paid.sum(1)

    def log_weights(self) -> Float[ndarray, "N T"]:
        """log prod_{u <= t} target / behaviour; constant behind a drive's end.

        Raises:
            ValueError: a side without densities.
        """
        if self.behaviour is None or self.target is None:
            raise ValueError(f"policy {self.policy}: expected densities of both sides")
        ratio = np.where(self.mask, self.target - np.where(self.mask, self.behaviour, 0.0), 0.0)
        return np.cumsum(ratio.astype(np.float64), axis=1)

    def select(self, rows: Int[ndarray, "M"] | Sequence[int]) -> Trajectories:
        """These drives, in this order."""
        rows = np.asarray(rows, dtype=int)
        return replace(
            self,
            scenes=tuple(self.scenes[i] for i in rows),
            rewards=self.rewards[rows],
            mask=self.mask[rows],
            behaviour=None if self.behaviour is None else self.behaviour[rows],
            target=None if self.target is None else self.target[rows],
            groups=tuple(self.groups[i] for i in rows) if self.groups else (),
        )

    def _check(self, name: str, values: ndarray, fine: ndarray, expected: str) -> None:
        bad = np.argwhere(self.mask & ~fine)
        if len(bad):
            i, t = (int(j) for j in bad[0])
            raise InputError(f"scene {self.scenes[i]}: {name} of decision {t} is {values[i, t]}, expected {expected}")
