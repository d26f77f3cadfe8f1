"""The public contract suites, over everything registered, and over classes that break one rule each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from critics import (
    Composite,
    InverseControlProbe,
    LoggedAction,
    SupportDensity,
    SupportNeighbours,
    TaskCritic,
    VistaCritic,
    fit_critics,
)
from optimizers import OPTIMIZERS, make
from wmplan.contracts import GRIDS, Context, Imagined, Proposal, SceneRaster, Terms
from wmplan.models import MODELS, ConstantVelocity, load_model
from wmplan.models.families import FAMILIES
from wmplan.models.presets import preset_of
from wmplan.models.training import Settings
from wmplan.plans import Plans, Start
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize
from wmplan.readers import READERS
from wmplan.scene import Feature, Lights, Log, RoadMap, Tracks
from wmplan.testing import (
    Body,
    check_critic,
    check_log,
    check_optimizer,
    check_reader,
    check_world_model,
    some_plans,
    straight_road,
)


def rasters(grid_name: str = "nano") -> list[SceneRaster]:
    empty, _ = straight_road([], name="empty")
    busy, _ = straight_road(name="busy")
    crossing, _ = straight_road([Body(20.0, -12.0, 1.4, 6.0), Body(-8.0, 0.3, 0.05, 14.0)], 6.0, "crossing")
    return [rasterize(scene, GRIDS[grid_name]) for scene in (busy, empty, crossing)]


@pytest.mark.parametrize("grid_name", ["nano", "small"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_world_models(name: str, grid_name: str) -> None:
    scenes = rasters(grid_name)
    check_world_model(load_model(name, GRIDS[grid_name]), scenes, some_plans(scenes[0].start), reactive=False)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_learned_world_models_with_any_weights(family: str) -> None:
    torch.manual_seed(0)
    network = FAMILIES[family].network(preset_of("nano"), dataclasses.asdict(Settings(family=family)))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))  # as made, its last layers are zero and nothing reacts
    scenes = rasters()[:1]
    model = FAMILIES[family].model(network, "any", 2)
    check_world_model(model, scenes, some_plans(scenes[0].start).select([0, 3, 6]), samples=2)


class Wrapped:
    """Constant velocity with one broken rule."""

    def __init__(self) -> None:
        self.inner = ConstantVelocity()
        self.name, self.digest, self.grid, self.horizon = "wrapped", "0", self.inner.grid, self.inner.horizon

    def encode(self, raster: SceneRaster) -> Context:
        return self.inner.encode(raster)

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        imagined = self.inner.imagine(context, plans, noise)
        return dataclasses.replace(imagined, occupancy=self.bend(imagined.occupancy.clone(), context, plans, noise))

    def bend(self, occupancy: torch.Tensor, context: Context, plans: Plans, noise: NoiseBank) -> torch.Tensor:
        return occupancy


class Companions(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        return occupancy * (1.0 - 0.001 * len(plans))


class Forgetful(Wrapped):
    calls = 0

    def bend(self, occupancy, context, plans, noise):
        self.calls += 1
        return occupancy * (1.0 - 0.001 * (self.calls > 14))


class OutOfRange(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        return occupancy * 1.01


class NotFinite(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        occupancy[:, :, -1, 0, 0, 0] = torch.nan
        return occupancy


class Meddling(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        context.raster.history[0, 0, 0, 0] += 1.0
        return occupancy


class CountsSamples(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        return occupancy / noise.samples


class Reacting(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        speed = torch.from_numpy(plans.states[:, -1, 3])
        return occupancy / (1.0 + speed)[:, None, None, None, None, None]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Companions, "alone differ from the same among"),
        (Forgetful, "other bytes"),
        (OutOfRange, r"expected \[0, 1\]"),
        (NotFinite, "occupancy is not finite"),
        (Meddling, "were changed"),
        (CountsSamples, "not the first"),
        (Reacting, "the plans matter"),
    ],
)
def test_a_world_model_that_breaks_a_rule_is_named(broken: type[Wrapped], message: str) -> None:
    scenes = rasters()
    with pytest.raises(AssertionError, match=message):
        check_world_model(broken(), scenes, some_plans(scenes[0].start), reactive=False)


def test_a_world_model_that_keeps_them_passes() -> None:
    scenes = rasters()
    check_world_model(Wrapped(), scenes, some_plans(scenes[0].start), reactive=False)
    check_world_model(Reacting(), scenes, some_plans(scenes[0].start))


# ------------------------------------------------------------------------------------------------------ critics


class Nervous(Wrapped):
    """Constant velocity that trembles with the noise and shrinks with the plan's speed, candidate by candidate."""

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        imagined = super().imagine(context, plans, noise)
        tremble = torch.from_numpy(noise.uniform("tremble", 0, tuple(imagined.latents.shape[2:])))
        latents = imagined.latents + 0.1 * tremble
        return dataclasses.replace(imagined, latents=latents)

    def bend(self, occupancy, context, plans, noise):
        cells = torch.from_numpy(noise.uniform("cells", 0, tuple(occupancy.shape[2:])))
        speed = torch.from_numpy(plans.states[:, -1, 3].copy())
        return occupancy * (1.0 - 0.4 * cells) / (1.0 + 0.02 * speed)[:, None, None, None, None, None]


@pytest.fixture(scope="module")
def fitted() -> Composite:
    """Task, reward, support and probe, fitted on roads with random traffic and random driving."""
    rng = np.random.default_rng(0)
    logged = []
    for i in range(80):
        bodies = [Body(x, y, 0.0, v) for x, y, v in rng.uniform([-12, -8, 0], [40, 8, 12], (4, 3)).tolist()]
        raster = rasterize(straight_road(bodies, float(rng.uniform(3, 15)), f"road{i}")[0], GRIDS["nano"])
        controls = rng.normal([0, 0], [1.0, 0.005], (1, 1, 2)) + np.zeros((1, 30, 2))
        logged.append(LoggedAction(raster, Plans.from_controls(controls, raster.start.speed), f"group{i}"))
    found = fit_critics(Nervous(), logged)
    return Composite([TaskCritic(), VistaCritic(), found.support, found.neighbours, found.probe])


@pytest.mark.parametrize(
    "kind",
    [
        TaskCritic,
        VistaCritic,
        SupportDensity,
        SupportNeighbours,
        InverseControlProbe,
        Composite,
    ],
)
def test_critics(kind: type, fitted: Composite) -> None:
    critic = fitted if kind is Composite else next(one for one in fitted.critics if isinstance(one, kind))
    model = Nervous()
    for raster in rasters():
        context, plans = model.encode(raster), some_plans(raster.start)
        check_critic(critic, context, plans, model.imagine(context, plans, NoiseBank(3, 3)))


def test_what_is_not_finite_costs_infinity_and_is_counted(fitted: Composite) -> None:
    model = Nervous()
    raster = rasters()[0]
    context, plans = model.encode(raster), some_plans(raster.start)
    imagined = model.imagine(context, plans, NoiseBank(3, 3))
    clean = fitted.judge(fitted.terms(context, plans, imagined))
    for bad in (torch.nan, torch.inf):
        occupancy = imagined.occupancy.clone()
        occupancy[2, 0, 1] = bad
        broken = fitted.judge(fitted.terms(context, plans, dataclasses.replace(imagined, occupancy=occupancy)))
        assert broken.total[2] == np.inf
        assert broken.nonfinite[2] > 0
        others = [0, 1, 3, 4, 5, 6]
        np.testing.assert_array_equal(broken.total[others], clean.total[others])


class Fussy(VistaCritic):
    """A critic that breaks a rule: its terms are relative to the set, or hide what is not finite."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule = rule

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        found = super().terms(context, plans, imagined)
        if self.rule == "relative":
            return Terms(found.columns, found.values - found.values.mean(0, keepdims=True))
        if self.rule == "hides":
            return Terms(found.columns, np.nan_to_num(found.values))
        if self.rule == "meddles":
            plans.states[0, 0, 0] += 1.0
        return found


@pytest.mark.parametrize(
    ("rule", "message"),
    [("relative", "alone differ from the same among"), ("hides", "into"), ("meddles", "were changed")],
)
def test_a_critic_that_breaks_a_rule_is_named(rule: str, message: str) -> None:
    model, raster = Nervous(), rasters()[0]
    context, plans = model.encode(raster), some_plans(raster.start)
    with pytest.raises(AssertionError, match=message):
        check_critic(Fussy(rule), context, plans, model.imagine(context, plans, NoiseBank(3, 3)))


# --------------------------------------------------------------------------------------------------- optimizers


def starts() -> list[Start]:
    """Ordinary driving, standing still, and into a bend faster than any limit allows."""
    plain = rasters()[0].start
    arc = np.linspace(0.0, 94.5, 64)
    bend = np.stack([40.0 * np.sin(arc / 40.0), 40.0 * (1.0 - np.cos(arc / 40.0))], axis=1).astype(np.float32)
    return [
        plain,
        dataclasses.replace(plain, speed=0.0, accel=0.0),
        dataclasses.replace(plain, speed=60.0, curvature=0.02, route=bend),
    ]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers(name: str) -> None:
    check_optimizer(make(name), *starts())


class Careless:
    """A working optimizer that breaks one rule."""

    def __init__(self, rule: str) -> None:
        self.inner, self.rule, self.calls = make("cem"), rule, 0
        for field in ("name", "digest", "rounds", "candidates", "horizon_steps"):
            setattr(self, field, getattr(self.inner, field))

    def init(self, key, start):
        return self.inner.init(key, start)

    def ask(self, key, state):
        self.calls += 1
        if self.rule == "forgets the key":
            return self.inner.ask(self.calls, state)
        if self.rule == "compiles":
            import jax

            jax.jit(lambda x: x + self.calls)(np.float32(0.0))
        return self.inner.ask(key, state)

    def tell(self, state, controls, costs):
        if self.rule == "writes costs":
            costs[0] = 0.0
        if self.rule == "takes rows by place":
            costs = costs + 0.3 * np.arange(len(costs))
        if self.rule == "nan wins":
            costs = np.nan_to_num(costs, nan=-10.0, posinf=np.inf)
        return self.inner.tell(state, controls, costs)

    def finalists(self, state) -> Proposal:
        return self.inner.finalists(state)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("forgets the key", "the same key gave other candidates"),
        ("compiles", "compiled"),
        ("writes costs", "changed the controls or costs"),
        ("takes rows by place", "in another order"),
        ("nan wins", "a NaN cost is not"),
    ],
)
def test_an_optimizer_that_breaks_a_rule_is_named(rule: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_optimizer(Careless(rule), *starts()[:2])


# ------------------------------------------------------------------------------------------------------ readers

EXAMPLES = {
    "womd_json": "womd_json/*.json*",
    "womd_tfrecord": "womd_tfrecord/*scenario.tfrecord",
    "scenarionet": "nuscenes_mini_scenarionet/**/*.pkl*",
    "commonroad": "commonroad_ngsim/*.xml*",
}
"""Real logs by reader; readers without any have their own tests on files built there."""


@pytest.mark.parametrize("name", sorted(set(READERS) & set(EXAMPLES)))
def test_readers_on_real_logs(name: str, real_data: Path, tmp_path: Path) -> None:
    stems = []
    for path in sorted(real_data.glob(EXAMPLES[name])):
        stem = path.name.split(".")[0]
        if stem not in stems and len(stems) == 2:
            break
        stems.append(stem)
        (tmp_path / path.name).symlink_to(path)
    check_reader(READERS[name], tmp_path)


def test_the_simulator_as_a_reader() -> None:
    check_reader(READERS["simulator"], Path("simulator:n=2,seed=0"))


def log() -> Log:
    """A sound recording of two cars."""
    time = 0.1 * np.arange(30)
    states = np.zeros((2, 30, 5))
    states[0, :, 0], states[0, :, 3] = 5.0 * time, 5.0
    states[1, :, 1], states[1, :, 4], states[1, :, 2] = -3.0 * time, -3.0, -np.pi / 2
    tracks = Tracks(
        ("a", "b"), np.zeros(2, np.int8), np.full((2, 2), 2.0, np.float32), states, np.ones((2, 30), dtype=bool)
    )
    lane = (Feature.LANE, "l", np.array([[0.0, 0.0], [50.0, 0.0]]))
    return Log("log", "group", "hand", "hand.json", 0.1, tracks, RoadMap.build([lane]), Lights.none(30), "a")


def with_states(change) -> Log:
    sound = log()
    states = sound.tracks.states.copy()
    change(states)
    return dataclasses.replace(sound, tracks=dataclasses.replace(sound.tracks, states=states))


def test_a_sound_log_passes() -> None:
    check_log(log())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: with_states(lambda s: s.__setitem__((0, 3, 0), np.nan)), "a valid state is not finite"),
        (lambda: with_states(lambda s: s.__setitem__((0, 3, 2), 3.5)), "expected \\(-pi, pi\\]"),
        (lambda: with_states(lambda s: s.__imul__([1, 1, 1, 3.6, 3.6])), "as their velocity says"),
        (lambda: with_states(lambda s: s.__iadd__([4e6, 0, 0, 0, 0])), "expected a recentred recording"),
        (lambda: dataclasses.replace(log(), dt_s=0.5), "as their velocity says"),
        (lambda: dataclasses.replace(log(), dt_s=0.0), "expected seconds"),
        (lambda: dataclasses.replace(log(), recorded_ego="c"), "is no track"),
        (lambda: dataclasses.replace(log(), present_step=30), "expected 0 to 29"),
        (lambda: dataclasses.replace(log(), lights=Lights.none(29)), "lights.states"),
        (lambda: dataclasses.replace(log(), tracks=dataclasses.replace(log().tracks, ids=("a", "a"))), "twice"),
    ],
)
def test_a_log_that_breaks_a_rule_is_named(broken, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_log(broken())
