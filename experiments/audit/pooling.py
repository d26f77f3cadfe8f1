"""The frozen pool of a scene: candidates of many kinds, from its name and a seed alone, whatever model judges them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from experiments.perturb import perturbations
from optimizers import CemConfig, LatticeConfig, Optimizer, PoolConfig, make
from wmplan.executed import executed
from wmplan.plans import Plans, Start
from wmplan.policies import POLICIES
from wmplan.randomness import fold_in
from wmplan.scene import STEP_S, Future, Scene
from wmplan.start import start_of

LOGGED, PERTURBED, SHAKEN, STANDING, POLICY = "logged", "perturbed", "shaken", "standing", "policy"
DISTANCES_M = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Perturbations end so far from where the logged plan ends."""
SHAKES_MPS2 = 3.0
"""Shaken plans: in each third of the logged plan, up to so much more or less acceleration, ahead and to the side."""
BRAKES_MPS2 = (2.5, 6.0)
"""Standing still: braking comfortably, and hard, until the car stands."""
ROUTED = 18
"""The fixed pool needs so many candidates or more."""


@dataclass(frozen=True)
class Pool:
    """K candidates of a scene. `kinds` says where each comes from, `distance_m` how far a perturbation was meant to end
    from the logged plan (NaN for other kinds). No two have equal controls."""

    plans: Plans
    kinds: tuple[str, ...]
    distance_m: Float[ndarray, "K"]


def pool_of(scene: Scene, future: Future, size: int, horizon_steps: int, seed: int) -> Pool:
    """The pool: what the log's ego did, a quarter smooth perturbations of it, a sixteenth shaken at random, two ways to
    stand still, the baseline policies, and what the optimizers propose before they know any cost: a quarter from the
    lattice, an eighth from the fixed pool, the rest from the cross-entropy method's first round.

    A log that does not show the ego to the end of the horizon gives no logged plan and nothing near it; the
    cross-entropy method makes up for them, as for every candidate that cannot be driven.
    """
    start = start_of(scene)
    key = fold_in(seed, scene.scene_id, "pool")
    seen: set[bytes] = set()
    rows: list[tuple[Plans, str, float]] = []
    fixed = chain(_around_the_log(scene, future, start, size, horizon_steps, key), _known(scene, start, horizon_steps))
    lattice = _proposals("lattice", start, size, size // 4, horizon_steps, key)
    routed = _proposals("pool", start, size, size // 8, horizon_steps, key)
    for plan, kind, distance in chain(fixed, lattice, routed, _endless(start, size, horizon_steps, key)):
        content = plan.controls.tobytes()
        if content not in seen and np.isfinite(plan.states).all():
            seen.add(content)
            rows.append((plan, kind, distance))
        if len(rows) == size:
            break
    return Pool(
        Plans.concatenate([plan for plan, _, _ in rows]),
        tuple(kind for _, kind, _ in rows),
        np.array([distance for _, _, distance in rows]),
    )


def _around_the_log(
    scene: Scene, future: Future, start: Start, size: int, steps: int, key: int
) -> Iterator[tuple[Plans, str, float]]:
    drove = executed(scene, future, start, steps).plan
    if drove is None:
        return
    yield drove, LOGGED, np.nan
    each = max(1, -(-(size // 4) // len(DISTANCES_M)))
    changed, meant = perturbations(drove, DISTANCES_M, each, key)
    # One of each distance before the second of any, so that a small pool has all distances.
    order = np.argsort([list(meant[:i]).count(d) for i, d in enumerate(meant)], kind="stable")
    for row in order[: size // 4].tolist():
        yield changed.select([row]), PERTURBED, float(meant[row])
    draw = np.random.default_rng(fold_in(key, SHAKEN))
    for _ in range(max(2, size // 16)):
        yield _shaken(drove, start, draw), SHAKEN, np.nan


def _shaken(drove: Plans, start: Start, draw: np.random.Generator) -> Plans:
    """The plan with other accelerations in each third, uniformly drawn."""
    steps = drove.controls.shape[1]
    thirds = np.repeat(draw.uniform(-SHAKES_MPS2, SHAKES_MPS2, (3, 2)), -(-steps // 3), axis=0)[:steps]
    # A slow car cannot be pushed aside: below 4 m/s the change of curvature grows no more.
    thirds[:, 1] /= np.maximum(drove.states[0, :-1, 3].astype(np.float64), 4.0) ** 2
    return Plans.from_controls(drove.controls.astype(np.float64) + thirds[None], start.speed)


def _known(scene: Scene, start: Start, steps: int) -> Iterator[tuple[Plans, str, float]]:
    for brake in BRAKES_MPS2:
        yield Plans.from_controls(_to_a_stand(start, brake, steps)[None], start.speed), STANDING, np.nan
    for name in sorted(POLICIES):
        plan = POLICIES[name].plan(scene, start, 0)
        yield Plans(plan.controls[:, :steps], plan.states[:, : steps + 1]), POLICY, np.nan


def _to_a_stand(start: Start, brake: float, steps: int) -> Float[ndarray, "T 2"]:
    """Along the present curvature, braking until the car stands and then no more."""
    speeds = np.maximum(start.speed - brake * STEP_S * np.arange(steps + 1), 0.0)
    return np.stack([np.diff(speeds) / STEP_S, np.full(steps, start.curvature)], axis=-1)


def _proposals(
    name: str, start: Start, size: int, wanted: int, steps: int, key: int
) -> Iterator[tuple[Plans, str, float]]:
    """The first drivable candidates of the optimizer's first round."""
    budget = max(size, ROUTED + 2)
    config = {"lattice": LatticeConfig, "pool": PoolConfig}[name](budget=budget, horizon_steps=steps)
    yield from islice(_first_round(name, make(name, config), start, key), wanted)


def _endless(start: Start, size: int, steps: int, key: int) -> Iterator[tuple[Plans, str, float]]:
    """Samples of the cross-entropy method's first round, batch after batch."""
    sampler = make("cem", CemConfig(budget=max(size, 16), rounds=1, horizon_steps=steps))
    batch = 0
    while True:
        yield from _first_round("cem", sampler, start, fold_in(key, "batch", batch))
        batch += 1


def _first_round(name: str, optimizer: Optimizer, start: Start, key: int) -> Iterator[tuple[Plans, str, float]]:
    proposal = optimizer.ask(fold_in(key, name, "ask"), optimizer.init(fold_in(key, name, "init"), start))
    plans = Plans.from_controls(proposal.controls, start.speed)
    for row in np.flatnonzero(proposal.infeasible == 0).tolist():
        yield plans.select([row]), name, np.nan
