"""A reactive traffic simulator in JAX: it gives the embedded logs and the true outcome of any candidate.

Roads are straight, merge, cross, meet in a T or a roundabout, or are made of real scenes; people drive by IDM and
MOBIL, wait for lights and for those with right of way, walk and ride; the ego may do anything. `network` holds what
depends on geometry as tables, `state` a world as arrays, `traffic` its step (batched, pure: jit and scan it), `truth`
executes candidates. Nothing here is read by a critic or a planner.
"""

__all__ = ["behaviour", "idm", "maps", "network", "populate", "reader", "state", "traffic", "truth"]
