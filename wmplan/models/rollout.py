"""One imagined step after another: the loop that training and imagination share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmplan.contracts import LANE_DIRECTION
from wmplan.models.dynamics import Dynamics, Posterior
from wmplan.models.particles import Particles, render, seed
from wmplan.models.presets import Preset
from wmplan.models.tokenizer import Decoded, SceneFeatures, Tokenizer


class Network(nn.Module):
    """Everything a checkpoint holds: tokenizer, dynamics, and the posterior that training needs."""

    def __init__(self, preset: Preset, quantiser: str = "") -> None:
        super().__init__()
        self.preset = preset
        self.tokenizer = Tokenizer(preset, quantiser)
        self.dynamics = Dynamics(preset, self.tokenizer.quantiser)
        self.posterior = Posterior(preset)


@dataclass(frozen=True)
class State:
    """Rollouts in flight: the scene, the particles, what is remembered of the last frames, steps since t0."""

    scene: SceneFeatures
    particles: Particles
    past: tuple[Float[Tensor, "B S D"], ...]
    age: int

    def expand(self, rollouts: int) -> State:
        """Every scene's state for this many rollouts each, rollouts of a scene side by side."""
        if rollouts == 1:
            return self
        past = tuple(x.repeat_interleave(rollouts, dim=0) for x in self.past)
        return State(self.scene.expand(rollouts), self.particles.expand(rollouts), past, self.age)


@dataclass(frozen=True)
class Action:
    """What the ego does in one step: its footprints before and after, dx, dy, dpsi, v (see `ego_steps`), and its states
    before and after (x, y, yaw, v), which the particles are told."""

    footprints: Float[Tensor, "B 2 H W"]
    step: Float[Tensor, "R 4"]
    states: Float[Tensor, "B 2 4"] | None = None


def begin(
    network: Network, static: Float[Tensor, "B C H W"], history: Float[Tensor, "B T 5 H W"], remember: bool = True
) -> State:
    """The state at t0 of each scene; without the dynamics' memory of the frames unless `remember`."""
    preset = network.preset
    scene = network.tokenizer.scene(static, history)
    frames = history[:, -preset.history :].unbind(1) if remember else ()
    past = tuple(network.dynamics.remember(frame[:, :4]) for frame in frames)
    return State(scene, seed(history, preset.grid, preset.max_particles, static[:, LANE_DIRECTION]), past, 0)


def anchor_of(state: State, preset: Preset) -> Float[Tensor, "B 4 H W"]:
    """The next frame if everything keeps its velocity."""
    return render(state.particles.moved(), preset.grid)


def predict(
    network: Network, state: State, anchor: Float[Tensor, "B 4 H W"], action: Action, latent: Float[Tensor, "R Z"]
) -> Float[Tensor, "B S L"]:
    """Logits of the next frame's codes. The action's `step` and `latent` may have more rows than the state (see
    `Dynamics.forward`)."""
    ego = network.dynamics.ego(action.footprints)
    return network.dynamics(state.scene.tokens, list(state.past), anchor, ego, action.step, latent)


def advance(
    network: Network,
    state: State,
    codes: Float[Tensor, "B S D"],
    remember: bool = True,
    ego: Float[Tensor, "B 2 4"] | None = None,
) -> tuple[State, Decoded]:
    """The state one step on, and the frame that the codes lead to; `ego` is `Action.states` of the step."""
    decoded = network.tokenizer.decoder(codes, state.particles, state.scene, state.age, ego)
    past = state.past
    if remember:
        past = (*past, network.dynamics.remember(decoded.frame))[-network.preset.history :]
    return State(state.scene, decoded.particles, past, state.age + 1), decoded


def imagine_step(
    network: Network, state: State, action: Action, latent: Float[Tensor, "R Z"], remember: bool = True
) -> tuple[State, Decoded, Float[Tensor, "B S D"]]:
    """One step as the model imagines it: the likeliest code of each patch given the scene latent. `remember` is for
    steps that others follow."""
    logits = predict(network, state, anchor_of(state, network.preset), action, latent)
    codes = network.tokenizer.quantiser.likeliest(logits)
    state, decoded = advance(network, state, codes, remember, action.states)
    return state, decoded, codes


def ego_steps(states: Float[Tensor, "B steps 4"]) -> Float[Tensor, "B steps-1 4"]:
    """dx, dy (metres, in the ego's frame at the start of the step), dpsi (rad) and v at its end, of each step.

    `states` is x, y, yaw, v at imagined steps 0 to T.
    """
    before, after = states[:, :-1], states[:, 1:]
    c, s = torch.cos(before[..., 2]), torch.sin(before[..., 2])
    dx, dy = after[..., 0] - before[..., 0], after[..., 1] - before[..., 1]
    turn = after[..., 2] - before[..., 2]
    turn = torch.atan2(torch.sin(turn), torch.cos(turn))
    return torch.stack([c * dx + s * dy, -s * dx + c * dy, turn, after[..., 3]], dim=-1)
