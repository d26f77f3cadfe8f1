"""Pictures of executed candidates: they show what happened, and nothing half-written stays."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wmplan.errors import InputError
from wmplan.scene import Feature, RoadMap
from wmplan.scores import Outcomes
from wmplan.simulator.executed import Executed
from wmplan.simulator.layout import Route, Signal, SimMap
from wmplan.simulator.outcome import Before, Course, outcomes_of
from wmplan.simulator.render import EGO, HIT, render

STEPS = 21


@pytest.fixture(scope="module")
def shown() -> tuple[Executed, RoadMap, Outcomes]:
    """Two candidates at 10 m/s: the first runs into a standing car, the second stops ahead of it."""
    times = 0.1 * np.arange(STEPS)
    zeros = np.zeros((STEPS, 2, 2), dtype=np.float32)
    x = zeros.copy()
    x[:, 0, 0], x[:, 1, 0], x[:, :, 1] = 10.0 * times, 10.0 * times - 2.5 * times**2, 19.0
    speed = zeros.copy()
    speed[:, 0, 0], speed[:, 1, 0] = 10.0, 10.0 - 5.0 * times
    executed = Executed(
        x, zeros, zeros + 1.0, zeros, speed, zeros == 0.0, np.full(2, 4.6, np.float32), np.full(2, 1.9, np.float32),
        np.zeros(2, np.int32), zeros[:, :, 0].astype(np.int32), x[:, :, 0], zeros[:, :, 0], zeros[:, :, 0] > 0.0,
    )  # fmt: skip
    area = np.array([[-20.0, -4.0], [80.0, -4.0], [80.0, 4.0], [-20.0, 4.0]])
    road_map = RoadMap.build([(Feature.DRIVABLE, "road", area)])
    line = Route(np.array([[0.0, 0.0], [100.0, 0.0]]), np.full(2, 15.0))
    course = Course.of(SimMap("road", road_map, (line,), (), Signal.none(), (), 3.5))
    return executed, road_map, outcomes_of(executed, course, Before(0.0, 0.0, 20.0))


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def pixels(image: Image.Image, colour: str, half: int) -> int:
    """Pixels of nearly this colour in the left (0) or right (1) half."""
    values = np.asarray(image.convert("RGB")).astype(int)
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    middle = values.shape[1] // 2
    part = values[:, :middle] if half == 0 else values[:, middle:]
    return int((abs(part - wanted).max(axis=-1) < 12).sum())


def test_the_picture_marks_the_contact_where_there_is_one(shown, tmp_path):
    image = opened(render(tmp_path / "two.png", *shown))
    assert shown[2].column("contacts").tolist() == [1.0, 0.0]
    assert pixels(image, EGO, 0) > 50
    assert pixels(image, EGO, 1) > 50
    words = 200  # of the right panel's title, where something else is broken
    assert pixels(image, HIT, 0) > pixels(image, HIT, 1) + words
    plain = opened(render(tmp_path / "plain.png", *shown[:2]))
    assert pixels(plain, HIT, 0) == pixels(plain, HIT, 1) == 0, "without outcomes nothing is claimed"


def test_the_film_plays_in_real_time_and_repeats_its_bytes(shown, tmp_path):
    path = render(tmp_path / "two.gif", *shown, candidates=[1, 0])
    with Image.open(path) as film:
        lasts, hits = [], []
        for frame in range(film.n_frames):
            film.seek(frame)
            lasts.append(film.info["duration"])
            hits.append(pixels(film, HIT, 1))
    assert sum(lasts) == pytest.approx(1000 * 0.2 * (11 + 5))
    assert hits[-1] > hits[0], "the contact appears when it happens"
    again = render(tmp_path / "again.gif", *shown, candidates=[1, 0])
    assert again.read_bytes() == path.read_bytes()


def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(shown, tmp_path):
    with pytest.raises(InputError, match=r"two.mp4: ends in '.mp4', expected .png or .gif"):
        render(tmp_path / "two.mp4", *shown)
    with pytest.raises(InputError, match="candidates: 2, expected 0 to 1"):
        render(tmp_path / "two.png", *shown, candidates=[2])
    with pytest.raises(FileNotFoundError):
        render(tmp_path / "no" / "two.png", *shown)
    assert list(tmp_path.iterdir()) == []
