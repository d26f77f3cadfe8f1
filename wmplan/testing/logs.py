"""A recording that a human can draw: cars in lanes along x, at any native rate."""

from __future__ import annotations

import numpy as np

from wmplan.scene import Feature, Kind, Light, Lights, Log, RoadMap, Tracks


def driving_log(
    name: str = "road", steps: int = 120, dt_s: float = 0.1, cars: int = 4, seed: int = 0, group: str = ""
) -> Log:
    """A log of cars that keep their lanes 3.5 m apart, speeds changing smoothly; the last row is a pedestrian.

    Car 0 is the recorded ego. The map has one lane a car, in two linked pieces, and a light at x = 60 that is red in
    the first half and green in the second.
    """
    rng = np.random.default_rng(seed)
    times = np.arange(steps) * dt_s
    states = np.zeros((cars + 1, steps, 5))
    for row in range(cars):
        base, swing, phase = rng.uniform(6, 12), rng.uniform(0.5, 2.0), rng.uniform(0, 6)
        states[row, :, 0] = 5.0 * row + base * times + swing * (np.sin(times + phase) - np.sin(phase))
        states[row, :, 1] = 3.5 * row
        states[row, :, 3] = base + swing * np.cos(times + phase)
    states[cars] = np.stack(
        [30 + 0 * times, 1.2 * times - 5, 0 * times + np.pi / 2, 0 * times, 0 * times + 1.2], axis=1
    )
    lanes = []
    links = []
    for row in range(cars):
        for piece, (start, end) in enumerate([(-50.0, 60.0), (60.0, 400.0)]):
            x = np.linspace(start, end, 30)
            lanes.append((Feature.LANE, f"{row}-{piece}", np.stack([x, np.full(30, 3.5 * row)], axis=1)))
        links.append((f"{row}-0", f"{row}-1"))
    lights = np.full((1, steps), Light.RED, dtype=np.int8)
    lights[:, steps // 2 :] = Light.GREEN
    return Log(
        log_id=name,
        group=group or name,
        dataset="drawn",
        file=f"{name}.log",
        dt_s=dt_s,
        tracks=Tracks(
            ids=(*(f"car{row}" for row in range(cars)), "walker"),
            kinds=np.array([Kind.VEHICLE] * cars + [Kind.PEDESTRIAN], dtype=np.int8),
            sizes=np.array([[4.6, 2.0]] * cars + [[0.7, 0.7]], dtype=np.float32),
            states=states,
            valid=np.ones((cars + 1, steps), dtype=bool),
        ),
        road_map=RoadMap.build(lanes, links),
        lights=Lights(np.array([[60.0, 0.0]]), ("0-0",), lights),
        recorded_ego="car0",
    )
