"""A small reactive traffic simulator: signalised crossings, multi-lane roads, IDM drivers, an ego that may do anything.

It gives the embedded logs (`reader`), and the true outcome of any candidate (`truth`). State is a pytree of
padded arrays, `reset` and `step` are pure: jit, vmap and scan them. Nothing here is read by a critic or a planner. Not
modelled yet: lane changes of others, merges, roundabouts, cyclists, reaction delays, maps of real scenes.
"""

__all__ = ["behaviour", "idm", "maps", "network", "reader", "signals", "traffic", "truth"]
