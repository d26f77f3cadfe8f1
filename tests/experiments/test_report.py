"""The report: self-contained, says what the tables say, and a real browser shows it without an error."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.agreement import AGREEMENT, OUTCOMES
from experiments.finished import FinishedStudy
from experiments.ledger import LEDGER, PER_SCENE
from experiments.report.tables import number, ranking, table
from experiments.report.trust import trust_of
from experiments.study import run
from wmplan.errors import InputError


@pytest.fixture(scope="module")
def report(first: Path, place: Path, config) -> Path:
    """The report of the small study."""
    assert run(config(out=str(place / "drawn"), report=True)) == 0
    return place / "drawn" / "report.html"


def test_an_equal_study_shows_the_same_page_and_draws_nothing(report: Path, place: Path, studied_apart):
    loaded, _ = studied_apart("drawn_again", "mlflow=false", "name=study")
    assert loaded == []
    assert (place / "drawn_again" / "report.html").read_bytes() == report.read_bytes()
    about = json.loads((place / "drawn_again" / "config.json").read_text())
    assert about["config"]["out"] not in report.read_text()


def test_the_page_needs_nothing_from_outside(report: Path):
    page = report.read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|\#)""", page)
    assert "http" not in page.split("<body>")[1].split('id="provenance"')[0]


def test_the_page_shows_each_planner_and_every_scene_with_its_chosen_candidates(report: Path, first: Path):
    page, ledger = report.read_text(), pd.read_parquet(first / LEDGER)
    for planner in ledger["planner"].unique():
        assert f">{planner}<" in page
    for scene in ledger["scene_id"].unique():
        assert f'id="scene-{scene}"' in page
    chosen = ledger[ledger["chosen"]]
    assert page.count('<tr class="chosen">') == len(chosen)
    for cost in chosen["cost"]:
        assert f"<td>{number(float(cost))}</td>" in page


def test_no_rank_agreement_is_claimed_from_a_handful_of_scenes(first: Path):
    study = FinishedStudy.open(first)
    trust = trust_of("cv", study.agreement)
    assert not any(layer.cleared for layer in trust.layers)
    assert trust.warning


def test_ranking_table_keeps_the_chosen_row_however_dear_it_is():
    rows = pd.DataFrame(
        {
            "planner": "p",
            "row": range(10),
            "cost": [float(i) for i in range(10)],
            "verdict": ["refused"] * 9 + ["trusted"],
            "chosen": [False] * 9 + [True],
        }
    )
    page = ranking(rows, ["planner", "row", "cost", "verdict", "chosen"], cheapest=3, refused=1)
    assert page.count("<tr") == 1 + 3 + 1
    assert '<tr class="chosen">' in page


def test_a_cell_cannot_inject_markup():
    page = table(pd.DataFrame({"a": ["<script>alert(1)</script>"]}))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_numbers_read_as_a_person_writes_them():
    assert [number(x) for x in (float("nan"), float("inf"), 0.12345, 3.2e-7, True, 7)] == [
        "–", "∞", "0.123", "3.20e-07", "yes", "7",
    ]  # fmt: skip


def test_an_unfinished_folder_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"no ranked_actions.parquet, .* expected the folder of a finished study"):
        FinishedStudy.open(tmp_path)


def test_a_browser_shows_every_picture_without_an_error(report: Path):
    """With Debian's Chromium, where Playwright and it are installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser extra is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(request.url[:100]))
        page.goto(report.as_uri())
        sizes = page.eval_on_selector_all("img", "images => images.map(i => i.naturalWidth)")
        wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        head = page.locator("table.sortable").first.locator("th").nth(1)
        head.click()
        browser.close()
    assert errors == []
    assert len(sizes) >= 6
    assert min(sizes) > 100
    assert wide


def test_a_field_that_is_younger_than_a_study_has_its_default(tmp_path: Path) -> None:
    for name in (LEDGER, PER_SCENE, OUTCOMES, AGREEMENT):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text(json.dumps({"digest": "d", "config": {"samples": 9}}))
    about = FinishedStudy.open(tmp_path).about
    assert about["config"]["samples"] == 9
    assert about["config"]["precision"] == "float32"
    assert about["digest"] == "d"
