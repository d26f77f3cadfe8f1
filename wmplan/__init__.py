"""Contracts and core of wmplan: scenes, plans, rasters, world models, the road, scores, statistics.

Axes, everywhere and in this order:

| letter | axis |
|---|---|
| `B` | scenes |
| `K` | candidates of one scene |
| `M` | imagined samples of one candidate |
| `T` | steps in time (`S` where a second time axis, the plan's 0.1 s, stands beside it) |
| `C` | channels |
| `H W` | grid rows (y, to the left) and columns (x, ahead) |
| `A` | agents |
| `U` | controls: acceleration, curvature |

SI units. Angles counter-clockwise in (-pi, pi]. An invalid entry is marked by a mask, never by a magic number. *Cost*
is lower-better, *score* and *value* are higher-better. The scene frame has its origin at the ego's pose at t0: x ahead,
y to the left, fixed through the imagination.

This package imports none of its siblings (`critics`, `optimizers`, `rollout_cache`, `experiments`).
"""

__version__ = "0.1.0"
