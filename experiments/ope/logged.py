"""Logged decisions with what they brought, and how likely they were under who drove and under other policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from experiments.ope.closed_loop import COLUMNS, Drives, by_road, expert_progress
from experiments.ope.held import Held
from wmplan import bicycle
from wmplan.ope.fqe import Features
from wmplan.ope.trajectories import Trajectories
from wmplan.plans import Plans
from wmplan.randomness import fold_in
from wmplan.scene import STEP_S, Future, Scene
from wmplan.simulator.choices import to_choices
from wmplan.simulator.live import LiveScene
from wmplan.simulator.policies.protocol import Policy, Situation
from wmplan.simulator.propensities import densities
from wmplan.simulator.reader import SimulatorReader
from wmplan.simulator.source import Source
from wmplan.start import start_of

WISHES = 4
"""Decisions of a policy that are drawn in each logged situation."""


def rhythm_of_log(steps: Int[ndarray, "N"]) -> int:
    """Steps between decisions, 0 where they are not equally far apart."""
    gaps = set(np.diff(steps).tolist())
    return gaps.pop() if len(gaps) == 1 else 0


def decisions_of(
    scene: Scene, future: Future, alive: LiveScene, driven: Drives, policies: Mapping[str, Policy], seed: int
) -> pd.DataFrame | None:
    """A row for each logged decision from t0 on; None where the log has no propensities.

    A decision's reward is by how much each score of the drive has changed when the next one is made: rewards of the
    first n decisions sum to what the judge says of the drive so far. Progress counts against the expert's in `driven`,
    as it does for the policies. Of each policy that holds its decisions as long as the logs: `target/<policy>`, the
    logarithm of the density of what was decided, and `wished/<policy>`, draws of what it would have.
    """
    if future.driven is None or scene.dataset != SimulatorReader.name or not scene.recorded_ego:
        return None
    logged, first = future.driven, round(scene.t0_s / STEP_S)
    hold = rhythm_of_log(logged.steps)
    source, index = Source.of_log(scene.log_id)
    chunk, row = source.world(index)
    rewards = _rewards(scene, alive, driven, np.asarray(chunk.world(row).actions)[first:], logged.steps + (hold or 1))
    count = len(rewards)
    steps, situation, actions = chunk.decisions(row)
    places = np.searchsorted(steps, first + logged.steps[:count])
    worlds, observed, seen = jax.tree.map(lambda leaf: leaf[places], situation[1:])
    then = Situation(situation.network, worlds, observed, seen)
    rows: dict[str, object] = {
        "scene_id": scene.scene_id,
        "group": scene.group,
        "decision": np.arange(count),
        "hold": hold,
        "behaviour": logged.log_density[:count].astype(np.float64),
        "situation": list(np.asarray(seen, np.float32)),
        "taken": list(np.asarray(to_choices(then.network, worlds, jnp.asarray(actions[places])), np.float32)),
    }
    rows |= {f"reward/{name}": rewards[:, i] for i, name in enumerate(COLUMNS)}
    for name, policy in policies.items():
        if isinstance(policy, Held) and policy.steps == hold:
            rows[f"target/{name}"] = densities(policy, scene.log_id, logged, first)[:count]
            key = jax.random.key(fold_in(seed, "wishes", scene.scene_id, name) % 2**32)
            rows[f"wished/{name}"] = list(np.asarray(_wishes(policy, then, key), np.float32).reshape(count, -1))
    return pd.DataFrame(rows)


def trajectories(rows: pd.DataFrame, policy: str, score: str, decisions: int) -> Trajectories:
    """The first `decisions` of each logged drive, with the densities of a policy of the logs' rhythm."""

    def table(column: str) -> Float[ndarray, "N T"]:
        return _first(rows, decisions).pivot(index="scene_id", columns="decision", values=column).to_numpy(np.float64)

    rewards = table(f"reward/{score}")
    there = np.isfinite(rewards)
    scenes = rows.drop_duplicates("scene_id").sort_values("scene_id")
    return Trajectories(
        policy,
        tuple(scenes["scene_id"]),
        np.where(there, rewards, 0.0),
        there,
        table("behaviour"),
        table(f"target/{policy}"),
        groups=tuple(scenes["group"]),
    )


def features(rows: pd.DataFrame, policy: str, decisions: int) -> Features:
    """Situation, decision and the share of decisions left, of what was decided and of what the policy wished."""
    kept = _first(rows, decisions).sort_values(["scene_id", "decision"])
    shape = kept["scene_id"].nunique(), decisions
    if len(kept) != shape[0] * shape[1]:
        raise ValueError(f"features: {len(kept)} decisions, expected {decisions} of each of {shape[0]} drives")
    situation = np.stack(kept["situation"].tolist()).astype(np.float64)
    left = 1.0 - kept["decision"].to_numpy(np.float64)[:, None] / decisions
    base = np.concatenate([situation, left], axis=1)
    taken = np.stack(kept["taken"].tolist()).astype(np.float64)
    wished = np.stack(kept[f"wished/{policy}"].tolist()).astype(np.float64).reshape(len(kept), WISHES, 2)
    several = np.repeat(base[:, None], WISHES, axis=1)
    return Features(
        np.concatenate([base, taken], axis=1).reshape(*shape, -1),
        np.concatenate([several, wished], axis=2).reshape(*shape, WISHES, -1),
        np.full((*shape, WISHES), 1.0 / WISHES),
    )


def _first(rows: pd.DataFrame, decisions: int) -> pd.DataFrame:
    return rows[rows["decision"] < decisions]


def _rewards(
    scene: Scene, alive: LiveScene, driven: Drives, actions: ndarray, ends: Sequence[int] | ndarray
) -> Float[ndarray, "N C"]:
    """By how much each score of the logged drive changed from one of these steps to the next."""
    start, judge = start_of(scene), by_road(alive)
    ends = [int(end) for end in ends if end <= min(len(actions), len(driven.executed.x) - 1)]
    controls = np.asarray(actions, np.float32)[None, : max(ends)]
    origin = np.array([[0.0, 0.0, 0.0, start.speed]])
    states = bicycle.forward(origin, controls.astype(np.float64), STEP_S).astype(np.float32)
    log = Drives(alive.name, ("log",), 1, alive.execute(Plans(controls, states)))
    scores = [
        judge(log.until(end).executed, start, expert_progress(driven.until(end), judge, start))[0] for end in ends
    ]
    return np.diff(np.stack(scores), axis=0, prepend=np.zeros((1, len(COLUMNS))))


@jax.jit
def _wishes(policy: Policy, situation: Situation, key: jax.Array) -> Float[jax.Array, "N A 2"]:
    keys = jax.random.split(key, WISHES)
    acted = jax.vmap(lambda one: policy.act(situation, one))(keys)
    chosen = jax.vmap(lambda one: to_choices(situation.network, situation.worlds, one))(acted)
    return jnp.moveaxis(chosen, 0, 1)
