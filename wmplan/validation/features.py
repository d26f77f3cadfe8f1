"""A frozen encoder of occupancy frames for distances between distributions: wavelet-like scattering, nothing trained.

No model under test shares weights with it, and it never changes with a training: a figure of today compares with one
of next year. It measures, at four scales, how much occupancy there is, how sharp its edges are and which way they run,
how they lie along each other, and how it moves. Not measured: where in the window anything is (features are pooled).

It is not Inception, so figures do not compare with a KID of pictures.

References:
    Bruna and Mallat (2013), Invariant scattering convolution networks (the construction, here with derivatives of
    Gaussians in four directions, modulus, two layers, pooled over the window).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

NAME = "scattering"
SCALES_M = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations of the Gaussians, metres."""
DIRECTIONS = 4
SPEED_SCALE = 10.0
GAIN = 10.0
"""Brings features to order one, where the cubic kernel tells more than means."""


def features(
    occupancy: Float[Tensor, "B 2 H W"], velocity: Float[Tensor, "B 2 H W"], cell_m: float
) -> Float64[ndarray, "B D"]:
    """Pooled features of each frame, of order one; the same for the same occupancy in metres on any grid."""
    moving = velocity * (occupancy.amax(1, keepdim=True) / SPEED_SCALE)
    planes = torch.cat([occupancy, moving], dim=1).to(torch.float32)
    pooled = []
    for s, scale in enumerate(SCALES_M):
        coarse, cell = _coarser(planes, cell_m, scale)
        edges = _edges(coarse, scale / cell)
        pooled += [edges.flatten(1, 2), _smooth(coarse, scale / cell).abs()]
        first = edges[:, :2].flatten(1, 2)
        for wider in SCALES_M[s + 1 :]:
            again, wide_cell = _coarser(first, cell, wider)
            pooled.append(_edges(again, wider / wide_cell).mean(2))
    # Square roots, so that a full street does not drown what a single car looks like.
    return GAIN * torch.cat([_pool(part) for part in pooled], dim=1).double().sqrt().numpy()


def _coarser(planes: Float[Tensor, "B C H W"], cell_m: float, scale_m: float) -> tuple[Tensor, float]:
    """Planes averaged onto cells of half the scale, where they are finer; and the size of those cells."""
    factor = max(1, int(scale_m / (2.0 * cell_m)))
    return F.avg_pool2d(planes, factor), factor * cell_m


def _edges(planes: Float[Tensor, "B C H W"], sigma: float) -> Float[Tensor, "B C D H W"]:
    """Modulus of derivatives of Gaussians in `DIRECTIONS` directions, times sigma: scale-free for a step edge."""
    smooth, slope = _kernels(sigma)
    dx, dy = _separable(planes, smooth, slope), _separable(planes, slope, smooth)
    angles = torch.arange(DIRECTIONS) * (math.pi / DIRECTIONS)
    return torch.stack([(math.cos(a) * dx + math.sin(a) * dy).abs() for a in angles.tolist()], dim=2)


def _smooth(planes: Float[Tensor, "B C H W"], sigma: float) -> Float[Tensor, "B C H W"]:
    smooth, _ = _kernels(sigma)
    return _separable(planes, smooth, smooth)


def _kernels(sigma: float) -> tuple[Tensor, Tensor]:
    reach = math.ceil(2.5 * sigma)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32)
    gauss = torch.exp(-(x**2) / (2.0 * sigma**2))
    gauss = gauss / gauss.sum()
    return gauss, gauss * x / sigma


def _separable(planes: Float[Tensor, "B C H W"], down: Tensor, across: Tensor) -> Float[Tensor, "B C H W"]:
    b, c, h, w = planes.shape
    flat = planes.reshape(b * c, 1, h, w)
    reach = len(down) // 2
    flat = F.conv2d(flat, down.reshape(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(flat, across.reshape(1, 1, 1, -1), padding=(0, reach)).reshape(b, c, h, w)


def _pool(planes: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 2*C"]:
    """Mean and mean square: how much, and how concentrated."""
    return torch.cat([planes.mean((-1, -2)), (planes**2).mean((-1, -2)).sqrt()], dim=1)
