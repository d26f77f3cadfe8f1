"""The store gives back what was put in, appears whole or not at all, and says in one line what is wrong with it."""

from __future__ import annotations

import json
import os
import tracemalloc
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmplan import shelf
from wmplan.errors import InputError
from wmplan.scene import Future, Scene
from wmplan.sealed import SealedFutures
from wmplan.store import SceneStore, split_of
from wmplan.store_writer import StoreWriter
from wmplan.testing.logs import driving_log
from wmplan.windows import WindowConfig, cut

CONFIG = WindowConfig(ego="any", stride_s=2.0)


def fill(out: Path, logs: int = 3, overwrite: bool = False) -> list[tuple[Scene, Future]]:
    """Write a store of drawn logs; what went in."""
    put = []
    with StoreWriter(out, CONFIG.map_radius_m, 0.3, {"source": "drawn"}, overwrite) as writer:
        for number in range(logs):
            log = driving_log(f"log{number}", seed=number, group=f"group{number // 2}")
            for scene, future in cut(log, CONFIG):
                writer.add(log, scene, future)
                put.append((scene, future))
        writer.finish([], [])
    return put


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal to the last bit, dtypes included."""
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


def test_what_comes_out_is_what_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamed and by id, over several row groups and part files."""
    monkeypatch.setattr(shelf, "GROUP_ROWS", 4)
    monkeypatch.setattr(shelf, "PART_BYTES", 100_000)
    put = fill(tmp_path / "store")
    store, sealed = SceneStore.open(tmp_path / "store"), SealedFutures.open(tmp_path / "store")
    assert len(store.manifest.parts["sealed"]) > 2
    assert store.scene_ids == tuple(scene.scene_id for scene, _ in put)
    for (scene, future), streamed, after in zip(put, store.scenes(), sealed.futures(), strict=True):
        assert same(streamed, scene)
        assert same(after, future)
    for scene, future in reversed(put):
        assert same(store.scene(scene.scene_id), scene)
        assert same(sealed.future(scene.scene_id), future)
    store.verify()


def test_arrays_can_be_written_to_and_are_nobody_elses(tmp_path: Path) -> None:
    put = fill(tmp_path / "store", 1)
    store = SceneStore.open(tmp_path / "store")
    scene = store.scene(store.scene_ids[0])
    scene.agents.states[:] = 7.0
    scene.road_map.points[:] = 7.0
    assert same(store.scene(store.scene_ids[0]), put[0][0])


def test_the_index_has_a_row_a_scene_and_the_split_keeps_groups_together(tmp_path: Path) -> None:
    put = fill(tmp_path / "store", 8)
    store = SceneStore.open(tmp_path / "store")
    index = store.index()
    assert index.scene_id.tolist() == [scene.scene_id for scene, _ in put]
    assert index.ego_id.tolist() == [scene.ego_id for scene, _ in put]
    assert (index.groupby("group").split.nunique() == 1).all()
    assert index.recorded_ego.sum() == (index.ego_id == "car0").sum()
    assert index.split.tolist() == [split_of(group, 0.3) for group in index.group]
    counts = store.manifest.counts
    assert counts["train"] + counts["val"] == counts["scenes"] == len(put)
    assert (counts["logs"], counts["groups"]) == (8, 4)


def test_a_split_is_of_the_group_alone_and_grows_with_the_fraction() -> None:
    groups = [f"recording-{i}" for i in range(4000)]
    small = {g for g in groups if split_of(g, 0.1) == "val"}
    large = {g for g in groups if split_of(g, 0.3) == "val"}
    assert small < large
    assert len(large) / 4000 == pytest.approx(0.3, abs=0.03)
    assert [split_of(g, 0.0) for g in groups[:50]] == ["train"] * 50
    assert [split_of(f"us101-{x}", 0.2) for x in "abce"] == ["train", "train", "train", "train"]


def test_the_digest_is_of_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "a")
    fill(tmp_path / "c", 2)
    monkeypatch.setattr(shelf, "GROUP_ROWS", 3)
    fill(tmp_path / "b")
    a, b, c = (SceneStore.open(tmp_path / name) for name in "abc")
    assert a.digest == b.digest != c.digest
    assert a.manifest.sealed_digest == b.manifest.sealed_digest != c.manifest.sealed_digest


def test_maps_are_stored_once_a_log(tmp_path: Path) -> None:
    put = fill(tmp_path / "store")
    parts = SceneStore.open(tmp_path / "store").manifest.parts
    assert sum(part.rows for part in parts["maps"]) == 3
    assert sum(part.rows for part in parts["scenes"]) == sum(part.rows for part in parts["sealed"]) == len(put)


def test_a_store_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    before = SceneStore.open(tmp_path / "store").digest
    with pytest.raises(InputError, match="exists already, expected a new folder"):
        fill(tmp_path / "store", 2)
    assert SceneStore.open(tmp_path / "store").digest == before
    fill(tmp_path / "store", 2, overwrite=True)
    assert SceneStore.open(tmp_path / "store").digest != before
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is not a store, expected one to overwrite"):
        fill(precious, 1, overwrite=True)
    assert (precious / "thesis.tex").exists()


def test_an_exception_leaves_nothing_and_the_old_store_stays(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    before = SceneStore.open(tmp_path / "store").digest
    log = driving_log()
    scene, future = next(cut(log, CONFIG))

    def broken() -> None:
        with StoreWriter(tmp_path / "store", 150.0, 0.2, {}, True) as writer:
            writer.add(log, scene, future)
            raise RuntimeError("mid way")

    with pytest.raises(RuntimeError, match="mid way"):
        broken()
    assert os.listdir(tmp_path) == ["store"]
    assert SceneStore.open(tmp_path / "store").digest == before


def test_what_a_killed_ingest_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "store.partial" / "scenes").mkdir(parents=True)
    (tmp_path / "store.partial" / "scenes" / "part-00000.parquet").write_bytes(b"half")
    fill(tmp_path / "store", 1)
    assert os.listdir(tmp_path) == ["store"]


def test_memory_does_not_grow_with_the_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the scenes, the same peak of the writer's and the stream's own memory."""
    monkeypatch.setattr(shelf, "GROUP_ROWS", 8)
    log = driving_log(cars=30)
    ((scene, future),) = cut(log, WindowConfig())

    def peak(count: int) -> float:
        out = tmp_path / f"store{count}"
        tracemalloc.start()
        with StoreWriter(out, 150.0, 0.2, {}) as writer:
            for number in range(count):
                one = replace(scene, scene_id=f"s{number}", log_id=f"l{number}")
                writer.add(replace(log, log_id=f"l{number}"), one, replace(future, scene_id=f"s{number}"))
            writer.finish([], [])
        for _ in SceneStore.open(out).scenes():
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(30)
    assert peak(600) < 1.5 * peak(60)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda s: (s / "manifest.json").unlink(), "no manifest.json, expected a store made by"),
        (lambda s: (s / "manifest.json").write_text("{"), "manifest.json: unreadable"),
        (lambda s: (s / "manifest.json").write_text("[]"), "schema_version is None, expected 2"),
        (lambda s: (s / "scenes" / "part-00000.parquet").unlink(), "part-00000.parquet: is missing, expected"),
        (lambda s: cut_short(s / "maps" / "part-00000.parquet"), r"has \d+ bytes, expected \d+ bytes"),
        (lambda s: garble(s / "scenes" / "part-00000.parquet"), "damaged .*ingest again"),
    ],
)
def test_a_damaged_store_is_told_in_one_line(tmp_path: Path, damage: Any, words: str) -> None:
    fill(tmp_path / "store", 1)
    damage(tmp_path / "store")
    with pytest.raises(InputError, match=words) as error:
        SceneStore.open(tmp_path / "store")
    assert "\n" not in str(error.value)


def test_another_version_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    for change, words in (({"schema_version": 99}, "schema_version is 99, expected 2"), ({"extra": 1}, "extra")):
        (tmp_path / "store" / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(InputError, match=words):
            SceneStore.open(tmp_path / "store")


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    path = tmp_path / "store" / "scenes" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="sha256"):
        SceneStore.open(tmp_path / "store").verify()


def test_an_unknown_scene_is_told(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    with pytest.raises(InputError, match="no scene 'nowhere'"):
        SceneStore.open(tmp_path / "store").scene("nowhere")
    with pytest.raises(InputError, match="no future of scene 'nowhere'"):
        SealedFutures.open(tmp_path / "store").future("nowhere")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def garble(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)
