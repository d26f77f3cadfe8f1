"""The notebooks run from top to bottom, with the shipped model, as a user would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "experiments" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path):
    """In a process of its own: a notebook's kernel is not held to this suite's warnings."""
    out = tmp_path / path.name
    code = (
        "import nbformat, sys\nfrom nbclient import NotebookClient\n"
        f"nb = nbformat.read({str(path)!r}, 4)\n"
        f"NotebookClient(nb, timeout=600, resources={{'metadata': {{'path': {str(tmp_path)!r}}}}}).execute()\n"
        f"nbformat.write(nb, {str(out)!r})\n"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    environment.pop("MPLBACKEND", None)  # the notebook chooses
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in nbformat.read(out, 4).cells if cell.cell_type == "code"]
    pictures = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    tables = [output for cell in cells for output in cell.outputs if "text/html" in output.get("data", {})]
    assert len(pictures) >= 2
    assert len(tables) >= 4
