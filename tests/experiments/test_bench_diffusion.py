"""`wmplan bench diffusion` says what it needs."""

from __future__ import annotations

import pytest

from experiments.bench.diffusion import DiffusionBench, run
from wmplan.errors import InputError


def test_a_model_of_another_family_is_refused(tmp_path):
    with pytest.raises(InputError, match="cv: family is cv, expected dit"):
        run(DiffusionBench(model="cv", store=str(tmp_path)))
