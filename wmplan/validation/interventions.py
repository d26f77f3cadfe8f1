"""What the ego could do instead, what it would truly lead to, and how any future is read for it.

`probe` prepares a scene: the plans do(a), what they lead to on the scene's road, and who is in the scene. The truth is
also drawn, as if a perfect model had imagined it: read in the same way, that is the ceiling of every figure, and the
logged future repeated for every plan is its floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import Grid, Imagined, SceneRaster
from wmplan.errors import InputError
from wmplan.executed import executed
from wmplan.plans import Plans
from wmplan.raster import STRIDE, draw_dynamic, rasterize
from wmplan.scene import STEP_S, Future, Kind, Scene
from wmplan.simulator.drivers import Shift, shifted
from wmplan.simulator.live import LiveScene, live
from wmplan.start import start_of
from wmplan.validation.instances import READ_OUT, VRU, Followed, Instances, ReadOut, follow, match, read

ACCELS_MPS2 = (-6.0, -4.0, -2.0, 0.0, 1.5)
"""Accelerations of the probe; the hardest braking first. One that stops the ego leaves it standing."""
FIND_M = 2.5
"""A road user is the instance whose centroid at t0 lies nearest, at most so far from its own place at t0."""
INSIDE_M = 1.0
"""Road users count while their centres are at least so far inside the window."""
HORIZON_STEPS, PATH_STEPS = 30, 50
"""Reactions are read 3 s after t0. The logged path that the plans follow is that of the first 5 s, or of 3 s where the
log ends earlier."""


@dataclass(frozen=True)
class Acted:
    """What K plans truly lead to, at t0 and every 0.5 s after it, A road users beside the ego.

    `kind` is that of `instances` (vehicle or vulnerable); `inside` says where somebody is on the road and inside the
    window. `frames` are the same moments drawn, the ego left out: vehicle and VRU occupancy, vx, vy.
    """

    plans: Plans
    grid: Grid
    kind: Int[ndarray, "A"]
    place: Float64[ndarray, "K S A 2"]
    inside: Bool[ndarray, "K S A"]
    frames: Float32[Tensor, "K T 4 H W"]

    def select(self, plans: Sequence[int]) -> Acted:
        """The same of these plans, in this order."""
        rows = np.asarray(plans, dtype=int)
        chosen = self.plans.select(rows)
        return Acted(chosen, self.grid, self.kind, self.place[rows], self.inside[rows], self.frames[rows])

    def imagined(self) -> Imagined:
        """The truth as a perfect model would imagine it, one sample."""
        return as_imagined(self.frames, self.grid)

    def blind(self) -> Imagined:
        """The future of the first plan for every plan: what a model knows that does not look at the action."""
        return as_imagined(self.frames[:1].expand_as(self.frames), self.grid)


@dataclass(frozen=True)
class Futures:
    """The N instances of t0 in every imagined future: place (m) at t0 and each step, whether they were seen there."""

    place: Float64[ndarray, "K M N S 2"]
    seen: Bool[ndarray, "K M N S"]

    def at(self, instances: Int[ndarray, "A"], step: int) -> tuple[Float64[ndarray, "K M A 2"], Bool[ndarray, "K M A"]]:
        """Place and whether it was seen of these instances at a step; an instance of -1 is nowhere."""
        if not self.place.shape[2]:
            shape = (*self.place.shape[:2], len(instances))
            return np.full((*shape, 2), np.nan), np.zeros(shape, dtype=bool)
        return self.place[:, :, instances, step], self.seen[:, :, instances, step] & (instances >= 0)

    def select(self, plans: Sequence[int]) -> Futures:
        """Those of these plans, in this order."""
        rows = np.asarray(plans, dtype=int)
        return Futures(self.place[rows], self.seen[rows])


@dataclass(frozen=True)
class Probed:
    """A scene as the probes of reaction see it: the same for every model of a grid. `first` is who is there at t0."""

    scene_id: str
    group: str
    raster: SceneRaster
    first: Instances
    acted: Acted

    def only(self, plans: Sequence[int]) -> Probed:
        """The same with these plans alone, in this order."""
        return replace(self, acted=self.acted.select(plans))


def interventions(logged: Plans, accels: Sequence[float] = ACCELS_MPS2, horizon_steps: int = HORIZON_STEPS) -> Plans:
    """The logged plan (one row), then do(a) for each acceleration: held until the ego stands, along the logged path.

    The curvature is that which the log has at the same place of its path; beyond the end of the path it is 0. The
    logged plan may be longer than the horizon.
    """
    speed = float(logged.states[0, 0, 3])
    length = logged.controls.shape[1]
    moved = np.hypot(*np.diff(logged.states[0, :, :2].astype(np.float64), axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(moved)])
    # Where the log stands its curvature says nothing, and a place is reached at one moment only.
    moving = np.flatnonzero(np.append(moved > 1e-3, False)[:length])
    controls = np.zeros((1 + len(accels), horizon_steps, 2))
    controls[0] = logged.controls[0, :horizon_steps]
    for row, accel in enumerate(accels, start=1):
        driven = np.maximum(speed + accel * STEP_S * np.arange(horizon_steps + 1), 0.0)
        place = np.concatenate([[0.0], np.cumsum(0.5 * (driven[1:] + driven[:-1]) * STEP_S)])[:-1]
        controls[row, :, 0] = accel
        if len(moving):
            curvature = np.interp(place, along[moving], logged.controls[0, moving, 1])
            controls[row, :, 1] = np.where(place <= along[-1], curvature, 0.0)
    return Plans.from_controls(controls, speed)


def probe(
    scene: Scene,
    future: Future,
    grid: Grid,
    plans_of: Callable[[Plans], Plans] = interventions,
    alive: LiveScene | None = None,
    how: ReadOut = READ_OUT,
) -> Probed:
    """The scene with everything that the plans truly lead to; `alive` is its road, where that was made before.

    `plans_of` makes the plans of the logged one, which it keeps in row 0; it gets as much of that as the log shows, at
    least `HORIZON_STEPS`.

    Raises:
        InputError: the log does not show the ego for the horizon, or the scene cannot become a road.
    """
    start = start_of(scene)
    found = executed(scene, future, start, PATH_STEPS)
    if found.plan is None:
        found = executed(scene, future, start, HORIZON_STEPS)
    if found.plan is None:
        raise InputError(f"scene {scene.scene_id}: {found.reason}, expected {HORIZON_STEPS * STEP_S:g} s of the ego")
    raster = rasterize(scene, grid)
    acted = act(alive or live(scene, future), plans_of(found.plan), grid)
    return Probed(scene.scene_id, scene.group, raster, present(raster, how), acted)


def among(probed: Probed, alive: LiveScene, drivers: Shift) -> Probed:
    """The same plans in the same scene among another population of drivers."""
    others = alive.state._replace(drivers=shifted(alive.state.drivers, drivers))
    return replace(probed, acted=act(replace(alive, state=others), probed.acted.plans, probed.acted.grid))


def act(alive: LiveScene, plans: Plans, grid: Grid) -> Acted:
    """The plans executed, everybody else reacting with the same noise.

    Raises:
        InputError: plans that are not finite or beyond the bicycle's bounds.
    """
    done = alive.execute(plans)
    moments = slice(0, plans.controls.shape[1] + 1, STRIDE)
    # (S, K, A) -> (K, S, A), row 0 of A is the ego.
    x, y, cos, sin, speed, active = (
        np.moveaxis(np.asarray(part)[moments, :, 1:], 0, 1)
        for part in (done.x, done.y, done.cos, done.sin, done.speed, done.active)
    )
    kinds = np.asarray(done.kind)[1:]
    states = np.stack([x, y, np.arctan2(sin, cos), speed * cos, speed * sin], axis=-1).astype(np.float32)
    sizes = np.stack([done.length, done.width], axis=-1)[1:].astype(np.float32)
    frames = draw_dynamic(
        torch.from_numpy(states[:, 1:]),
        torch.from_numpy(np.broadcast_to(sizes, (len(plans), *sizes.shape)).copy()),
        torch.from_numpy(np.broadcast_to(kinds, (len(plans), len(kinds))).astype(np.int64)),
        torch.from_numpy(active[:, 1:].copy()),
        grid,
    )
    users = kinds != Kind.OTHER
    place = states[..., :2].astype(np.float64)
    return Acted(
        plans,
        grid,
        np.where(kinds == Kind.VEHICLE, 0, VRU)[users],
        place[:, :, users],
        (active & _within(place, grid))[:, :, users],
        frames[:, :, :4],
    )


def present(raster: SceneRaster, how: ReadOut = READ_OUT) -> Instances:
    """The instances at t0."""
    frame = raster.history[-1].numpy()
    return read(frame[:2], frame[2:4], raster.grid, how)


def find(acted: Acted, first: Instances) -> Int[ndarray, "A"]:
    """Which instance at t0 each road user is, -1 where none is near; two that are drawn as one are found once."""
    found = np.full(len(acted.kind), -1)
    here = np.flatnonzero(acted.inside[0, 0])
    found[here] = match(acted.place[0, 0, here], first.position, FIND_M, acted.kind[here, None] == first.kind[None])
    return found


def read_futures(imagined: Imagined, first: Instances, how: ReadOut = READ_OUT) -> Futures:
    """The instances of t0, followed through every imagined future.

    Futures that are the same (a model that does not look at the action) are read once.
    """
    known: list[list[Followed]] = []
    for k in range(len(imagined.occupancy)):
        if k and _same(imagined, k, 0):
            known.append(known[0])
            continue
        samples = []
        for m in range(imagined.occupancy.shape[1]):
            occupancy, velocity = imagined.occupancy[k, m].numpy(), imagined.velocity[k, m].numpy()
            frames = [read(occupancy[t], velocity[t], imagined.grid, how) for t in range(len(occupancy))]
            samples.append(follow(first, frames, how))
        known.append(samples)
    return Futures(
        np.stack([[one.position for one in samples] for samples in known]),
        np.stack([[one.seen for one in samples] for samples in known]),
    )


def as_imagined(frames: Float[Tensor, "K T 4 H W"], grid: Grid) -> Imagined:
    """Frames as one imagined sample of each candidate; its latents are empty."""
    one = frames[:, None]
    return Imagined(one[:, :, :, :2], one[:, :, :, 2:4], torch.zeros(*one.shape[:3], 0), grid)


# ------------------------------------------------------------------------------------------------------ details


def _within(place: Float64[ndarray, "*B 2"], grid: Grid) -> Bool[ndarray, "*B"]:
    x, y = place[..., 0] - grid.x_min, place[..., 1] - grid.y_min
    ahead = (x >= INSIDE_M) & (x <= grid.cols * grid.cell - INSIDE_M)
    return ahead & (y >= INSIDE_M) & (y <= grid.rows * grid.cell - INSIDE_M)


def _same(imagined: Imagined, k: int, other: int) -> bool:
    pairs = ((part[k], part[other]) for part in (imagined.occupancy, imagined.velocity))
    return all(torch.equal(one, two) for one, two in pairs)
