"""What may be chosen about the diffusion transformer: the one place of every default."""

from __future__ import annotations

from dataclasses import dataclass

OBJECTIVES = ("x0", "eps", "v", "flow")
SCHEDULES = ("cosine", "linear")


@dataclass(frozen=True, kw_only=True)
class DitOptions:
    """How the denoiser of `dit` is trained, and how it is sampled. What says "in use" may differ from training."""

    objective: str = "x0"
    """what the network predicts: x0, eps, v or flow (noise minus clean)"""
    schedule: str = "cosine"
    """cosine, or linear: the straight path of flow matching"""
    action_dropout: float = 0.1
    """share of scenes whose ego action is hidden in training"""
    latent_noise: float = 0.1
    """noise on the latents while the tokenizer trains, so that what they say is of order one"""
    frame_weight: float = 0.0
    """weight of the decoded frame's own loss beside the denoising loss; above 0 pulls samples to their mean"""
    autoguidance: bool = False
    """keep the average weights of the single-step stage, as a weaker model to guide away from"""
    steps: int = 4
    """denoising steps of a frame in use; 50 = the teacher"""
    guidance: float = 1.0
    """in use: 1 = the conditional model; above, away from the weaker model if kept, else from the action-blind one"""
    guidance_bound: float = 1.0
    """in use: most that guidance's difference may be in each dimension, in standard deviations of the latents"""
    calibrated: bool = True
    """in use: whether latents are shifted and scaled as fitted on held-out training groups"""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"DitOptions.objective is {self.objective!r}, expected one of {', '.join(OBJECTIVES)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"DitOptions.schedule is {self.schedule!r}, expected one of {', '.join(SCHEDULES)}")
        if not 0.0 <= self.action_dropout < 1.0:
            raise ValueError(f"DitOptions.action_dropout is {self.action_dropout}, expected from 0 to below 1")
        if self.steps < 1:
            raise ValueError(f"DitOptions.steps is {self.steps}, expected at least 1")
        for name in ("latent_noise", "frame_weight", "guidance", "guidance_bound"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"DitOptions.{name} is {getattr(self, name)}, expected at least 0")
        if self.guidance != 1.0 and not (self.autoguidance or self.action_dropout):
            raise ValueError("DitOptions.guidance is not 1, expected autoguidance or action_dropout above 0 with it")
