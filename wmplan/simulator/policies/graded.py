"""Policies of graded skill by name: what an evaluation without driving has to put in order."""

from __future__ import annotations

from pathlib import Path

from wmplan.simulator.policies.arbitrary import Uniform, Wandering
from wmplan.simulator.policies.following import Following
from wmplan.simulator.policies.protocol import Policy
from wmplan.simulator.policies.shaky import Shaky
from wmplan.simulator.policies.steady import ConstantVelocity
from wmplan.simulator.policies.weights import load_policy

IDM: dict[str, Following] = {
    "idm_timid": Following(2.5, 3.0, 0.8, 1.5, 0.8, 6.0, 0.5, 0.4),
    "idm_cautious": Following(2.0, 2.5, 1.2, 1.5, 0.9, 5.0, 0.5, 0.3),
    "idm_normal": Following(),
    "idm_brisk": Following(1.2, 2.0, 2.0, 2.5, 1.05, 3.5, 0.1, 0.1),
    "idm_hurried": Following(0.8, 1.5, 2.5, 3.0, 1.1, 3.0, 0.0, 0.1),
    "idm_aggressive": Following(0.5, 1.0, 3.0, 4.0, 1.2, 2.0, 0.0, 0.0),
    "idm_timid_in_lane": Following(2.5, 3.0, 0.8, 1.5, 0.8, 6.0, lanes=False),
    "idm_normal_in_lane": Following(lanes=False),
    "idm_aggressive_in_lane": Following(0.5, 1.0, 3.0, 4.0, 1.2, 2.0, 0.0, 0.0, lanes=False),
}
"""IDM drivers from timid to aggressive, those at the end keeping to their lane."""

SIMPLE: dict[str, Policy] = {
    "constant_velocity": ConstantVelocity(),
    "constant_speed_in_lane": ConstantVelocity(in_lane=True),
    "random": Uniform(),
    "random_smooth": Wandering(),
    "lane_keeping_noise_small": Shaky(IDM["idm_normal_in_lane"], 0.5, 0.5),
    "lane_keeping_noise_large": Shaky(IDM["idm_normal_in_lane"], 2.0, 3.0),
}
"""Those that learn nothing and follow no model of a driver, or badly."""


def graded(weights: Path | None = None) -> dict[str, Policy]:
    """Every policy by name; with a folder of weights also the learned ones, each named as its file and drawing its
    choices, the last in alphabetical order of each series (the name up to the last `_`) also without the draw."""
    policies: dict[str, Policy] = {**SIMPLE, **IDM}
    files = sorted(weights.glob("*.safetensors")) if weights is not None else []
    last = {path.stem.rpartition("_")[0]: path for path in files}
    for path in files:
        policies[path.stem] = load_policy(path)
    for series, path in last.items():
        policies[f"{series}_greedy"] = load_policy(path).most_likely()
    return policies
