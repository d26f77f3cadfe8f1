"""The learned world model: its untrained limit, causality in the ego's action, and bytes that only a row decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS, SceneRaster
from wmplan.errors import InputError
from wmplan.models import checkpoint
from wmplan.models.ar import Autoregressive, scene_latents
from wmplan.models.baselines import ConstantVelocity
from wmplan.models.model_card import Card, rows_of
from wmplan.models.particles import Particles, render, seed
from wmplan.models.presets import PRESETS
from wmplan.models.rollout import Network
from wmplan.plans import Plans, Start
from wmplan.randomness import NoiseBank
from wmplan.raster import draw_dynamic

GRID = GRIDS["nano"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_raster(agents: int = 10, seed: int = 0) -> SceneRaster:
    rng = np.random.default_rng(seed)
    states = np.zeros((1, 4, agents, 5), np.float32)
    yaw, speed = rng.uniform(-3.0, 3.0, agents), rng.uniform(0.0, 10.0, agents) * (rng.random(agents) > 0.3)
    velocity = speed[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    place = rng.uniform([-12.0, -28.0], [44.0, 28.0], (agents, 2))
    for t in range(4):
        states[0, t, :, :2] = place + 0.5 * (t - 3) * velocity
        states[0, t, :, 2], states[0, t, :, 3:] = yaw, velocity
    history = draw_dynamic(
        torch.from_numpy(states),
        torch.full((1, agents, 2), 2.0) + torch.tensor([2.6, 0.0]),
        torch.zeros(1, agents, dtype=torch.long),
        torch.ones(1, 4, agents, dtype=torch.bool),
        GRID,
    )[0]
    static = torch.from_numpy(rng.random((8, GRID.rows, GRID.cols), dtype=np.float32))
    start = Start(8.0, 0.0, 0.0, 4.6, 2.0, 10.0, np.zeros((64, 2), np.float32))
    return SceneRaster("scene", "digest", GRID, static, history, start)


def plans_of(count: int, seed: int = 0) -> Plans:
    rng = np.random.default_rng(seed)
    return Plans.from_controls(rng.normal(0.0, 1.0, (count, 30, 2)) * np.array([2.0, 0.02]), 8.0)


def network_of(seed: int, noise: float) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(PRESETS["nano"])
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def model() -> Autoregressive:
    return Autoregressive(network_of(1, 0.08), "test")


@pytest.fixture(scope="module")
def full(model):
    plans = plans_of(12)
    return plans, model.imagine(model.encode(make_raster()), plans, NoiseBank(3, 4))


def test_untrained_is_constant_velocity():
    raster, plans, noise = make_raster(24), plans_of(2), NoiseBank(0, 2)
    untrained, baseline = Autoregressive(network_of(0, 0.0), "zero"), ConstantVelocity(GRID)
    got = untrained.imagine(untrained.encode(raster), plans, noise)
    wanted = baseline.imagine(baseline.encode(raster), plans, noise)
    # Equal but for the rounding of adding up six steps instead of multiplying by six.
    assert torch.allclose(got.occupancy, wanted.occupancy, atol=1e-4)
    assert wanted.occupancy[0, 0, 5].sum() > 50.0
    assert got.latents.abs().max() == 0.0


def test_noise_network_differs_from_constant_velocity(full):
    baseline = ConstantVelocity(GRID)
    wanted = baseline.imagine(baseline.encode(make_raster()), full[0], NoiseBank(3, 4))
    assert (full[1].occupancy - wanted.occupancy).abs().max() > 0.1
    assert full[1].occupancy.min() >= 0.0
    assert full[1].occupancy.max() <= 1.0


def test_a_row_does_not_depend_on_its_companions(model, full):
    plans, whole = full
    context = model.encode(make_raster())
    for rows in ([5], [11, 3, 7], list(reversed(range(12)))):
        part = model.imagine(context, plans.select(rows), NoiseBank(3, 4))
        for name in ("occupancy", "velocity", "latents"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rows])


def test_first_samples_do_not_depend_on_how_many(model, full):
    plans, whole = full
    few = model.imagine(model.encode(make_raster()), plans, NoiseBank(3, 2))
    assert torch.equal(few.occupancy, whole.occupancy[:, :2])
    assert torch.equal(few.latents, whole.latents[:, :2])


def test_samples_and_candidates_differ(full):
    latents = full[1].latents
    assert (latents[:, 0] != latents[:, 1]).any()
    assert (latents[0] != latents[1]).any()


@pytest.mark.parametrize("step", [1, 3, 5])
def test_no_time_travel(model, step):
    controls = plans_of(1).controls
    later = controls.copy()
    later[0, 5 * step :] = [-5.0, 0.05]
    plans = Plans.from_controls(np.concatenate([controls, later]), 8.0)
    imagined = model.imagine(model.encode(make_raster()), plans, NoiseBank(0, 2))
    assert torch.equal(imagined.occupancy[0, :, :step], imagined.occupancy[1, :, :step])
    assert torch.equal(imagined.latents[0, :, :step], imagined.latents[1, :, :step])
    assert not torch.equal(imagined.latents[0, :, step:], imagined.latents[1, :, step:])


def test_candidate_without_finite_states_gets_nan_alone(model, full):
    plans = full[0]
    controls = plans.controls.copy()
    controls[4, 7] = np.nan
    broken = Plans.from_controls(controls, 8.0)
    imagined = model.imagine(model.encode(make_raster()), broken, NoiseBank(3, 4))
    others = [k for k in range(12) if k != 4]
    assert torch.isnan(imagined.occupancy[4]).all()
    assert torch.equal(imagined.occupancy[others], full[1].occupancy[others])


def test_short_plans_and_foreign_rasters_are_refused(model):
    short = Plans.from_controls(np.zeros((1, 20, 2)), 8.0)
    with pytest.raises(InputError, match=r"2\.0 s, expected at least the model's horizon 3\.0 s"):
        model.imagine(model.encode(make_raster()), short, NoiseBank(0, 1))
    raster = make_raster()
    with pytest.raises(InputError, match="grid"):
        model.encode(SceneRaster("s", "d", GRIDS["small"], raster.static, raster.history, raster.start))


def test_scene_latents_are_a_prefix_and_all_different():
    for s in range(5):
        many = scene_latents(NoiseBank(s, 16), 16)
        assert sorted(many.tolist()) == list(range(16))
        assert torch.equal(many[:3], scene_latents(NoiseBank(s, 3), 16))


# ----------------------------------------------------------------------------------------------- particles


def test_particles_keep_mass_and_centroid():
    raster = make_raster(1, seed=2)
    particles = seed(raster.history[None], GRID, 4096)
    drawn = render(particles, GRID)
    assert torch.allclose(drawn[0, :2], raster.history[-1, :2] * (raster.history[-1, :2] > 0.02), atol=1e-6)


def test_steered_body_turns_as_one():
    corners = torch.tensor([[[2.0, 1.0], [2.0, -1.0], [-2.0, -1.0], [-2.0, 1.0]]])
    zero = torch.zeros(1, 4, 2)
    body = Particles(corners + 5.0, zero, torch.ones(1, 4, 2), corners, torch.zeros(1, 4, 6), torch.zeros(1, 4, 13, 2))
    turned = body
    for _ in range(4):
        turned = turned.steered(zero, torch.full((1, 4), np.pi / 4.0))
    quarter = torch.stack([-corners[..., 1], corners[..., 0]], dim=-1)
    assert torch.allclose(turned.position, quarter + 5.0, atol=1e-4)


def test_history_gives_accelerations():
    states = torch.zeros(1, 4, 1, 5)
    for t in range(4):
        time = 0.5 * (t - 3)
        states[0, t, 0] = torch.tensor([20.0 + 8.0 * time - time**2, 0.0, 0.0, 8.0 - 2.0 * time, 0.0])
    frames = draw_dynamic(
        states, torch.tensor([[[4.6, 2.0]]]), torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 4, 1).bool(), GRID
    )
    particles = seed(frames, GRID, 4096)
    body = particles.mass[0, :, 0] > 0.5
    assert torch.allclose(particles.memory[0, body][:, [0, 2]], torch.tensor(-2.0), atol=1e-4)
    assert (particles.memory[0, body, 4:] == 1.0).all()


# --------------------------------------------------------------------------------------------- checkpoints


def card_of(**changes) -> Card:
    rows = rows_of(
        "val", {n: np.full(2, 0.5) for n in ("model", "cv", "persistence")}, np.zeros((2, 3)), np.array([0.5, 1.0]), 3
    )
    values = {"preset": "nano", "horizon": 6, "weights_sha256": "", "config": {"seed": 0}, "data": {"scenes": 3},
              "groups": ("a", "b"), "metrics": rows}  # fmt: skip
    return Card(**(values | changes))


@pytest.fixture
def folder(tmp_path, model):
    checkpoint.save(tmp_path / "m", model.network, card_of())
    return tmp_path / "m"


def test_checkpoint_round_trip(folder, full):
    loaded = checkpoint.load(folder)
    again = loaded.imagine(loaded.encode(make_raster()), full[0], NoiseBank(3, 4))
    assert torch.equal(again.occupancy, full[1].occupancy)
    assert checkpoint.read_card(folder).groups == ("a", "b")
    assert [row.seconds for row in checkpoint.read_card(folder).metrics] == [1.0]
    assert "must not run in a vehicle" in (folder / "MODEL_CARD.md").read_text()


def test_other_weights_have_another_digest(folder, tmp_path):
    checkpoint.save(tmp_path / "other", network_of(2, 0.08), card_of())
    assert checkpoint.load(folder).digest != checkpoint.load(tmp_path / "other").digest
    assert checkpoint.load(folder).digest == checkpoint.load(folder).digest


def test_damaged_weights(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"model\.safetensors: sha256 is .* damaged"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"kind": "ar"', '"kind": "gan"'), "kind is 'gan', expected one of ar"),
        (('"schema_version": 1', '"schema_version": 9'), "schema_version is 9, expected 1"),
        (('"preset": "nano"', '"preset": "giant"'), "preset is 'giant', expected one of"),
        (('"groups"', '"group"'), "field groups is missing"),
        (("{", "["), "expected the card of a model"),
    ],
)
def test_damaged_or_foreign_card(folder, change, message):
    path = folder / "card.json"
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(InputError, match=message):
        checkpoint.load(folder)


def test_weights_of_another_model(folder):
    import hashlib

    from safetensors.torch import save

    weights = save({"w": torch.zeros(3)})
    (folder / "model.safetensors").write_bytes(weights)
    card = checkpoint.read_card(folder)
    text = (folder / "card.json").read_text().replace(card.weights_sha256, hashlib.sha256(weights).hexdigest())
    (folder / "card.json").write_text(text)
    with pytest.raises(InputError, match="a checkpoint of another model"):
        checkpoint.load(folder)


def test_missing_files(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="not found"):
        checkpoint.load(folder)
    (folder / "card.json").unlink()
    with pytest.raises(InputError, match=r"card\.json: not found"):
        checkpoint.load(folder)
