"""Optimizers propose candidates by ask and tell: CEM, MPPI, a Frenet lattice, a fixed pool, a tree of manoeuvres. JAX
inside, numpy at the edge. `OPTIMIZERS` lists them by name with their configs, `make` builds one, `plan` runs one
against a callback that prices plans. `optimizers.compiled` runs a whole plan as one program
where vehicle and cost are JAX functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimizers.cem import Cem, CemConfig
from optimizers.lattice import Lattice, LatticeConfig
from optimizers.limits import Limits
from optimizers.loop import FINALISTS, Evaluate, Optimized, plan
from optimizers.mppi import Mppi, MppiConfig
from optimizers.pool import Pool, PoolConfig
from optimizers.tree import Tree, TreeConfig
from wmplan.contracts import Optimizer
from wmplan.errors import InputError

__all__ = [
    "Cem", "CemConfig", "Entry", "Evaluate", "FINALISTS", "Lattice", "LatticeConfig", "Limits", "Mppi", "MppiConfig",
    "OPTIMIZERS", "Optimized", "Pool", "PoolConfig", "Tree", "TreeConfig", "make", "plan",
]  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A registered optimizer: its class, called with a config, and the config's class, called with nothing."""

    optimizer: type
    config: type


OPTIMIZERS: dict[str, Entry] = {
    "cem": Entry(Cem, CemConfig),
    "lattice": Entry(Lattice, LatticeConfig),
    "mppi": Entry(Mppi, MppiConfig),
    "pool": Entry(Pool, PoolConfig),
    "tree": Entry(Tree, TreeConfig),
}


def make(name: str, config: Any = None) -> Optimizer:
    """The optimizer of this name with this config; with its defaults where there is none.

    Raises:
        InputError: if the name is not registered or the config is another optimizer's.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"optimizer: {name!r} is not known, expected one of {', '.join(sorted(OPTIMIZERS))}")
    entry = OPTIMIZERS[name]
    if config is None:
        config = entry.config()
    if not isinstance(config, entry.config):
        raise InputError(f"optimizer {name}: config is a {type(config).__name__}, expected {entry.config.__name__}")
    return entry.optimizer(config)
