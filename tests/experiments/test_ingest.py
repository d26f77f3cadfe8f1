"""Ingest: one bad file costs itself and nothing else, and everything is told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.fields import fields_of
from experiments.ingest import IngestCommand, ingest, run
from wmplan.errors import InputError
from wmplan.readers import READERS
from wmplan.scene import Log
from wmplan.store import SceneStore
from wmplan.testing.logs import driving_log
from wmplan.windows import WindowConfig


class DrawnReader:
    """Files `*.drawn` hold a seed; "bad" is damaged, "bug" crashes the reader, "short" has no usable ego."""

    name = "drawn"

    def paths(self, source: Path) -> list[Path]:
        return sorted(source.glob("*.drawn")) if source.is_dir() else [source] if source.suffix == ".drawn" else []

    def read(self, path: Path) -> Iterator[Log]:
        text = path.read_text()
        if text == "bad":
            raise InputError(f"{path.name}: objects[3].heading is 'x', expected a number")
        if text == "bug":
            raise ZeroDivisionError("division by zero\nand more")
        yield driving_log(f"drawn-{text}", steps=20 if text == "short" else 120, seed=len(text))


@pytest.fixture
def drawn() -> Iterator[None]:
    READERS["drawn"] = DrawnReader()
    yield
    del READERS["drawn"]


def files(folder: Path, *texts: str) -> str:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number}.drawn").write_text(text)
    return str(folder)


@pytest.mark.usefixtures("drawn")
def test_good_files_go_on_past_bad_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = files(tmp_path / "logs", "one", "bad", "two", "bug", "short", "one")
    status = run(IngestCommand(source=source, out=str(tmp_path / "store")))
    assert status == 3
    store = SceneStore.open(tmp_path / "store")
    assert store.index().log_id.tolist() == ["drawn-one", "drawn-two"]
    failures = {item.file: item.message for item in store.manifest.failures}
    assert list(failures) == ["1.drawn", "3.drawn", "4.drawn", "5.drawn"]
    assert failures["1.drawn"] == "1.drawn: objects[3].heading is 'x', expected a number"
    assert failures["3.drawn"] == "ZeroDivisionError: division by zero and more"
    assert "drawn-short: no usable ego (20 steps of 0.1 s), expected the recording car" in failures["4.drawn"]
    assert "drawn-one: log id seen before in 0.drawn" in failures["5.drawn"]
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert [line.split(":")[0] for line in lines] == list(failures)
    assert "2 scenes" in told.out
    assert "4 failed" in told.out
    sources = {item.file: item for item in store.manifest.sources}
    assert (sources["0.drawn"].scenes, sources["1.drawn"].scenes) == (1, 0)
    assert sources["0.drawn"].sha256 == sources["5.drawn"].sha256 != sources["2.drawn"].sha256


@pytest.mark.usefixtures("drawn")
def test_the_same_logs_make_the_same_bytes_and_a_log_does_not_depend_on_the_others(tmp_path: Path) -> None:
    source = files(tmp_path / "logs", "one", "three", "eleven")
    for name in ("a", "b"):
        assert ingest(IngestCommand(source=source, out=str(tmp_path / name), ego="any")).status == 0
    contents = [
        {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("a", "b")
    ]
    assert contents[0] == contents[1]
    ingest(IngestCommand(source=f"{source}/1.drawn", out=str(tmp_path / "c"), ego="any"))
    alone, together = SceneStore.open(tmp_path / "c").index(), SceneStore.open(tmp_path / "a").index()
    columns = ["scene_id", "split", "t0_s", "speed_mps"]
    assert alone[columns].values.tolist() == together[together.log_id == "drawn-three"][columns].values.tolist()


@pytest.mark.usefixtures("drawn")
def test_nothing_usable_leaves_nothing(tmp_path: Path) -> None:
    source = files(tmp_path / "logs", "bad", "short")
    with pytest.raises(InputError, match=r"no scene from 2 files, expected at least one \(first: 0.drawn: objects"):
        ingest(IngestCommand(source=source, out=str(tmp_path / "store")))
    assert sorted(os.listdir(tmp_path)) == ["logs"]


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["source={logs}", "out={out}"], 0, "1 scenes"),
        (["source={logs}", "out={out}", "ego=any", "stride_s=1"], 0, "scenes"),
        (["source={logs}/none", "out={out}"], 1, "none: does not exist, expected a file or folder of logs"),
        (["source={empty}", "out={out}"], 1, "no logs found, expected files for"),
        (["source={logs}", "out={logs}"], 1, "exists already, expected a new folder"),
        (["source={logs}", "out={out}", "format=womd_jsn"], 1, "reader 'womd_jsn' is unknown"),
        (["source={logs}", "out={out}", "stride_s=0.01"], 1, "stride_s is 0.01, expected 0 or at least 0.1"),
        (["source={logs}", "out={out}", "val_fraction=1.5"], 1, "val_fraction is 1.5, expected at least 0 and below 1"),
        (["source={logs}", "out={out}", "limit=-1"], 1, "limit is -1, expected 0 or more"),
        (["source={logs}", "out={out}", "strid=1"], 2, "strid"),
    ],
)
def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    logs = files(tmp_path / "logs", "one")
    (tmp_path / "empty").mkdir()
    places = {"logs": logs, "out": str(tmp_path / "store"), "empty": str(tmp_path / "empty")}
    assert main(["ingest", *(argument.format(**places) for argument in arguments)]) == status
    told = capsys.readouterr()
    assert words in told.out + told.err
    if status:
        assert len(told.err.strip().splitlines()) == 1
        assert sorted(os.listdir(tmp_path)) == ["empty", "logs"]


def test_window_fields_say_the_same_as_their_dataclass() -> None:
    own = {item.path: (item.default, item.doc) for item in fields_of(IngestCommand)}
    for item in fields_of(WindowConfig):
        assert own[item.path] == (item.default, item.doc)
    assert all(doc for _, doc in own.values())


def test_real_folders_of_mixed_formats(real_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "mixed"
    source.mkdir()
    for folder, count in (("womd_json", 2), ("commonroad_sind", 2), ("womd_tfrecord", 2)):
        for path in sorted((real_data / folder).iterdir())[:count]:
            (source / path.name).symlink_to(path)
    (source / "other.db").write_bytes(b"no database")
    done = ingest(IngestCommand(source=str(source), out=str(tmp_path / "store"), ego="any"))
    store = SceneStore.open(done.out)
    assert set(store.index().dataset) == {"womd", "sind"}
    assert {item.file for item in done.failures} >= {"other.db"}
    assert json.loads((done.out / "manifest.json").read_text())["counts"]["scenes"] == len(store) == done.scenes
