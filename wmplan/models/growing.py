"""The model `ar` imagining plans that become known step by step: a policy at the wheel reacts to what it is shown.

To imagine the whole prefix again at each step takes T (T + 1) / 2 steps of the network for T frames; this takes T.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import Context
from wmplan.errors import InputError
from wmplan.models.ar import Autoregressive, passes_of, scene_latents
from wmplan.models.levels import Levels
from wmplan.models.rollout import Action, ego_steps, imagine_step
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE, footprints
from wmplan.threads import each, side_by_side


@final
class Growing:
    """K candidates of one scene, one sample each, the noise's first. Frame t has the bytes of frame t of
    `Autoregressive.imagine` for any plans that go as these do until then."""

    def __init__(self, model: Autoregressive, context: Context, noise: NoiseBank) -> None:
        if noise.samples != 1:
            raise ValueError(f"Growing: noise of {noise.samples} samples, expected 1")
        self._model, self._context = model, context
        values = model.network.preset.scene_latents
        self._latent = F.one_hot(scene_latents(noise, values), values).float()
        self._levels = Levels(context.encoded, model.network.preset)
        self._step = 0

    @torch.inference_mode()
    def next(self, plans: Plans) -> tuple[Float[Tensor, "K 2 H W"], Float[Tensor, "K 2 H W"]]:
        """Occupancy and velocity one step on. `plans` are finite, and go as those before until the last frame; what
        they say beyond the next one is not looked at.

        Raises:
            InputError: the horizon is over, or the plans are too short.
        """
        model, t = self._model, self._step
        until = (t + 1) * STRIDE
        if t == model.horizon or plans.controls.shape[1] < until:
            raise InputError(
                f"model {model.name}: frame {t + 1} of {model.horizon}, expected no more, and plans for it"
            )
        preset, count = model.network.preset, len(plans)
        known = Plans(plans.controls[:, :until], plans.states[:, : until + 1])
        drawn = footprints(known, self._context.raster.start, model.grid)[:, t : t + 2]
        states = torch.from_numpy(known.states[:, ::STRIDE][:, t : t + 2].copy())
        self._levels.open(torch.arange(count) if t else torch.zeros(count, dtype=torch.int64))
        occupancy, velocity = (torch.empty(count, 2, model.grid.rows, model.grid.cols) for _ in range(2))
        rows, passes = passes_of(count, preset.chunk, side_by_side())

        @torch.inference_mode()
        def imagine(rollouts: range) -> None:
            # Always `chunk` of them: what has one row a rollout rounds by the number of rows.
            wide = torch.arange(rollouts.start, rollouts.start + preset.chunk).clamp(max=rollouts.stop - 1)
            driven, here, final = states[wide], wide[:rows], t + 1 == model.horizon
            action = Action(drawn[here], ego_steps(driven)[:, 0], driven[:rows])
            latent = self._latent.expand(len(wide), -1)
            state, decoded, _ = imagine_step(
                model.network, self._levels.state(here), action, latent, remember=not final
            )
            if not final:
                self._levels.keep(rollouts, state)
            mine = slice(rollouts.start, rollouts.stop)
            occupancy[mine], velocity[mine] = (part[: len(rollouts)] for part in (decoded.occupancy, decoded.velocity))

        each(imagine, passes)
        self._step += 1
        return occupancy, velocity
