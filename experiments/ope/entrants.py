"""Policies by the names that a user gives them: the simulator's, those that hold their decisions, and one's own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from experiments.ope.closed_loop import EXPERT
from experiments.ope.fleet import Fleet
from experiments.ope.held import HELD
from experiments.policies import CHECKPOINTS
from wmplan.errors import InputError
from wmplan.simulator.policies.graded import graded
from wmplan.simulator.policies.protocol import Policy, Situation

GROUPS = ("all", "graded", "held")


def known() -> dict[str, Policy]:
    """Every policy that ships, by name."""
    return {**graded(CHECKPOINTS), **HELD}


def wanted(names: Sequence[str]) -> tuple[str, ...]:
    """The names with groups written out, each once, in the order given.

    Raises:
        InputError: no such policy; the nearest name is suggested.
    """
    there = known()
    members = {"all": list(there), "graded": [name for name in there if name not in HELD], "held": list(HELD)}
    found: list[str] = []
    for name in names:
        if name not in members and name not in there and ":" not in name:
            near = difflib.get_close_matches(name, [*there, *GROUPS], n=1, cutoff=0.0)[0]
            raise InputError(f"ope: there is no policy {name!r}, did you mean {near}? (or module:name for your own)")
        found += members.get(name, [name])
    return tuple(dict.fromkeys(found))


def own(names: Sequence[str]) -> tuple[str, ...]:
    """Those of them that do not ship."""
    return tuple(name for name in names if ":" in name)


def policy_of(name: str) -> Policy:
    """The policy of this name.

    Raises:
        InputError: no such object, or one that is no policy.
    """
    if ":" not in name:
        return known()[name]
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"ope: policy {name}: {error}") from error
    made = found() if isinstance(found, type) or (callable(found) and not hasattr(found, "act")) else found
    if not hasattr(made, "act") or not hasattr(made, "deterministic"):
        raise InputError(f"ope: policy {name} is a {type(made).__name__}, expected act(situation, key), deterministic")
    policy: Policy = made
    return policy


def at_the_wheel(names: Sequence[str]) -> dict[str, Policy]:
    """The policies and the expert that progress counts against, by name."""
    there = known()
    return {name: there[name] if name in there else policy_of(name) for name in dict.fromkeys((*names, EXPERT))}


def check_shape(policy: Policy, situation: Situation) -> None:
    """Raises InputError where the actions are not a pair of numbers for each world."""
    shape = jax.eval_shape(policy.act, situation, jax.random.key(0))
    expected = (*situation.worlds.steps.shape, 2)
    if getattr(shape, "shape", None) != expected or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise InputError(f"actions are {shape}, expected floating-point numbers of shape {expected}")


def fleet_of(names: Sequence[str], draws: int) -> Fleet:
    """Them as one fleet."""
    return Fleet.of(at_the_wheel(names), draws)
