"""`wmplan validate`: a small store through every layer, what it writes, what it refuses, how it goes on."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import main
from experiments.report.trust import trust_of
from experiments.validate.command import _done, _sweep, validate
from experiments.validate.contenders import RANDOM, contenders, untrained
from experiments.validate.instrument import ACCURACY, REACTION, TWIN, Result, cleared
from experiments.validate.measuring import FitRows, Work
from experiments.validate.page import PAGE, write_page
from experiments.validate.record import FILE, Recorded, record, recorded
from experiments.validate.scenes import FIT, LEAST_SCENES, Scenes, beside, of_source, of_store
from experiments.validate.settings import Settings, ValidateCommand
from wmplan.errors import InputError
from wmplan.models import load_model
from wmplan.scene import STEP_S, Lights, Log
from wmplan.statistics import Measure
from wmplan.store import SceneStore, split_of
from wmplan.store_writer import StoreWriter
from wmplan.testing.scenes import Body, straight_road

pytestmark = pytest.mark.skipif(
    not os.environ.get("WMPLAN_SLOW"), reason="minutes of CPU: set WMPLAN_SLOW=1 to run the whole command"
)
NANO = Path(__file__).resolve().parents[2] / "experiments" / "checkpoints" / "nano"
VAL_FRACTION = 0.75


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes on a straight road, the ego speeding up or braking, a follower behind it in one of four."""
    path = tmp_path_factory.mktemp("validate") / "store"
    rng = np.random.default_rng(0)
    with StoreWriter(path, 150.0, VAL_FRACTION, {}) as writer:
        for number in range(46):
            speed = float(rng.uniform(6.0, 10.0))
            bodies = [Body(20.0, 3.5, speed=7.0), Body(12.0, -3.5, speed=9.0)]
            bodies += [Body(-9.0, 0.0, speed=speed)] if number % 4 == 0 else []
            scene, future = straight_road(bodies, speed, f"road-{number}")
            times = STEP_S * np.arange(1, future.ego.states.shape[1] + 1)
            accel = float(rng.uniform(-1.0, 1.0))
            future.ego.states[0, :, 0] = speed * times + 0.5 * accel * times**2 * (times < 3.0)
            future.ego.states[0, :, 0] += (3.0 * accel * times - 4.5 * accel) * (times >= 3.0)
            future.ego.states[0, :, 3] = speed + accel * np.minimum(times, 3.0)
            log = Log(scene.log_id, scene.group, scene.dataset, scene.log_id, STEP_S, scene.ego, scene.road_map,
                      Lights.none(scene.ego.valid.shape[1]), scene.ego_id)  # fmt: skip
            writer.add(log, scene, future)
        writer.finish([], [])
    return path


@pytest.fixture(scope="module")
def config(store: Path) -> ValidateCommand:
    return ValidateCommand(
        model="cv",
        store=str(store),
        out=str(store.parent / "out"),
        cache=str(store.parent / "cache"),
        samples=1,
        layers=("L1", "L3", "L4"),
        still_share=0.1,
        fit_scenes=8,
        scenes=LEAST_SCENES,
        workers=1,
    )


@pytest.fixture(scope="module")
def done(config: ValidateCommand):
    return validate(config)


def figures(done, model: str) -> dict[str, Measure]:
    return {f"{one.part}: {one.measure.metric}": one.measure for one in done.results if one.model == model}


def test_the_truth_clears_what_a_forecast_cannot_and_the_forecast_does_not_react(done):
    oracle, cv, floor = (figures(done, name) for name in ("oracle", "cv", "action-blind"))
    slope = f"{REACTION}: reaction slope, all"
    assert oracle[slope].value == pytest.approx(1.0, abs=0.05)
    assert floor[slope].value == cv[slope].value == 0.0
    assert oracle["L4 controllability: controllability rho_all"].value > 0.9
    assert cv["L4 controllability: controllability coverage"].value == 0.0
    assert cv["L4 inverse control: inverse control over the best constant, all"].value == pytest.approx(1.0)
    assert oracle["L1 accuracy: soft_iou, any, 3 s"].value == pytest.approx(1.0)
    assert oracle["L3 permanence: lost, in sight, 3 s"].value <= 0.05
    assert cleared(done.results, "oracle", "L4")[0], cleared(done.results, "oracle", "L4")[1]
    verdict, missed = cleared(done.results, "cv", "L4")
    assert verdict is False
    assert any("reaction slope, all" in line for line in missed)


def test_the_results_are_one_json_that_says_what_was_measured_on_what(done, config: ValidateCommand, store: Path):
    content = json.loads((Path(config.out) / FILE).read_text())
    assert content["model"]["name"] == "cv"
    assert content["data"]["digest"] == SceneStore.open(store).digest
    assert content["data"]["scenes"] == LEAST_SCENES
    assert set(content["layers"]) == set(config.layers)
    assert content["layers"]["L4"]["cleared"] is False
    parts = {row["part"] for row in content["measures"]}
    assert {REACTION, TWIN, "L1 accuracy", "L3 permanence"} <= parts
    assert {row["model"] for row in content["measures"] if row["part"] == REACTION} == {
        "cv", "persistence", "oracle", "action-blind"
    }  # fmt: skip
    assert not (Path(config.out) / "parts").exists(), (
        "rows of tasks are kept only while there is something to go on with"
    )


def test_the_page_is_whole_and_links_nowhere(done):
    page = write_page(done.verdict, done.results, done.rows).read_text()
    assert (done.verdict.out / PAGE).is_file()
    assert "http" not in page
    assert "L4" in page
    assert page.count("data:image/png;base64,") >= 4
    assert "not cleared" in page


def test_more_processes_and_a_stop_on_the_way_change_nothing(done, config: ValidateCommand, tmp_path: Path):
    """Tasks that an earlier run did are read: a model that cannot be loaded is never asked."""
    scenes = of_store(Path(config.store), "val", config.scenes, frozenset())
    first = replace(scenes, items=scenes.items[:8])
    settings = Settings(
        replace(config, layers=("L4",)), "cv", sweep=_sweep([FitRows(np.array([-2.0, -1.0, 0.0, 1.0]))])
    )
    sources = (("scenes", config.store, ""),)
    made = _done(Work(settings, (first,), sources), first, tmp_path, "validate")
    broken = Work(replace(settings, model="no such model"), (first,), sources)
    again = _done(broken, first, tmp_path, "validate")
    assert [one.scene_id for one in made] == [one.scene_id for one in again] == list(first.items)
    rows = [one.rows[REACTION]["oracle"] for one in again if one.rows]
    assert len(rows) < len(first.items), "where nobody reacts, most scenes are only looked at"
    assert all(np.isfinite(row.true[:, 0]).any() for row in rows)


def test_what_was_cleared_is_recorded_beside_the_checkpoint_by_data(done, tmp_path: Path):
    def entry(model: str, data: str, cleared: bool | None) -> dict:
        return done.verdict.summary() | {
            "model": {"name": "m", "digest": model},
            "data": {"name": data, "digest": data},
            "layers": {"L4": {"cleared": cleared, "missed": []}, "L1": {"cleared": None, "missed": []}},
        }

    assert recorded(tmp_path, "m") == {}
    for one in (entry("m", "a", False), entry("m", "b", False), entry("m", "a", True)):
        record(tmp_path, one)
    assert recorded(tmp_path, "m") == {"L4": Recorded(("a",), ("b",))}
    assert recorded(tmp_path, "m")["L4"].state == "cleared on a, not cleared on b"
    assert recorded(tmp_path, "another") == {}, "said of the very model or of none"
    record(tmp_path, entry("trained again", "a", False))
    assert recorded(tmp_path, "m") == {}
    (tmp_path / FILE).write_text("[{}]")
    with pytest.raises(InputError, match="expected what wmplan validate record=true wrote"):
        recorded(tmp_path, "m")
    with pytest.raises(InputError, match="no checkpoint to write it beside"):
        validate(replace(done.verdict.config, record=True))


def test_a_studys_report_says_what_was_cleared_on_which_data(done, tmp_path: Path):
    unknown = {"n": 0, "value": None, "lower": None, "upper": None}
    agreement = {"order": {"unseen": {"pairwise_accuracy": unknown}}}
    checkpoint = tmp_path / "nano"
    shutil.copytree(NANO, checkpoint, ignore=shutil.ignore_patterns("validation.json"))
    before = {layer.name: layer for layer in trust_of(str(checkpoint), agreement).layers}
    assert before["L4"].state == "not measured"
    summary = done.verdict.summary() | {
        "model": {"name": "nano", "digest": load_model(checkpoint).digest},
        "layers": {"L3": {"cleared": True, "missed": []}, "L4": {"cleared": False, "missed": ["slope"]}},
    }
    record(checkpoint, summary)
    trust = trust_of(str(checkpoint), agreement)
    after = {layer.name: layer for layer in trust.layers}
    assert after["L3"].cleared
    assert after["L3"].state == f"cleared on {done.verdict.data}"
    assert not after["L4"].cleared
    assert after["L2"].state == "not measured"
    assert "Nothing here shows that imagined road users react" in trust.text


def test_a_layer_is_cleared_by_every_gate_and_by_none_that_was_not_measured():
    def one(metric: str, kept: bool | None, part: str = REACTION) -> Result:
        return Result(part, "m", Measure(1.0, 3, metric=metric, gate="at least 1", cleared=kept))

    assert cleared([one("a", True), one("b", True)], "m", "L4") == (True, [])
    assert cleared([one("a", True), one("b", None)], "m", "L4")[0] is False
    assert cleared([one("a", True), one("b", False, TWIN)], "m", "L4")[0] is True, "the twin is reported, not judged"
    assert cleared([one("a", True)], "m", "L1") == (None, [])
    absent = Result(ACCURACY, "m", Measure(float("nan"), 0, metric="c", gate="above 0", cleared=None))
    assert cleared([absent], "m", "L1") == (None, []), "a class that the data lacks is skipped"
    assert cleared([absent, one("a", True, ACCURACY)], "m", "L1") == (True, [])
    assert cleared([one("a", False)], "another", "L4")[0] is None


# ------------------------------------------------------------------------------------------------------- refusals


def test_too_few_scenes_are_refused_in_one_line(store: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", "model=cv", f"store={store}", "split=train"]) == 1
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert f"expected at least {LEAST_SCENES} to validate on" in message
    index = SceneStore.open(store).index()
    val = [name for name in index["group"] if split_of(name, VAL_FRACTION) == "val"]
    with pytest.raises(InputError, match=rf"{len(val) - 1} more were trained on"):
        of_store(store, "val", 0, frozenset(val[1:]))
    with pytest.raises(InputError, match="0 logs that the model was not trained on"):
        of_source("simulator:n=4,seed=9", 3.0, frozenset(["sim-mixed-9-map0"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": ("L5",)}, "layers holds 'L5'"),
        ({"layers": ()}, "layers is empty"),
        ({"split": "test"}, "split is 'test'"),
        ({"samples": 0}, "samples is 0, expected at least 1"),
        ({"still_share": 1.5}, "still_share is 1.5"),
        ({"stride_s": 0.1}, "stride_s is 0.1"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(change: dict, words: str):
    with pytest.raises(InputError, match=words):
        replace(ValidateCommand(), **change).check()


def test_egos_that_never_accelerate_give_no_sweep():
    with pytest.raises(InputError, match=r"span 0\.00 to 0\.00 m/s2"):
        _sweep([FitRows(np.zeros(20))])
    sweep = _sweep([FitRows(np.linspace(-3.0, 2.0, 101))])
    assert sweep.low == pytest.approx(-2.75)
    assert sweep.high == pytest.approx(1.75)


# ------------------------------------------------------------------------------------------------- who, and where


def test_the_untrained_network_is_another_model_and_always_the_same():
    found = contenders(str(NANO))
    assert list(found) == ["nano", "persistence", "cv", RANDOM]
    assert found[RANDOM].digest != found["nano"].digest
    once, again = (untrained(NANO).network.state_dict() for _ in range(2))
    assert all((once[name] == again[name]).all() for name in once)


def test_scenes_by_task_are_all_scenes_once():
    scenes = Scenes("scenes", tuple(map(str, range(19))), "digest", "words")
    assert [item for task in scenes.tasks for item in scenes.of(task)] == list(scenes.items)
    fit, source = beside("simulator:n=50,seed=7,map=merge", 20, 3.0)
    assert fit.purpose == FIT
    assert source == f"simulator:n={len(fit.items)},seed=8,map=merge,behaviour=explore"
