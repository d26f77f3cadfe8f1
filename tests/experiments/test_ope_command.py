"""`wmplan ope` as it is called; the whole command takes minutes of CPU and runs where WMPLAN_SLOW is set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.cli import main
from experiments.ope import shards
from experiments.ope.entrants import known, policy_of, wanted
from experiments.ope.held import HELD, rhythm_of
from experiments.ope.recorded import words
from experiments.ope.results import TABLES, Finished
from experiments.ope.settings import OpeCommand
from wmplan.errors import InputError
from wmplan.simulator.policies.mixture import COMPONENTS, HOLD_STEPS, named

SLOW = pytest.mark.skipif(
    not os.environ.get("WMPLAN_SLOW"), reason="minutes of CPU: set WMPLAN_SLOW=1 to run the whole command"
)
OWN = """
import time
import jax
import jax.numpy as jnp

@jax.tree_util.register_static
class Fine:
    deterministic = True
    def act(self, situation, key):
        return jnp.zeros((*situation.worlds.steps.shape, 2))

@jax.tree_util.register_static
class Raises(Fine):
    def act(self, situation, key):
        raise RuntimeError("no idea")

@jax.tree_util.register_static
class Wrong(Fine):
    def act(self, situation, key):
        return jnp.zeros((*situation.worlds.steps.shape, 3))

@jax.tree_util.register_static
class Sleeps(Fine):
    def act(self, situation, key):
        time.sleep(1000.0)
"""


def command(out: Path, *more: str) -> list[str]:
    logs, policies = "simulator:n=2,seed=7000,behaviour=mixture", "[idm_normal,constant_velocity,held_normal]"
    plain = [f"logs='{logs}'", f"policies={policies}", "models=[cv]", "beside=[persistence,log-replay,open-loop]"]
    return ["ope", *plain, "scores=[pdms]", "draws=1", f"out={out}", "mlflow=false", *more]


def test_names_and_groups_of_policies() -> None:
    everyone = wanted(("all",))
    assert len(everyone) == len(known()) >= 16
    assert set(wanted(("graded", "held"))) == set(everyone)
    assert wanted(("idm_brisk", "graded"))[0] == "idm_brisk"
    assert len(wanted(("idm_brisk", "graded"))) == len(wanted(("graded",)))
    with pytest.raises(InputError, match=r"there is no policy 'idm_brsk', did you mean idm_brisk\?"):
        wanted(("idm_brsk",))


def test_the_logged_mixtures_members_are_among_the_policies_that_hold() -> None:
    behaviour = named("mixture")
    for name, member in zip(behaviour.names, behaviour.policies):
        held = HELD[f"held_{name.removeprefix('idm_')}"]
        assert held.policy == member
        assert rhythm_of(held) == HOLD_STEPS == behaviour.hold
    assert set(COMPONENTS) <= {f"idm_{name.removeprefix('held_')}" for name in HELD}


def test_a_policy_of_ones_own_is_an_object_or_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ope_own_policies.py").write_text(OWN + "\nready = Fine()\ndef make(): return Fine()\nnumber = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Fine", "ready", "make"):
        assert type(policy_of(f"ope_own_policies:{name}")).__name__ == "Fine"
    with pytest.raises(InputError, match="has no attribute 'nobody'"):
        policy_of("ope_own_policies:nobody")
    with pytest.raises(InputError, match="is a int, expected act"):
        policy_of("ope_own_policies:number")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("policies=[idm_norml]", "did you mean idm_normal?"),
        ("scores=[pmds]", "scores holds 'pmds', expected some of pdms"),
        ("beside=[cvv]", "beside holds 'cvv'"),
        ("horizon_s=3.2", "expected a multiple of 0.5"),
        ("draws=0", "draws is 0, expected at least 1"),
        ("models=[nanoo]", "model: 'nanoo' is not known"),
        ("logs='simulator:n=2,sed=1'", "field 'sed'"),
        ("logs=/nowhere/at/all", "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ope", f"out={tmp_path / 'out'}", "models=[cv]", words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_recorded_command_says_what_was_asked_and_nothing_of_this_machine() -> None:
    asked = OpeCommand(draws=4, road="twin", out="/somewhere/of/mine", cache="", record=True, models=("a", "b"))
    assert words(asked) == "wmplan ope models=[a,b] road=twin draws=4"


@SLOW
def test_the_command_again_and_killed_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(command(first, "workers=1")) == 0
    found = Finished.open(first)
    assert found.manifest.policies == ("idm_normal", "constant_velocity", "held_normal")
    assert found.manifest.estimators[:4] == ("cv", "persistence", "log-replay", "open-loop")
    began = time.perf_counter()
    assert main(command(first)) == 0
    assert time.perf_counter() - began < 60.0
    assert Finished.open(first).manifest == found.manifest
    # Killed when its first shard is there, the same command goes on.
    process = subprocess.Popen([sys.executable, "-m", "experiments.cli", *command(second, "workers=2")])
    while process.poll() is None and not list((second / "estimates").glob("*.parquet")):
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (second / "manifest.json").exists()
    assert main(command(second, "workers=2")) == 0
    for name in TABLES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    # Truth of other scenes is refused with the difference.
    lost = sorted((second / "truth" / "sealed" / "road").glob("*.parquet"))[0]
    lost.unlink()
    capsys.readouterr()
    assert main(command(first, f"truth={second}")) == 1
    assert f"only estimates have 1: {lost.stem}; expected the same" in capsys.readouterr().err


@SLOW
def test_logged_decisions_are_weighed_and_their_rewards_are_the_judges(tmp_path: Path) -> None:
    assert main(command(tmp_path / "out")) == 0
    rows = shards.read(tmp_path / "out", shards.DECISIONS)
    assert (rows.groupby("scene_id").size() == 16).all()
    weights = np.exp((rows["target/held_normal"] - rows["behaviour"]).groupby(rows["scene_id"]).sum())
    assert (weights <= 1.0 / COMPONENTS["idm_normal"] + 1e-6).all()
    metres = rows.groupby("scene_id")["reward/progress_m"].sum()
    ego = shards.read(tmp_path / "out", shards.EGO).groupby("scene_id").last()
    assert np.allclose(metres, np.hypot(ego["x"], ego["y"])[metres.index], rtol=0.1)


@SLOW
def test_policies_that_cannot_drive_are_listed_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ope_own_policies.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    names = ",".join(f"'ope_own_policies:{name}'" for name in ("Fine", "Raises", "Wrong", "Sleeps"))
    out = tmp_path / "out"
    assert main(command(out, f"policies=[idm_normal,constant_velocity,{names}]", "timeout_s=40")) == 3
    found = Finished.open(out)
    why = dict(zip(found.failures["policy"], found.failures["reason"]))
    assert "no idea" in why["ope_own_policies:Raises"]
    assert "expected floating-point numbers of shape (1, 2)" in why["ope_own_policies:Wrong"]
    assert why["ope_own_policies:Sleeps"] == "took more than 40 s for its first steps"
    assert len(found.manifest.policies) == 3
    values = found.values.pivot_table(index="policy", columns="side", values="pdms")
    pd.testing.assert_series_equal(
        values.loc["ope_own_policies:Fine"], values.loc["constant_velocity"], check_names=False, atol=1e-6
    )
