"""Training: it learns, it goes on where it was killed, it stops at NaN, and its losses mean what they say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS, RASTER_HISTORY
from wmplan.errors import InputError
from wmplan.models.particles import seed
from wmplan.models.training import Examples, Settings, TrainingStopped, measure, train
from wmplan.models.training.loop import STATE_FILE
from wmplan.models.training.losses import frame_loss, particle_loss, particle_targets

GRID = GRIDS["nano"]
AHEAD = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def examples_of(scenes: int, agents: int = 4, seed: int = 0, braking: float = 0.0) -> Examples:
    """Cars on arcs; with `braking`, all of them slow down at that rate from t0 on, which nothing before tells."""
    rng = np.random.default_rng(seed)
    frames = RASTER_HISTORY + AHEAD
    place = rng.uniform([-8.0, -20.0], [30.0, 20.0], (scenes, agents, 2))
    yaw, speed = rng.uniform(-3.0, 3.0, (scenes, agents)), rng.uniform(3.0, 9.0, (scenes, agents))
    states = np.zeros((scenes, frames, agents, 5), np.float32)
    for f in range(frames):
        ahead = max(f - RASTER_HISTORY + 1, 0) * 0.5
        time = 0.5 * (f - RASTER_HISTORY + 1)
        stop = np.minimum(ahead, speed / max(braking, 1e-9))
        way = speed * time - (0.0 if ahead == 0 else speed * (ahead - stop) + 0.5 * braking * stop**2)
        now = speed - braking * stop
        heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
        states[:, f, :, :2] = place + way[..., None] * heading
        states[:, f, :, 2] = yaw
        states[:, f, :, 3:] = now[..., None] * heading
    ego = np.zeros((scenes, frames, 4), np.float32)
    ego[:, :, 0], ego[:, :, 3] = 4.0 * (np.arange(frames) - RASTER_HISTORY + 1), 8.0
    sizes = np.tile(np.float32([4.6, 2.0]), (scenes, agents, 1))
    return Examples(
        scene_ids=tuple(f"s{i}" for i in range(scenes)),
        groups=tuple(f"g{i}" for i in range(scenes)),
        static=rng.integers(0, 255, (scenes, 8, GRID.rows, GRID.cols), dtype=np.uint8),
        observed=np.ones((scenes, GRID.rows, GRID.cols), np.uint8),
        states=states,
        sizes=sizes,
        kinds=np.zeros((scenes, agents), np.int8),
        valid=np.ones((scenes, frames, agents), bool),
        ego=ego,
        ego_size=sizes[:, 0].copy(),
        grid=GRID,
    )


SMALL = Settings(steps=(2, 3, 2, 3), batch=2, horizon=AHEAD, threads=1, checkpoint_s=0.0)


def test_overfits_a_scene_and_beats_constant_velocity_there(tmp_path):
    examples = examples_of(2, braking=3.0)
    settings = Settings(
        steps=(0, 60, 0, 50), batch=2, horizon=AHEAD, threads=1, learning_rate=4e-3, checkpoint_s=1e9, prior_share=1.0
    )
    losses: list[tuple[str, float]] = []
    network, _ = train(examples, settings, tmp_path, lambda p: losses.append((p.stage, p.loss)))
    measured = measure(network, examples, samples=2, horizon=AHEAD)
    gain = measured.mean("model") - measured.mean("cv")
    # After half a second the braking cars are 0.4 m behind their constant-velocity places, after 1.5 s 3.4 m.
    assert gain[0] > 0.0
    assert (gain[1:] > 0.3).all()
    assert losses[-1][1] < 0.6 * losses[0][1]
    assert losses[0][0] == "tokenizer"
    assert losses[-1][0] == "on_policy"


def test_killed_training_resumes_to_the_same_weights(tmp_path):
    examples = examples_of(6)
    whole, curve = train(examples, SMALL, tmp_path / "whole")
    for stop_at in (("tokenizer", 2), ("on_policy", 1)):

        def kill(progress, stop_at=stop_at):
            if (progress.stage, progress.step) == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(examples, SMALL, tmp_path / "killed", kill)
    again, curve_again = train(examples, SMALL, tmp_path / "killed")
    assert curve == curve_again
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_other_settings_or_a_damaged_state_are_refused(tmp_path):
    examples = examples_of(3)
    train(examples, SMALL, tmp_path)
    with pytest.raises(InputError, match="other settings or data"):
        train(examples, replace(SMALL, seed=1), tmp_path)
    with pytest.raises(InputError, match="other settings or data"):
        train(examples_of(3, seed=5), SMALL, tmp_path)
    (tmp_path / STATE_FILE).write_bytes(b"nonsense")
    with pytest.raises(InputError, match="expected a training checkpoint"):
        train(examples, SMALL, tmp_path)


def test_nan_loss_stops_and_keeps_the_last_good_state(tmp_path):
    examples = examples_of(3)
    states = examples.ego.copy()
    states[:, RASTER_HISTORY + 1, 3] = np.nan  # the ego's speed

    def spoil(progress):
        if (progress.stage, progress.step) == ("tokenizer", 2):
            examples.ego[:] = states

    with pytest.raises(TrainingStopped, match=r"stage on_policy, step 0 \(scenes s\d"):
        train(examples, replace(SMALL, steps=(0, 2, 0, 3)), tmp_path, spoil)
    state = torch.load(tmp_path / STATE_FILE, weights_only=True)
    assert all(torch.isfinite(value).all() for value in state["network"].values())
    assert state["position"][0] == 3


def test_presets_must_fit_the_data(tmp_path):
    small = replace(examples_of(2), grid=GRIDS["small"])
    with pytest.raises(InputError, match="does not fit the raster"):
        train(small, SMALL, tmp_path)
    with pytest.raises(InputError, match="horizon is 6 steps, expected at most the data's 3"):
        train(examples_of(2), replace(SMALL, horizon=6), tmp_path)


STARVED = """
import resource, sys
sys.path.insert(0, "tests/wmplan")
from test_ar_training import SMALL, examples_of
from dataclasses import replace
from pathlib import Path
from wmplan.errors import InputError
from wmplan.models.training import train
train(examples_of(2), replace(SMALL, steps=(0, 1, 0, 0)), Path(sys.argv[1]) / "fed")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20, used + 300 * 2**20))
try:
    train(examples_of(2), replace(SMALL, steps=(0, 1, 0, 0), batch=512), Path(sys.argv[1]) / "starved")
except InputError as error:
    print(error)
"""


def test_out_of_memory_says_what_to_lower(tmp_path):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", STARVED, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=300
    )
    wanted = "out of memory at stage tokenizer, step 0, with settings.batch of 512 and 2 examples; lower settings.batch"
    assert wanted in done.stdout, done.stderr[-2000:]


# --------------------------------------------------------------------------------------------------- losses


def test_particles_of_true_boxes_have_no_loss_and_turn_with_them():
    examples = examples_of(1, agents=1)
    states = torch.from_numpy(examples.states[:, RASTER_HISTORY - 1 :].copy())
    states[0, 1, 0] = torch.tensor([10.0, 5.0, 0.5, 0.0, 0.0])
    valid = torch.ones(1, states.shape[1], 1, dtype=torch.bool)
    batch = examples.batch(np.array([0]))
    particles = seed(batch.frames[:, :RASTER_HISTORY], GRID, 4096)
    place, told = particle_targets(particles.position, states, torch.tensor([[[4.6, 2.0]]]), valid)
    assert torch.allclose(place[:, 0], particles.position, atol=1e-4)
    assert particle_loss(particles, place[:, 0], told[:, 0], GRID) < 1e-6
    first, second = states[0, 0, 0], states[0, 1, 0]
    angle = second[2] - first[2]
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    wanted = (particles.position[0] - first[:2]) @ turn.T + second[:2]
    assert torch.allclose(place[0, 1], wanted, atol=1e-3)


def test_particles_out_of_every_box_or_gone_are_not_asked_for():
    position = torch.tensor([[[0.0, 0.0], [30.0, 0.0]]])
    states = torch.zeros(1, 2, 1, 5)
    valid = torch.tensor([[[True], [True]]])
    sizes = torch.tensor([[[4.0, 2.0]]])
    assert particle_targets(position, states, sizes, valid)[1].tolist() == [[[True, False], [True, False]]]
    valid[0, 1, 0] = False
    assert particle_targets(position, states, sizes, valid)[1].tolist() == [[[True, False], [False, False]]]


def test_frame_loss_counts_observed_cells_only_and_is_least_at_the_truth():
    truth = torch.zeros(1, 5, 8, 8)
    truth[:, 0, 2:5, 2:6] = 1.0
    truth[:, 4] = 1.0
    right = 12.0 * (truth[:, :2] - 0.5)
    wrong = right.clone()
    wrong[:, 0, 6] = 6.0
    assert frame_loss(right, truth) < 0.01
    assert frame_loss(wrong, truth) > frame_loss(right, truth) + 0.1
    truth[:, 4, 6] = 0.0
    assert torch.allclose(frame_loss(wrong, truth), frame_loss(right, truth), atol=1e-4)


def test_mirrored_batch_is_the_reflection():
    examples = examples_of(2)
    rows = np.array([0, 1])
    plain, mirrored = examples.batch(rows), examples.batch(rows, np.array([True, False]))
    assert torch.equal(plain.frames[1], mirrored.frames[1])
    assert torch.allclose(mirrored.frames[0, :, :2], plain.frames[0, :, :2].flip(-2), atol=1e-5)
    assert torch.allclose(mirrored.frames[0, :, 3], -plain.frames[0, :, 3].flip(-2), atol=1e-4)
    assert torch.allclose(mirrored.footprints[0], plain.footprints[0].flip(-2), atol=1e-5)
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0])[:, None, None]
    assert torch.allclose(mirrored.static[0], signs * plain.static[0].flip(-2), atol=1e-6)


def test_zero_network_measures_as_constant_velocity():
    from wmplan.models.presets import PRESETS
    from wmplan.models.rollout import Network

    measured = measure(Network(PRESETS["nano"]), examples_of(3), samples=1, horizon=AHEAD)
    assert np.allclose(measured.mean("model"), measured.mean("cv"), atol=1e-3)
    assert (measured.mean("persistence") < measured.mean("cv")).all()
    assert np.allclose(measured.gain("model", "cv"), 0.0, atol=1e-2)


# ------------------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("name", ["small", "base"])
def test_larger_presets_take_their_grid_and_begin_as_constant_velocity(name):
    from wmplan.models.presets import PRESETS
    from wmplan.models.rollout import Action, Network, advance, anchor_of, begin, ego_steps, predict
    from wmplan.models.training.measure import constant

    preset, grid = PRESETS[name], GRIDS[name]
    small = examples_of(1)
    shape = (1, 8, grid.rows, grid.cols)
    examples = replace(
        small, grid=grid, static=np.zeros(shape, np.uint8), observed=np.ones((1, grid.rows, grid.cols), np.uint8)
    )
    batch, network = examples.batch(np.array([0])), Network(preset).eval()
    with torch.no_grad():
        state = begin(network, batch.static, batch.frames[:, :RASTER_HISTORY])
        count = preset.side[0] * preset.side[1]
        assert state.past[0].shape == (1, count, preset.width)
        action = Action(batch.footprints[:, :2], ego_steps(batch.ego[:, :2])[:, 0], batch.ego[:, :2])
        logits = predict(network, state, anchor_of(state, preset), action, torch.eye(preset.scene_latents)[:1])
        codes = network.tokenizer.quantiser.likeliest(logits)
        assert codes.shape[:2] == (1, count)
        _, decoded = advance(network, state, codes, ego=batch.ego[:, :2])
    assert torch.allclose(decoded.occupancy, constant(batch, network, 1)[:, 0], atol=1e-5)
