"""The part of a road map that a scene keeps."""

from __future__ import annotations

import numpy as np

from wmplan.frames import Pose
from wmplan.scene import RoadMap


def crop(road_map: RoadMap, centre: Pose, radius_m: float) -> RoadMap:
    """The features whose bounding box comes within `radius_m` of `centre`, whole, in the frame of `road_map`.

    Depends on the map and the pose alone. Links between kept lanes stay.
    """
    sizes = np.diff(road_map.offsets)
    filled = sizes > 0
    keep = np.zeros(len(sizes), dtype=bool)
    if filled.any():
        starts = road_map.offsets[:-1][filled]
        low = np.minimum.reduceat(road_map.points, starts, axis=0)
        high = np.maximum.reduceat(road_map.points, starts, axis=0)
        centre_xy = np.array([[centre.x, centre.y]])
        outside = np.maximum(np.maximum(low - centre_xy, centre_xy - high), 0.0)
        keep[filled] = np.hypot(outside[:, 0], outside[:, 1]) <= radius_m
    new_index = np.cumsum(keep) - 1
    links = road_map.successors
    links = links[keep[links].all(axis=1)] if len(links) else links
    kept = np.flatnonzero(keep)
    return RoadMap(
        kinds=road_map.kinds[kept],
        ids=tuple(road_map.ids[i] for i in kept),
        offsets=np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64),
        points=road_map.points[np.repeat(keep, sizes)],
        successors=new_index[links].reshape(-1, 2).astype(np.int64),
    )
