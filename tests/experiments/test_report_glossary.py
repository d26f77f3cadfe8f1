"""The report explains every column of the ledger, and no column that does not exist."""

from __future__ import annotations

import inspect

import critics
from critics import (
    InverseControlProbe,
    SupportDensity,
    SupportNeighbours,
    TaskConfig,
    TaskCritic,
    VistaConfig,
    VistaCritic,
)
from experiments.ledger import schema
from experiments.report.tables import GLOSSARY, LONGEST_HORIZON, glossary

TERMS = (
    *TaskCritic(TaskConfig(horizon=LONGEST_HORIZON)).columns,
    *VistaCritic(VistaConfig(members=2)).columns,
    *InverseControlProbe.columns,
    *SupportDensity.columns,
    *SupportNeighbours.columns,
)
COLUMNS = schema(TERMS).names


def test_no_critic_is_forgotten() -> None:
    public = [getattr(critics, name) for name in critics.__all__]
    known = {TaskCritic, VistaCritic, InverseControlProbe, SupportDensity, SupportNeighbours, critics.Composite}
    assert {item for item in public if inspect.isclass(item) and hasattr(item, "terms")} == known


def test_every_column_of_the_ledger_has_one_line_of_meaning() -> None:
    missing = [name for name in COLUMNS if not GLOSSARY.get(name, "").strip()]
    assert not missing, f"columns without a meaning: {missing}"
    assert all("\n" not in GLOSSARY[name] and len(GLOSSARY[name]) <= 110 for name in COLUMNS)


def test_no_meaning_outlives_its_column() -> None:
    assert sorted(set(GLOSSARY) - set(COLUMNS)) == []


def test_different_columns_mean_different_things() -> None:
    assert len(set(GLOSSARY.values())) == len(GLOSSARY)


def test_the_page_shows_the_meanings() -> None:
    page = glossary(["support_p", "not_a_column"])
    assert GLOSSARY["support_p"] in page
    assert "see the docs page on critics" in page
