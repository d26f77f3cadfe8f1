"""`wmplan audit` as a whole: three scenes on a straight road, what it writes, how it goes on, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from critics.weights import CostWeights
from experiments.audit.command import run, words
from experiments.audit.contenders import ROAD, SCENE_MEAN, SHUFFLED
from experiments.audit.prepared import prepare
from experiments.audit.settings import AuditCommand
from experiments.cli import main
from experiments.logs import LogsConfig
from wmplan.errors import InputError

slow = pytest.mark.skipif(
    not os.environ.get("WMPLAN_SLOW"), reason="minutes of CPU: set WMPLAN_SLOW=1 to run the whole command"
)


@pytest.fixture
def asked(place: Path, tmp_path: Path) -> AuditCommand:
    logs = LogsConfig(format="store", path=str(place / "store"))
    return AuditCommand(
        logs=logs, model="cv", candidates=16, workers=1, out=str(tmp_path / "out"), cache=str(tmp_path), resamples=100
    )


@slow
def test_an_audit_writes_what_it_found_and_goes_on_where_it_stopped(asked: AuditCommand):
    assert run(asked) == 0
    out = Path(asked.out)
    rows = pd.read_parquet(out / "candidates.parquet")
    assert len(rows) == 3 * asked.candidates
    assert rows["real_pdms"].between(0.0, 1.0).all()
    rankings = pd.read_parquet(out / "rankings.parquet")
    assert {"cv", SHUFFLED, SCENE_MEAN, "persistence", ROAD} <= set(rankings["contender"])
    page = (out / "audit.html").read_text()
    assert "http" not in page
    assert page.count("data:image/png;base64,") >= 3
    heads = {one["name"]: one for one in json.loads((out / "audit.json").read_text())["headlines"]}
    assert heads["pairwise_accuracy within scenes, cv above shuffled"]["value"] == 0.0, "cv does not look at the plan"
    content = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    for folder in ("scores", "sealed/truth"):
        next((out / folder).glob("*.parquet")).unlink()
    assert run(replace(asked, workers=2)) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.parquet")} == content
    heavier = replace(asked, weights=CostWeights(shaping=0.5), model="cv")
    assert prepare(heavier).digest == prepare(asked).digest, "weights are applied afterwards"


def test_the_command_line_that_asks_for_an_audit_is_said_in_full(asked: AuditCommand):
    config = replace(asked, drivers="twin", scenes=5, logs=LogsConfig(n=200, seed=7000), placebos=False)
    assert words(config) == (
        "wmplan audit logs.n=200 logs.seed=7000 model=cv candidates=16 scenes=5 drivers=twin placebos=false"
    )
    assert "logs=store logs.path=" in words(asked)


def test_what_cannot_be_audited_is_refused_in_one_line(
    asked: AuditCommand, place: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["audit", "model=cv", "logs=store", f"logs.path={place / 'store'}", "candidates=4"]) == 1
    assert capsys.readouterr().err.strip() == "audit: candidates is 4, expected at least 16"
    with pytest.raises(InputError, match=r"placebos of 5000 candidates expect about \d+; or say placebos=false"):
        prepare(replace(asked, candidates=5000))
    with pytest.raises(InputError, match="expected at least 2 to audit"):
        prepare(replace(asked, logs=replace(asked.logs, split="val")))
    prepare(asked)
    other = replace(asked, seed=1)
    with pytest.raises(InputError, match="holds another audit"):
        prepare(other)
    prepare(replace(other, overwrite=True))
    prepare(other)
    shutil.rmtree(asked.out)
    Path(asked.out).mkdir()
    (Path(asked.out) / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is not empty and holds no audit"):
        prepare(asked)
    assert (Path(asked.out) / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"samples": 1}, "samples is 1"), ({"horizon_s": 0.7}, "horizon_s is 0.7"), ({"resamples": 5}, "resamples is 5")],
)
def test_numbers_that_no_audit_can_have(asked: AuditCommand, change: dict[str, float], message: str):
    with pytest.raises(InputError, match=message):
        replace(asked, **change).check()
