"""CommonRoad scenarios: what the header says, what is true, and one line for what is damaged."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from wmplan.errors import InputError
from wmplan.readers import detect
from wmplan.readers.commonroad import CommonRoadReader
from wmplan.readers.commonroad_road import middle
from wmplan.readers.commonroad_sets import SIND_DT_S, group_of
from wmplan.scene import Feature, Kind, Light, Log
from wmplan.testing.readers import check_reader

READER = CommonRoadReader()


def points(*values: tuple[float, float]) -> str:
    return "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in values)


def state(tag: str, time: int, x: float, y: float, yaw: float, speed: float) -> str:
    exact = "".join(
        f"<{name}><exact>{v}</exact></{name}>"
        for name, v in (("orientation", yaw), ("time", time), ("velocity", speed))
    )
    return f"<{tag}><position>{points((x, y))}</position>{exact}</{tag}>"


BOX = "<rectangle><length>4.5</length><width>1.8</width></rectangle>"


def drive(first: int, last: int, speed: float, dt_s: float, y: float = 0.0) -> str:
    """States of someone who goes along x."""
    states = [
        state("initialState" if t == first else "state", t, 500 + speed * dt_s * t, y, 0.0, speed)
        for t in range(first, last + 1)
    ]
    return states[0] + f"<trajectory>{''.join(states[1:])}</trajectory>"


def lanelet(id: int, left: str, right: str, more: str = "") -> str:
    bounds = f"<leftBound>{left}</leftBound><rightBound>{right}</rightBound>"
    return f'<lanelet id="{id}">{bounds}{more}</lanelet>'


def obstacle(tag: str, id: int, kind: str, shape: str, body: str) -> str:
    return f'<{tag} id="{id}"><type>{kind}</type><shape>{shape}</shape>{body}</{tag}>'


def scenario(body: str, name: str = "CHN_SIND-9_1_T-2", source: str = "(SIND)", version: str = "2020a") -> str:
    more = '<successor ref="2"/><trafficLightRef ref="9"/>'
    lane = lanelet(1, points((480, 2), (520, 2)), points((480, -2), (520, -2)), more)
    lane += lanelet(2, points((520, 2), (590, 2)), points((520, -2), (560, -2), (590, -2)))
    kind = "<laneletType>crosswalk</laneletType>"
    cross = lanelet(3, points((515, 5), (515, -5)), points((512, 5), (512, -5)), kind)
    light = '<trafficLight id="9"><cycle><cycleElement><duration>2</duration><color>red</color></cycleElement>'
    light += "<cycleElement><duration>3</duration><color>green</color></cycleElement></cycle></trafficLight>"
    head = f'<commonRoad commonRoadVersion="{version}" timeStepSize="0.1" benchmarkID="{name}" source="{source}">'
    return f"<?xml version='1.0'?>{head}{lane}{cross}{body}{light}</commonRoad>"


def car(first: int = 0, last: int = 20, speed: float = 8.0, dt_s: float = SIND_DT_S, id: int = 7) -> str:
    return obstacle("dynamicObstacle", id, "car", BOX, drive(first, last, speed, dt_s))


def read(folder: Path, text: str, name: str = "a.cr.xml") -> Log:
    (folder / name).write_text(text)
    (log,) = READER.read(folder / name)
    return log


def test_sind_runs_at_its_true_step_and_a_true_header_is_believed(tmp_path: Path) -> None:
    lying = read(tmp_path, scenario(car()))
    assert lying.dt_s == pytest.approx(0.5005, abs=1e-4)
    assert (lying.dataset, lying.group, lying.labels_reliable) == ("sind", "sind-9", True)
    assert read(tmp_path, scenario(car(dt_s=0.1))).dt_s == 0.1
    check_reader(READER, tmp_path)
    other = read(tmp_path, scenario(car(), "DEU_A-1_1_T-1", "by hand"))
    assert (other.dt_s, other.recorded) == (0.1, False)


def test_the_ego_is_in_the_solution_and_may_start_late(tmp_path: Path) -> None:
    def ego(t: int) -> str:
        motion = "<velocity>4</velocity><orientation>0</orientation>"
        return f"<ksState><x>{490 + 2 * t}</x><y>1</y>{motion}<time>{t}</time></ksState>"

    states = "".join(map(ego, range(5, 12)))
    trajectory = f'<ksTrajectory planningProblem="77">{states}</ksTrajectory>'
    text = f"<CommonRoadSolution>{trajectory}</CommonRoadSolution>"
    (tmp_path / "a.solution.xml").write_text(text)
    log = read(tmp_path, scenario(car()))
    assert log.recorded_ego == "77"
    row = log.tracks.ids.index("77")
    assert np.flatnonzero(log.tracks.valid[row]).tolist() == list(range(5, 12))
    assert log.tracks.states[row, 5:12, 0] == pytest.approx(2.0 * np.arange(7))  # recentred on the ego's first place
    assert log.tracks.sizes[row].min() > 1.0
    assert READER.paths(tmp_path) == [tmp_path / "a.cr.xml"]
    (tmp_path / "a.solution.xml").write_text(text.replace("<x>500", "<x>nan", 1))
    with pytest.raises(InputError, match=r"a.solution.xml: ksState 0.x is nan, expected a finite number"):
        next(READER.read(tmp_path / "a.cr.xml"))


def test_reverse_circles_static_things_and_2018b(tmp_path: Path) -> None:
    circle, corners = "<circle><radius>0.4</radius></circle>", points((-1, -2), (5, -2), (5, 2))
    walker = obstacle("dynamicObstacle", 8, "pedestrian", circle, drive(3, 9, 1.0, SIND_DT_S, 4.0))
    back = obstacle("obstacle", 9, "car", BOX, drive(0, 4, -1.5, SIND_DT_S, 9.0))
    stands = state("initialState", 0, 510, 20, np.pi / 2, 0)
    wall = obstacle("staticObstacle", 10, "building", f"<polygon>{corners}</polygon>", stands)
    log = read(tmp_path, scenario(car() + walker + back + wall))
    tracks = log.tracks
    assert tracks.kinds.tolist() == [Kind.VEHICLE, Kind.PEDESTRIAN, Kind.VEHICLE, Kind.OTHER]
    assert tracks.sizes[1] == pytest.approx([0.8, 0.8])
    assert np.flatnonzero(tracks.valid[1]).tolist() == list(range(3, 10))
    assert tracks.states[2, 0, 3] == -1.5
    assert tracks.valid[3].all()
    assert tracks.sizes[3] == pytest.approx([6, 4])
    assert tracks.states[3, :, :2] == pytest.approx(np.broadcast_to([10, 22], (21, 2)))  # its box lies off its point


def test_lanelets_lights_and_crossings(tmp_path: Path) -> None:
    log = read(tmp_path, scenario(car()))
    road = log.road_map
    assert [(kind, name) for kind, name in zip(road.kinds, road.ids)] == [
        (Feature.LANE, "1"), (Feature.LANE_AREA, "1-area"), (Feature.LANE, "2"), (Feature.LANE_AREA, "2-area"),
        (Feature.CROSSWALK, "3-area"),
    ]  # fmt: skip
    assert road.feature(0).tolist() == [[-20, 0], [20, 0]]
    assert road.feature(2)[:, 1].tolist() == [0, 0, 0]
    assert road.successors.tolist() == [[0, 2]]
    assert log.lights.lanes == ("1",)
    assert log.lights.points.tolist() == [[20, 0]]
    assert log.lights.states[0, :7].tolist() == [Light.RED] * 2 + [Light.GREEN] * 3 + [Light.RED] * 2


def test_the_middle_of_bounds_with_other_counts() -> None:
    left, right = np.array([[0.0, 2], [10, 2]]), np.array([[0.0, 0], [1, 0], [10, 0]])
    assert middle(left, right).tolist() == [[0, 1], [5, 1], [10, 1]]


@pytest.mark.parametrize(
    ("scenario_id", "group"),
    [
        ("CHN_SIND-8111_1052_T-1127", "sind-8111"), ("USA_US101-15_2_T-1", "us101-a"), ("USA_US101-1_1_S-1", "us101-b"),
        ("USA_US101-99_1_T-1", "us101-unlisted"), ("USA_Peach-4_7_T-1", "peach-4"), ("whatever", "commonroad-whatever"),
    ],
)  # fmt: skip
def test_groups_come_from_the_name(scenario_id: str, group: str) -> None:
    assert group_of(scenario_id) == group


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[: len(t) // 2], "cannot be parsed"),
        (
            lambda t: t.replace("<exact>8.0</exact>", "<exact>fast</exact>", 1),
            r"velocity.exact is 'fast', expected a number",
        ),
        (lambda t: t.replace("<x>500.0</x>", "<x>inf</x>", 1), r"position.x is inf, expected a finite number"),
        (lambda t: t.replace("<x>500.0</x>", "<x>9e9</x>", 1), r"obstacle 7.position.* is 9e\+09"),
        (lambda t: t.replace("<exact>3</exact>", "<exact>2</exact>", 1), r"time is .*each later than the one before"),
        (lambda t: t.replace('timeStepSize="0.1"', ""), "timeStepSize is missing"),
        (lambda t: t.replace(BOX, ""), r"shape has 0 parts"),
        (lambda t: t.replace("<color>red</color>", "<color>pink</color>"), r"color is 'pink', expected one of red"),
        (lambda t: t.replace("dynamicObstacle", "ghost"), "obstacles are none"),
        (lambda t: t.replace("lanelet", "river"), "map has 0 features"),
    ],
)  # fmt: skip
def test_damage_is_told_in_one_line(tmp_path: Path, change: object, words: str) -> None:
    text = scenario(car())
    changed = change(text)  # type: ignore[operator]
    assert changed != text
    with pytest.raises(InputError, match=words) as error:
        read(tmp_path, changed)
    assert str(error.value).startswith("a.cr.xml")
    assert "\n" not in str(error.value)


def test_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>' + scenario(car()).split("?>")[1]
    with pytest.raises(InputError, match="declares entities"):
        read(tmp_path, bomb.replace("by hand", "&b;"))
    outside = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + scenario(car()).split("?>")[1]
    with pytest.raises(InputError, match="declares entities"):
        read(tmp_path, outside)


def test_other_xml_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pom.xml").write_text("<project/>")
    assert READER.paths(tmp_path) == []
    assert detect(tmp_path / "pom.xml") is None


@pytest.mark.parametrize("folder", ["commonroad_ngsim", "commonroad_sind"])
def test_real_scenarios_are_as_the_index_says(real_data: Path, folder: str) -> None:
    """Every ninth of them: time step, steps, road users, whether recorded; a group never splits one of the index."""
    with (real_data / "index.csv").open() as file:
        index = {row["scene_id"]: row for row in csv.DictReader(file)}
    groups: dict[str, set[str]] = {}
    for path in READER.paths(real_data / folder)[::9]:
        (log,) = READER.read(path)
        row = index[log.log_id.removeprefix("commonroad-")]
        assert log.dt_s == pytest.approx(float(row["dt_s"]), abs=1e-4)
        assert log.tracks.valid.shape == (int(row["n_agents"]), int(row["n_steps"]))
        assert log.recorded == (row["recorded"] == "yes")
        assert (log.recorded_ego is not None) == (row["ego"] == ".solution.xml")
        assert len(log.lights.lanes) > 0 or row["has_lights"] == "no"
        groups.setdefault(row["group"], set()).add(log.group)
    assert all(len(mine) == 1 for mine in groups.values())


def test_real_scenarios_move_as_their_velocities_say(real_data: Path) -> None:
    for folder in ("commonroad_ngsim", "commonroad_sind"):
        for path in READER.paths(real_data / folder)[::40]:
            for log in READER.read(path):
                if not log.recorded:
                    continue
                both = log.tracks.valid[:, 1:] & log.tracks.valid[:, :-1]
                over = np.diff(log.tracks.states[..., :2], axis=1)[both] / log.dt_s
                mean = (log.tracks.states[:, 1:, 3:5] + log.tracks.states[:, :-1, 3:5])[both] / 2
                assert np.median(np.hypot(*(over - mean).T)) < 0.3
