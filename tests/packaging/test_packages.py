"""The five packages are ours, and stay apart."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("wmplan", "critics", "optimizers", "rollout_cache", "experiments")


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_ours(name):
    """Plain top-level names are shared with every other distribution; a foreign `critics` found first must be seen."""
    file = Path(importlib.import_module(name).__file__).resolve()
    installed = {Path(str(f.locate())).resolve() for f in importlib.metadata.files("wmplan") or []}
    assert file in installed or file == ROOT / name / "__init__.py"


@pytest.mark.parametrize("name", PACKAGES)
def test_package_says_what_it_is_for_and_exports_what_it_lists(name):
    module = importlib.import_module(name)
    assert len(module.__doc__) > 40
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public)
