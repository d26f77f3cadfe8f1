"""Roads of the simulator, drawn from a seed.

Built once a world in float64 NumPy, in the same form as a recorded map, and turned into padded arrays by `network`.
Traffic keeps to the right. Every map is turned by a random angle, so that nothing is aligned with the axes.
"""

from __future__ import annotations

from collections.abc import Callable

from wmplan.simulator.crossing import crossing
from wmplan.simulator.layout import SimMap
from wmplan.simulator.merge import merge
from wmplan.simulator.roundabout import roundabout
from wmplan.simulator.straight import straight
from wmplan.simulator.t_junction import t_junction

MAPS: dict[str, Callable[[int], SimMap]] = {
    "straight": straight,
    "merge": merge,
    "crossing": crossing,
    "t_junction": t_junction,
    "roundabout": roundabout,
}
"""Every road by name; a new one is a function of a seed and a line here."""
