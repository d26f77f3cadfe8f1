"""`wmplan policies`: PPO policies trained on the simulator and saved at several stages, and what each policy of graded
skill is truly worth."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from experiments.bench.rows import Rows
from experiments.files import write_text
from experiments.progress import say
from experiments.results import FOLDER, commit, hardware
from wmplan.errors import InputError
from wmplan.simulator.maps import MAPS
from wmplan.simulator.policies.graded import IDM, graded
from wmplan.simulator.policies.learned import Learned
from wmplan.simulator.policies.training import Ppo
from wmplan.simulator.policies.weights import Card, save_policy
from wmplan.simulator.policies.worth import HELD_OUT, Worth, ground, true_value
from wmplan.simulator.starts import ALL, EVERY_MAP, MERGE

CHECKPOINTS = Path(__file__).parent / "checkpoints" / "policies"
"""The weights and the true values that ship."""
GOAL_S = 600.0
"""From nothing to better than every IDM driver."""
SPARSER = 1.25
"""A policy in training is judged again after so many times the steps."""
TRAINING, SELECTION = 1_000, 300_000
"""Seeds of the first map to train on, and of the first to choose stages by; true values are from `HELD_OUT` on."""


@dataclass(frozen=True)
class PoliciesConfig:
    """What is trained, or judged."""

    task: Literal["values", "train"] = "values"
    """values: what every policy is truly worth; train: PPO, saved at several stages"""
    folder: str = ""
    """where weights and values are; empty: those that ship"""
    kinds: tuple[str, ...] = tuple(MAPS)
    """kinds of maps that policies are judged on"""
    maps: int = 64
    """held-out maps of each kind"""
    episodes: int = 1024
    """drives of each policy on each kind of maps, a multiple of 256"""
    train_on: str = "merge"
    """kind of maps to train on, or all"""
    train_maps: int = 64
    """maps to train on"""
    starts: int = 2048
    """settled worlds in which drives begin in training, a multiple of 256"""
    ending: float = 0.0
    """least share of the drives in training that begin in a lane that ends, where there is one"""
    looks: int = 200
    """times that the policy in training may be judged, at equal distances; it is at every one at first, later ever less
    often"""
    stages: int = 5
    """how many of them are saved"""
    ppo: Ppo = field(default_factory=Ppo)
    results: str = str(FOLDER)
    """folder of the results"""


@dataclass(frozen=True)
class Look:
    """The policy after so many steps and seconds, and what it is worth with and without the draw."""

    steps: int
    seconds: float
    cpu_s: float
    policy: Learned
    worth: Worth
    greedy: Worth


def run(config: PoliciesConfig) -> int:
    """Train or judge; the exit status."""
    return _train(config) if config.task == "train" else _judge(config)


def stages(values: list[float], count: int) -> list[int]:
    """Which looks to keep: the first, the best, and between them those that come nearest to equal steps of the value;
    values rise from each to the next.

    Raises:
        InputError: fewer different stages than asked for.
    """
    best = max(range(len(values)), key=values.__getitem__)
    kept = [0]
    for step in range(1, count):
        wanted = values[0] + (values[best] - values[0]) * step / (count - 1)
        later = [i for i in range(kept[-1] + 1, best + 1) if values[i] > values[kept[-1]]]
        if not later:
            raise InputError(f"stages: {count}, expected at most {len(kept)}, which is how often the value has risen")
        kept.append(best if step == count - 1 else min(later, key=lambda i: abs(values[i] - wanted)))
    return kept


def _train(config: PoliciesConfig) -> int:
    from wmplan.simulator.brax_env import make_env
    from wmplan.simulator.policies.training import train

    where = ground(config.train_on, config.maps, config.episodes, SELECTION)
    rivals = [true_value(name, policy, where) for name, policy in IDM.items()]
    began, cpu = time.perf_counter(), time.process_time()
    # The clock runs from here: maps, settled worlds, compilation and the looks are part of the training.
    sizes = MERGE if config.train_on == "merge" else EVERY_MAP
    environment = make_env(config.train_on, config.train_maps, TRAINING, sizes, config.starts, config.ending)
    looks: list[Look] = []
    command = _command(config)
    latest = 0

    def look(steps: int, policy: Learned) -> None:
        nonlocal latest
        latest = steps
        if looks and steps < min(SPARSER * looks[-1].steps, config.ppo.steps):
            return
        drawn = true_value(f"ppo after {steps} steps", policy, where)
        greedy = true_value(f"ppo after {steps} steps, greedy", policy.most_likely(), where)
        looks.append(Look(steps, time.perf_counter() - began, time.process_time() - cpu, policy, drawn, greedy))
        say(f"{looks[-1].seconds:6.0f} s  {_line(drawn)}\n          {_line(greedy)}")

    try:
        train(environment, config.ppo, config.looks, look)
    except KeyboardInterrupt:
        if len(looks) < config.stages:
            raise
        say(f"interrupted: what {latest} steps have brought is kept")
        command += f" (interrupted after {latest} steps)"
    kept = stages([one.worth.value for one in looks], config.stages)
    for number, index in enumerate(kept, 1):
        one = looks[index]
        card = Card(f"{config.train_on}, seeds {TRAINING} on", one.steps, command, commit(), hardware())
        save_policy(_folder(config) / f"ppo_{config.train_on}_{number}.safetensors", one.policy, card)
    _record(config, looks, rivals, command)
    return 0


def _record(config: PoliciesConfig, looks: list[Look], rivals: list[Worth], command: str) -> None:
    """What came out. Looks are chosen on maps of their own; what is said of them is measured on maps that neither
    training nor the choice has seen."""
    chosen = next((one for one in looks if _better(one.greedy, rivals)), None)
    best = max(looks, key=lambda one: one.greedy.value)
    where = ground(config.train_on, config.maps, config.episodes, HELD_OUT)
    them = [true_value(name, policy, where) for name, policy in IDM.items()]
    rival = max(them, key=lambda worth: worth.value)
    last = true_value("ppo", best.policy.most_likely(), where)
    # The first that was better where looks are chosen counts if it is better here too.
    first = true_value("ppo", chosen.policy.most_likely(), where) if chosen else last
    confirmed = chosen if _better(first, them) else None
    rows = Rows(3, command, config.results, "" if config.train_on == "merge" else config.train_on)
    name = "PPO from nothing to better than every IDM variant on the merge"
    seconds = confirmed.seconds if confirmed else float("nan")
    rows.write(f"{name}, s", seconds, "600", bool(confirmed) and seconds <= GOAL_S)
    rows.write(f"{name}, CPU s of that", confirmed.cpu_s if confirmed else float("nan"))
    rows.write("best IDM variant, return of 10 s", rival.value, interval=rival.interval, n=rival.episodes)
    rows.write("best PPO stage, return of 10 s", last.value, interval=last.interval, n=last.episodes)
    rows.write("best PPO stage, more than the best IDM variant", last.value - rival.value, interval=last.above(rival))


def _better(worth: Worth, rivals: list[Worth]) -> bool:
    """Whether the 95 % interval of the difference to each rival, in the same worlds, lies above zero."""
    return all(worth.above(rival)[0] > 0.0 for rival in rivals)


def _judge(config: PoliciesConfig) -> int:
    unknown = set(config.kinds) - {*MAPS, ALL}
    if unknown:
        raise InputError(f"kinds: {sorted(unknown)[0]!r}, expected some of {', '.join(MAPS)}, {ALL}")
    policies = graded(_folder(config))
    worths: list[Worth] = []
    for kind in config.kinds:
        where = ground(kind, config.maps, config.episodes)
        for name, policy in policies.items():
            worths.append(true_value(name, policy, where))
            say(f"{kind:12s} {_line(worths[-1])}")
        # After each kind: all of them take more than ten minutes.
        write_values(_folder(config) / "values.json", worths, _command(config), config.maps)
    merge = {worth.policy: worth for worth in worths if worth.maps == "merge"}
    rows = Rows(3, _command(config), config.results)
    rows.write("policies with a stored true value", float(len(policies)), "16", len(policies) >= 16)
    series = [merge[name] for name in sorted(merge) if name.startswith("ppo_merge") and not name.endswith("greedy")]
    if series:
        clear = sum(b.above(a)[0] > 0.0 for a, b in pairwise(series)) + 1
        rows.write("PPO stages clearly ordered in true return", float(clear), "4", clear >= 4, n=series[0].episodes)
    return 0


def write_values(path: Path, worths: Iterable[Worth], command: str, maps: int) -> Path:
    """Path of the true values, after they are written."""
    values = {
        "command": command,
        "commit": commit(),
        "hardware": hardware(),
        "held_out_seed": HELD_OUT,
        "maps": maps,
        "values": [asdict(worth) for worth in worths],
    }
    return write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def read_values(path: Path = CHECKPOINTS / "values.json") -> list[Worth]:
    """The stored true values."""
    return [Worth(**{**row, "means": tuple(row["means"])}) for row in json.loads(path.read_text())["values"]]


def _folder(config: PoliciesConfig) -> Path:
    return Path(config.folder) if config.folder else CHECKPOINTS


def _line(worth: Worth) -> str:
    ends = ", ".join(f"{getattr(worth, name):.1%} {name}" for name in ("contact", "lost", "red"))
    return f"{worth.policy:28s} {worth.value:7.3f} +- {worth.standard_error:.3f}  progress {worth.progress:.2f}  {ends}"


def _command(config: PoliciesConfig) -> str:
    """The command line that says the same."""
    plain, parts = PoliciesConfig(), []
    for name, value in asdict(config).items():
        if name not in ("folder", "results", "ppo") and value != getattr(plain, name):
            parts.append(f"{name}={_said(value)}")
    parts += [f"ppo.{n}={_said(v)}" for n, v in asdict(config.ppo).items() if v != getattr(plain.ppo, n)]
    return " ".join(["wmplan policies", *parts])


def _said(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, (tuple, list)) else str(value)
