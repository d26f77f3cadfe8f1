"""Every registered optimizer keeps the contract, and compiles once for all scenes."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from planning_cases import arc_start, simple_cost, straight_start

from optimizers import OPTIMIZERS, CemConfig, LatticeConfig, MppiConfig, PoolConfig, make
from optimizers import lattice as lattice_module
from optimizers import once as once_module
from optimizers import pool as pool_module
from optimizers import sampler as sampler_module
from optimizers import tree as tree_module
from optimizers.cem import Cem
from wmplan.contracts import Optimizer
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.testing.optimizers import check_optimizer

MODULES = {
    "cem": sampler_module,
    "mppi": sampler_module,
    "lattice": lattice_module,
    "pool": pool_module,
    "tree": tree_module,
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_contract(name):
    optimizer = make(name)
    assert isinstance(optimizer, Optimizer)
    assert optimizer.rounds * optimizer.candidates == 128
    check_optimizer(optimizer, straight_start(), arc_start(30.0, speed=5.0, offset_m=0.5))
    check_optimizer(optimizer, arc_start(-20.0, speed=0.0), straight_start(speed=25.0))


def test_contract_suite_catches_an_optimizer_that_believes_nan():
    class Believes(Cem):
        def tell(self, state, controls, costs):
            return super().tell(state, controls, np.nan_to_num(costs, nan=0.0))

    with pytest.raises(AssertionError, match="NaN"):
        check_optimizer(Believes(), straight_start(), arc_start(30.0))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_no_recompilation_for_another_scene(name):
    optimizer = make(name)

    def run(start):
        state = optimizer.init(1, start)
        for round_ in range(optimizer.rounds):
            proposal = optimizer.ask(round_, state)
            costs = simple_cost(Plans.from_controls(proposal.controls, start.speed))
            state = optimizer.tell(state, proposal.controls, costs)
        optimizer.finalists(state)

    def compiled():
        modules = (MODULES[name], once_module) if name in ("pool", "tree") else (MODULES[name],)
        programs = [v for module in modules for v in vars(module).values() if hasattr(v, "_cache_size")]
        assert len(programs) >= 2
        return sum(program._cache_size() for program in programs)

    run(straight_start())
    count = compiled()
    for start in (arc_start(15.0, speed=3.0), straight_start(speed=0.0), arc_start(-60.0, spacing_m=2.5)):
        run(start)
    assert compiled() == count


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_digest_names_every_field(name):
    base = make(name)
    assert base.digest == make(name).digest
    assert base.digest != make(name, OPTIMIZERS[name].config(budget=256)).digest
    limits = dataclasses.replace(base.config.limits, max_accel_mps2=2.0)
    assert base.digest != make(name, dataclasses.replace(base.config, limits=limits)).digest


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (CemConfig, {"budget": 130}, "budget is 130, expected a positive multiple of rounds"),
        (CemConfig, {"elites": 40}, "elites is 40, expected 2 to 32"),
        (CemConfig, {"decay": 20.0}, "too few candidates"),
        (CemConfig, {"nominal": "rout"}, "nominal is rout, expected one of"),
        (CemConfig, {"accel_std_mps2": 0.0}, "accel_std_mps2 is 0.0, expected a positive number"),
        (MppiConfig, {"temperature": -1.0}, "temperature is -1.0, expected a positive number"),
        (MppiConfig, {"effective_samples": 0.5}, "effective_samples is 0.5"),
        (LatticeConfig, {"finalists": 0}, "finalists is 0"),
        (PoolConfig, {"budget": 5}, "budget is 5"),
    ],
)
def test_impossible_config_is_refused(config, fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_unknown_name_and_foreign_config():
    with pytest.raises(InputError, match="'cma' is not known, expected one of cem"):
        make("cma")
    with pytest.raises(InputError, match="expected CemConfig"):
        make("cem", MppiConfig())


def test_unusable_start_is_refused():
    start = straight_start()
    with pytest.raises(InputError, match=r"start\.speed is nan"):
        make("cem").init(0, dataclasses.replace(start, speed=float("nan")))
    with pytest.raises(InputError, match=r"start.route has shape \(3, 2\)"):
        make("mppi").init(0, dataclasses.replace(start, route=start.route[:3]))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_degenerate_route_still_gives_candidates(name):
    start = dataclasses.replace(straight_start(speed=0.0), route=np.zeros_like(straight_start().route))
    optimizer = make(name)
    proposal = optimizer.ask(0, optimizer.init(0, start))
    assert np.isfinite(proposal.controls).all()
    assert (proposal.infeasible == 0).any()


def test_decay_keeps_the_budget():
    config = CemConfig(decay=1.4)
    sizes = config.round_sizes()
    assert sum(sizes) == 128
    assert list(sizes) == sorted(set(sizes), reverse=True)
    optimizer = Cem(config)
    state = optimizer.init(0, straight_start())
    for size in sizes:
        proposal = optimizer.ask(1, state)
        assert len(proposal.controls) == size
        state = optimizer.tell(state, proposal.controls, simple_cost(Plans.from_controls(proposal.controls, 8.0)))


def test_rank_promotion_is_an_error_here():
    # The suite relies on it: an accidental (T,) + (T, K) would pair steps with candidates.
    assert jax.config.jax_numpy_rank_promotion == "raise"
