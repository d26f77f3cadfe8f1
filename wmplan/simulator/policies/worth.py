"""What policies are truly worth: the mean return of many drives on maps that nobody was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.simulator.network import Network
from wmplan.simulator.policies.episodes import Drives, play
from wmplan.simulator.policies.protocol import Policy
from wmplan.simulator.starts import CHUNK, EVERY_MAP, MERGE, atlas, settled
from wmplan.simulator.task import Seat

HELD_OUT = 500_000
"""Seeds of maps from here on are for true values; training takes lower ones."""


@dataclass(frozen=True)
class Ground:
    """Where policies are compared: the same starts for all, in turn on each of the maps."""

    kind: str
    network: Network
    starts: Seat
    seed: int

    @property
    def maps(self) -> Int[ndarray, "N"]:
        """The map of each start."""
        return np.asarray(self.starts.worlds.road)


@dataclass(frozen=True)
class Worth:
    """The mean return of a policy, in seconds of driving at the allowed speed (`wmplan.simulator.task`), its standard
    error, and what else its drives came to: shares of them, and seconds for `progress`. `means` are those of the drives
    on each map; all policies start in the same worlds, so their differences say more than two intervals."""

    policy: str
    maps: str
    value: float
    standard_error: float
    episodes: int
    progress: float
    contact: float
    lost: float
    red: float
    means: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the value."""
        return self.value - 1.96 * self.standard_error, self.value + 1.96 * self.standard_error

    def above(self, other: Worth) -> tuple[float, float]:
        """The 95 % interval of how much more it is worth than the other in the same worlds."""
        more = np.subtract(self.means, other.means)
        error = float(more.std(ddof=1) / np.sqrt(len(more)))
        return float(more.mean()) - 1.96 * error, float(more.mean()) + 1.96 * error


def ground(kind: str, maps: int = 128, episodes: int = 1024, seed: int = HELD_OUT) -> Ground:
    """`episodes` starts on `maps` maps of a kind with seeds `seed` on.

    Raises:
        InputError: no such kind, episodes that are no multiple of `CHUNK`, fewer episodes than maps, or one map only.
    """
    if not 2 <= maps <= episodes:
        raise InputError(f"maps: {maps}, expected 2 to {episodes}, the number of episodes")
    network = atlas(kind, maps, seed, MERGE if kind == "merge" else EVERY_MAP)
    return Ground(kind, network, settled(network, episodes, seed), seed)


def true_value(name: str, policy: Policy, where: Ground) -> Worth:
    """What the policy is worth there.

    Drives on one map are more alike than those on different ones: the standard error is that of the maps' means.
    """
    drives = returns(policy, where)
    means = per_map(np.asarray(drives.value, dtype=np.float64), where)
    progress, contact, lost, red = (
        float(np.mean(field)) for field in (drives.progress, drives.contact, drives.lost, drives.red)
    )
    error = float(means.std(ddof=1) / np.sqrt(len(means)))
    rounded = tuple(round(float(mean), 4) for mean in means)
    return Worth(name, where.kind, float(means.mean()), error, len(drives.value), progress, contact, lost, red, rounded)


def returns(policy: Policy, where: Ground) -> Drives:
    """What each of the drives came to."""
    key = jax.random.key(fold_in(where.seed, "drives") % 2**32)
    count = len(where.maps)
    parts = []
    for i in range(0, count, CHUNK):
        seat = jax.tree.map(lambda leaf, i=i: leaf[i : i + CHUNK], where.starts)
        parts.append(play(where.network, seat, policy, jax.random.fold_in(key, i)))
    return jax.device_get(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts))


def per_map(values: Float[ndarray, "N"], where: Ground) -> Float[ndarray, "M"]:
    """The mean of the drives on each map."""
    return np.bincount(where.maps, values) / np.bincount(where.maps)
