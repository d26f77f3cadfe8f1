"""The recording car of nuScenes, as ScenarioNet converts it: three known faults undone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wmplan.readers.assembly import RawTracks

REAR_AXLE_TO_CENTRE_M = 1.385
"""From the rear axle of the Renault Zoe forward to the middle of its box: half of 4.084 m less 0.657 m overhang."""
UNRELIABLE_END_S = 1.0
"""The pose jumps backwards once in the last second (by 0.35 to 1.91 m in three of four scenes)."""


def repair_ego(raw: RawTracks, row: int, dt_s: float) -> RawTracks:
    """The tracks with the ego's box put right.

    Its length and width are swapped in the files; its position is the rear axle's, not the centre of the box; its last
    second is invalid here. Heading is sound. A later file with length and width in order keeps them.
    """
    sizes, xy, valid = raw.sizes.copy(), raw.xy.copy(), raw.valid.copy()
    sizes[row] = np.sort(sizes[row])[::-1]
    xy[row] += REAR_AXLE_TO_CENTRE_M * np.stack([np.cos(raw.yaw[row]), np.sin(raw.yaw[row])], axis=-1)
    valid[row, max(valid.shape[1] - round(UNRELIABLE_END_S / dt_s), 0) :] = False
    return replace(raw, sizes=sizes, xy=xy, valid=valid)
