"""highway-env's own speed, at its best: what the simulator is held against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ticks:
    """Vehicle-ticks a second in one process: by its CPU time, by the clock, medians over episodes."""

    per_cpu_second: float
    per_second: float
    ticks_per_second: float
    episodes: int


def job(vehicles: int) -> Callable[[str], Ticks]:
    """A worker's handler; the task is how many episodes to run, after one that isn't counted."""
    return lambda task: measure(vehicles, int(task.split()[0]))


def measure(vehicles: int, episodes: int, seconds: int = 10) -> Ticks:
    """The default `highway-v0` (15 ticks a second) with `vehicles` others.

    The ego idles, nothing is drawn, the observation is the ego's own row, once a second; resets aren't counted. An
    episode ends after `seconds` or with a crash.
    """
    from highway_env.envs.highway_env import HighwayEnv

    env = HighwayEnv(
        {"vehicles_count": vehicles, "duration": seconds, "observation": {"type": "Kinematics", "vehicles_count": 1}}
    )
    a_second = int(env.config["simulation_frequency"])
    idle = 1
    by_cpu, by_clock, ticks_by_clock = [], [], []
    for episode in range(episodes + 1):
        env.reset(seed=episode)
        done, ticks, cpu, clock = False, 0, time.process_time(), time.perf_counter()
        while not done:
            _, _, terminated, truncated, _ = env.step(idle)
            done = terminated or truncated
            ticks += a_second
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        if episode > 0:
            by_cpu.append(ticks * len(env.road.vehicles) / cpu)
            by_clock.append(ticks * len(env.road.vehicles) / clock)
            ticks_by_clock.append(ticks / clock)
    return Ticks(median(by_cpu), median(by_clock), median(ticks_by_clock), episodes)
