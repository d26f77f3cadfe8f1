"""The lattice's benchmark: both planners solve the same task, so that their times may be compared."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.bench import lattice, lattice_task
from wmplan.errors import InputError

# Frenetix differentiates its own spline of the polyline, whose second derivative at the start is off by a little.
APART_M = {0.0: 1e-4, 1 / 60: 0.06, -1 / 40: 0.09}


@pytest.mark.parametrize("curvature", sorted(APART_M))
def test_frenetix_and_the_lattice_go_the_same_ways(curvature):
    pytest.importorskip("frenetix")
    from experiments.bench.peers import frenetix

    task = lattice_task.task(curvature)
    plan, whole = lattice_task.prepared(task)
    ends, theirs = frenetix.paths(task)
    found = whole()
    ours = np.stack([found.path.x, found.path.y], axis=2).transpose(1, 0, 2)
    grid = (task.offsets_m, task.ends_s, task.speeds_mps)
    end, speed, offset = (
        np.abs(np.subtract.outer(ends[:, i], grid[j])).argmin(axis=1) for i, j in enumerate((1, 2, 0))
    )
    rows = (offset * len(task.ends_s) + end) * len(task.speeds_mps) + speed
    assert len(np.unique(rows)) == len(theirs) > 900
    assert plan() == int((np.asarray(found.infeasible) == 0).sum()) > 700
    assert np.hypot(*(theirs - ours[rows]).transpose(2, 0, 1)).max() < APART_M[curvature]


def test_bench_refuses_nothing_to_measure():
    with pytest.raises(InputError, match="rounds=0, calls=40, expected 1 or more"):
        lattice.LatticeBench(rounds=0)


def test_rows_say_how_many_times_faster(tmp_path, capsys):
    from experiments.bench.rows import Rows

    lattice.write(
        Rows(5, "wmplan bench lattice", str(tmp_path)), lattice.LatticeTimes(2.0, 6.0, 7.0, 3.0, 9.0, 1.0, 900, 900)
    )
    shown = capsys.readouterr().out
    assert "times faster than frenetix (C++): 3  goal at least 4: MISSED" in shown
