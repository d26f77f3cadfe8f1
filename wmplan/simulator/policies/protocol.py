"""What a policy is: a pure function of what can be seen, so that hundreds of drives run in one compiled loop."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from wmplan.simulator.network import Network
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Observed


class Situation(NamedTuple):
    """B worlds as they are when their egos decide.

    `observed` is what the simulator's drivers see (`traffic.observe`), `seen` what a learning ego sees
    (`wmplan.simulator.ego_view`). Whoever looks into `worlds` knows more than any driver could; only what is named in
    a policy's docstring may be used.
    """

    network: Network
    worlds: State
    observed: Observed
    seen: Float[Array, "B O"]


@runtime_checkable
class Policy(Protocol):
    """Drives the egos: a pytree, so that policies of one class share what was compiled for one of them."""

    @property
    def deterministic(self) -> bool:
        """Whether the action follows from the situation, whatever the key is."""
        ...

    def act(self, situation: Situation, key: Array) -> Float[Array, "B 2"]:
        """Accelerations (m/s2) and curvatures (1/m), within the bicycle's bounds."""
        ...


@runtime_checkable
class WithDensity(Policy, Protocol):
    """A policy whose actions have a density, as importance sampling needs it."""

    def log_density(self, situation: Situation, actions: Float[Array, "B 2"]) -> Float[Array, "B"]:
        """The logarithm of the density at these actions, per m/s2 and per 1/m; -inf where no action can be."""
        ...
