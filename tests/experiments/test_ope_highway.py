"""highway-env as the road of `wmplan ope`: the same world as its own executions, policies that see it, words for it."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("highway_env", reason="the highway extra is not installed")

from experiments.ope.closed_loop import COLUMNS, by_road, judged
from experiments.ope.entrants import known
from experiments.ope.fleet import Fleet
from experiments.ope.highway import Worlds, moment_of, on_highway, start
from experiments.ope.settings import OpeCommand
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.scene import STEP_S
from wmplan.simulator.live import live
from wmplan.start import start_of

LOGS = "highway:n=2,seed=3,kind=merge"
STEPS = 25


@jax.tree_util.register_static
class Brakes:
    deterministic = True

    def act(self, situation, key):
        return jnp.broadcast_to(jnp.array([-3.0, 0.01]), (*situation.worlds.steps.shape, 2))


@jax.tree_util.register_static
class Nothing:
    deterministic = True

    def act(self, situation, key):
        return jnp.full((*situation.worlds.steps.shape, 2), jnp.nan)


def test_the_scene_is_the_roads_own_and_what_followed_begins_where_it_ends() -> None:
    road, state = start(LOGS, 0)
    scene, future = moment_of(LOGS, 0)
    own = road.scene(state)
    assert np.allclose(scene.ego.states, own.ego.states, atol=1e-6)
    assert set(own.agents.ids) <= set(scene.agents.ids)
    gap = np.hypot(*(future.ego.states[0, 0, :2] - scene.ego.states[0, -1, :2]))
    assert gap == pytest.approx(np.hypot(*scene.ego.states[0, -1, 3:5]) * STEP_S, abs=0.05)


def test_drives_are_the_roads_executions_and_policies_see_who_is_ahead() -> None:
    """What a policy without eyes does is what the same plan does by highway-env's own execution; one that looks at who
    is ahead keeps clear where one that does not may not; an action that is no number makes a drive that is none."""
    road, state = start(LOGS, 0)
    scene, future = moment_of(LOGS, 0)
    alive = live(scene, future)
    idm = known()["idm_normal"]
    fleet = Fleet.of({"idm_normal": idm, "brakes": Brakes(), "nothing": Nothing()}, 1)
    drives = on_highway(LOGS, 0, scene, future, alive, fleet, STEPS, seed=0)
    row = drives.policies.index("brakes")
    controls = np.broadcast_to(np.float32([-3.0, 0.01]), (1, STEPS, 2))
    done = road.execute(state, Plans.from_controls(controls, float(state.env.vehicle.speed))).executed
    for name in ("x", "y", "cos", "sin", "speed"):
        mine, theirs = getattr(drives.executed, name)[:, row, 0], getattr(done, name)[:, 0, 0]
        assert np.allclose(mine, theirs, atol=2e-3), name
    # Everybody else too, whichever row they have.
    there = drives.executed.active[-1, row, 1:]
    mine = np.sort(drives.executed.x[-1, row, 1:][there])
    assert np.allclose(mine, np.sort(done.x[-1, 0, 1:][done.active[-1, 0, 1:]]), atol=2e-3)
    again = on_highway(LOGS, 0, scene, future, alive, fleet, STEPS, seed=0)
    assert np.array_equal(again.executed.x, drives.executed.x, equal_nan=True)
    assert np.isnan(drives.executed.x[1:, drives.policies.index("nothing"), 0]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the drive that is none
        rows = judged(drives, by_road(alive), start_of(scene)).set_index("policy")
    assert rows.loc["idm_normal", "progress_m"] > rows.loc["brakes", "progress_m"] > 0.0
    assert np.isfinite(rows.loc["idm_normal", list(COLUMNS)].to_numpy(float)).all()


def test_words_for_worlds() -> None:
    assert Worlds.parse("highway") == Worlds()
    assert Worlds.parse(LOGS) == Worlds(2, 3, "merge")
    assert [Worlds.parse("highway:seed=1").road(i).kind for i in range(5)] == [
        "highway", "merge", "intersection", "roundabout", "highway",
    ]  # fmt: skip
    for text, message in (
        ("highway:m=3", "field 'm', expected one of n, seed, kind"),
        ("highway:n=-3", "n is '-3', expected a whole number"),
        ("highway:kind=road", "kind is 'road', expected highway, merge"),
    ):
        with pytest.raises(InputError, match=message):
            Worlds.parse(text)
    with pytest.raises(InputError, match="are the simulator's, expected neither on highway-env"):
        OpeCommand(logs=LOGS, road="twin").check()
