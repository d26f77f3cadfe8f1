"""What is known of the recordings that CommonRoad scenarios were made from, and that their headers do not say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from wmplan.readers.assembly import RawTracks

SIND_DT_S = 15 / 29.97
"""SinD's true step: every 15th frame of a drone's video at 29.97 Hz. Its headers say 0.1 s."""
MOVING_MPS = 2.0
"""Only what moves faster tells the time step."""
RECORDINGS = {
    "ngsim": ("ngsim", "next generation simulation"), "sind": ("sind",), "highd": ("highd",), "ind": ("ind dataset",),
    "round": ("round dataset",), "interaction": ("interaction dataset",),
}  # fmt: skip
"""Data set by words of the `source` attribute."""
US101_PIECES = {
    "a": (5, 6, 7, 9, 15, 19, 20, 21, 22, 25, 28), "b": (1, 13, 14, 23, 24), "c": (4, 18, 27), "e": (8, 30),
    "31": (31,), "32": (32,), "33": (33,),
}  # fmt: skip
"""Configurations of US101 whose windows overlap in time (in rotated frames), as measured on the traffic itself."""


@dataclass(frozen=True)
class About:
    """What a header cannot be asked: data set, group that shares traffic, true time step, what may be concluded."""

    dataset: str
    group: str
    dt_s: float
    recorded: bool
    labels_reliable: bool


def about(root: Element, scenario: str, header_dt_s: float, raw: RawTracks) -> About:
    """What is known of the recording behind a scenario.

    Not recorded are trajectories optimised towards criticality, set-based predictions (`_S-` in the name), and all
    whose source names no known recording. Of NGSIM no outcome label may be read: its speeds are raw (accelerations of
    30 m/s2).
    """
    source = (root.get("source") or "").lower()
    words = (name for name, marks in RECORDINGS.items() if any(mark in source for mark in marks))
    dataset = next(words, "sind" if "_SIND-" in scenario else "commonroad")
    tags = {*(root.get("tags") or "").split(), *(tag.tag for tag in root.iterfind("scenarioTags/*"))}
    # A planning problem in recorded traffic is tagged critical too; only the optimised traffic has no accelerations.
    altered = "optimized" in source or ("critical" in tags and root.find("*/trajectory/state/acceleration") is None)
    recorded = dataset != "commonroad" and not altered and "_S-" not in scenario
    dt_s = SIND_DT_S if dataset == "sind" and not agrees(raw, header_dt_s) else header_dt_s
    return About(dataset, group_of(scenario), dt_s, recorded, recorded and dataset != "ngsim")


def group_of(scenario: str) -> str:
    """The group of a scenario, from its name alone: the recording that it is a piece of.

    Pieces of one recording may share traffic. US101's overlap across configurations as `US101_PIECES` says;
    configurations that are not listed there go together.
    """
    found = re.match(r"(?:[A-Z]{3}_)?([A-Za-z0-9]+)-(\d+)", scenario.removeprefix("C-"))
    if found is None:
        return f"commonroad-{scenario}"
    place, number = found[1].lower(), int(found[2])
    if place == "us101":
        piece = next((name for name, numbers in US101_PIECES.items() if number in numbers), "unlisted")
        return f"us101-{piece}"
    return f"{place}-{number}"


def agrees(raw: RawTracks, dt_s: float) -> bool:
    """Whether distance over speed is this time step, within a fifth (False where nothing moves).

    SinD's headers are wrong by a factor of five, so a fifth decides with certainty, whatever the noise.
    """
    both = raw.valid[:, 1:] & raw.valid[:, :-1]
    distance = np.hypot(*np.moveaxis(np.diff(raw.xy, axis=1), -1, 0))
    speed = np.hypot(*np.moveaxis(raw.velocity, -1, 0))
    mean = (speed[:, 1:] + speed[:, :-1]) / 2.0
    moving = both & (mean > MOVING_MPS)
    return bool(moving.any()) and abs(float(np.median(distance[moving] / mean[moving])) / dt_s - 1.0) < 0.2
