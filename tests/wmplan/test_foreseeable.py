"""What can be foreseen: the same scene among other drivers."""

from pathlib import Path

import jax
import numpy as np
import pytest

from wmplan.contracts import GRIDS
from wmplan.simulator.live import live
from wmplan.simulator.reader import SimulatorReader
from wmplan.validation.foreseeable import foreseen, redrawn
from wmplan.validation.interventions import probe
from wmplan.windows import WindowConfig, cut


@pytest.fixture(scope="module")
def moment(tmp_path_factory):
    """A simulated scene with its road and its probe."""
    reader = SimulatorReader()
    source = next(iter(reader.paths(Path("simulator:n=1,seed=4242"))))
    scene, future = next(cut(next(iter(reader.read(source))), WindowConfig()))
    alive = live(scene, future)
    return alive, probe(scene, future, GRIDS["nano"], alive=alive)


def test_only_what_nobody_sees_is_drawn_anew(moment):
    alive, _ = moment
    first, second, again = (redrawn(alive, i).state for i in (0, 1, 0))
    hidden = ("drivers", "noise", "seed")
    for name, old in alive.state._asdict().items():
        if name not in hidden:
            assert all(map(np.array_equal, jax.tree.leaves(old), jax.tree.leaves(getattr(first, name))))
    assert np.array_equal(first.drivers.time_gap, again.drivers.time_gap)
    vehicles = np.asarray(alive.state.kind)[1:] == np.asarray(alive.state.kind)[0]
    for other in (alive.state, second):
        differs = np.asarray(first.drivers.time_gap)[1:] != np.asarray(other.drivers.time_gap)[1:]
        assert differs[vehicles].all()
        assert first.drivers.time_gap[0] == other.drivers.time_gap[0]
        assert first.seed[0] == other.seed[0]


def test_redrawn_drivers_come_from_the_same_law(moment):
    alive, _ = moment
    gaps = np.concatenate([np.asarray(redrawn(alive, i).state.drivers.time_gap)[1:25] for i in range(40)])
    assert gaps.min() >= 1.0
    assert gaps.max() <= 2.0
    assert gaps.mean() == pytest.approx(1.5, abs=0.05)


def test_samples_differ_from_each_other_and_from_the_truth(moment):
    alive, probed = moment
    imagined = foreseen(probed, alive, draws=2)
    assert imagined.occupancy.shape[:2] == (len(probed.acted.plans), 2)
    moved = (imagined.occupancy[:, 0] - imagined.occupancy[:, 1]).abs().amax((1, 2, 3, 4))
    assert (moved > 0.5).all()
    assert (imagined.occupancy[:, :1] - probed.acted.imagined().occupancy).abs().max() > 0.5
