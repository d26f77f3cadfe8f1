"""`wmplan validate`: fits what is fitted on training scenes, measures every scene in processes, says what was cleared.

Exit status: 0 done, 3 done and some scenes could not be measured (listed), 1 an input that cannot be used. A run that
was stopped goes on where it was: each task's rows are kept in the folder until the results are written.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from experiments import assembly
from experiments.files import write_atomically
from experiments.processes import run_tasks
from experiments.progress import say, track
from experiments.validate.contenders import HORIZON_S, name_of
from experiments.validate.figures import record_figures
from experiments.validate.instrument import ACCURACY, REACTION, Result, layer_of, summaries
from experiments.validate.measuring import BANK_STEP, FitRows, SceneRows, Work
from experiments.validate.record import record
from experiments.validate.scenes import FIT, LEAST_SCENES, LONG, MEASURE, Scenes, beside, of_source, of_store, to_fit_on
from experiments.validate.settings import Settings, ValidateCommand
from experiments.validate.tables import show
from experiments.validate.verdict import Verdict, verdict_of, write_json
from wmplan.errors import InputError
from wmplan.models.checkpoint import CARD
from wmplan.validation.calibration import fit_temperature
from wmplan.validation.controllability import Sweep
from wmplan.validation.memorisation import Bank

FAILED_STATUS = 3
PARTS = "parts"
LEAST_RANGE_MPS2 = 0.5


@dataclass(frozen=True)
class Validation:
    """Everything that was measured: rows by part and model over the same scenes, figures, what was cleared."""

    verdict: Verdict
    results: list[Result]
    rows: dict[str, dict[str, list[Any]]]


def run(config: ValidateCommand) -> int:
    """Measure, show the tables, write the results; the exit status."""
    done = validate(config)
    show(done.results, done.verdict)
    if config.page:
        from experiments.validate.page import write_page

        print(f"page: {write_page(done.verdict, done.results, done.rows)}")
    print(f"results: {done.verdict.out / 'validation.json'}")
    if config.results:
        of, data = done.verdict.model, done.verdict.data
        source = f"store={data}" if config.store else f"source={config.source}"
        command = f"wmplan validate model={config.model} {source} layers=[{','.join(config.layers)}]"
        command += f" long_scenes={config.long_scenes}" if config.long_scenes else ""
        record_figures(done.results, of, done.verdict.scenes, data, command, config.results)
    return FAILED_STATUS if done.verdict.refused else 0


def validate(config: ValidateCommand) -> Validation:
    """Measure and write `validation.json`.

    Raises:
        InputError: no such model, too few scenes, or a process that cannot start.
    """
    config.check()
    spec = assembly.model_spec(config.model)
    model = assembly.build_model(spec, HORIZON_S)
    seen = assembly.trained_groups(spec)
    if config.record and not (Path(spec) / CARD).is_file():
        raise InputError(f"validate: record is true, {config.model} has no checkpoint to write it beside")
    if config.store:
        scenes = of_store(Path(config.store), config.split, config.scenes, seen)
        fit, fit_source = to_fit_on(Path(config.store), config.fit_scenes), ""
    else:
        scenes = of_source(config.source, config.stride_s, seen)
        fit, fit_source = beside(config.source, config.fit_scenes, config.stride_s)
    digest = config.digest(model.digest, scenes.digest)
    out = Path(config.out or f"runs/validate-{digest}").resolve()
    parts = _claim(out, digest)
    where = (config.store, "" if config.store else config.source)
    sources = ((MEASURE, *where), (LONG, *where), (FIT, config.store, fit_source))
    settings = Settings(config, spec)
    fitted: list[FitRows] = _done(Work(settings, (fit,), sources), fit, parts, "fit")
    settings = replace(settings, temperatures=_temperatures(fitted), sweep=_sweep(fitted), bank=_bank(fitted))
    found: list[SceneRows] = _done(Work(settings, (scenes,), sources), scenes, parts, "validate")
    extra: list[SceneRows] = []
    if config.long_scenes:
        long = replace(scenes, purpose=LONG, items=scenes.items[: config.long_scenes])
        extra = _done(Work(settings, (long,), sources), long, parts, "long run")
    rows = _rows([*found, *extra])
    measured = sum(bool(one.rows) or one.causal is not None for one in found)
    if measured < LEAST_SCENES:
        first = next((reason for one in found for reason in one.refused.values()), "none gave a reason")
        raise InputError(
            f"{scenes.words}: {measured} of {len(found)} scenes could be measured, expected at least {LEAST_SCENES} "
            f"(first: {first})"
        )
    name = name_of(spec)
    results = summaries(rows, name, dict(settings.temperatures), settings.bank, config.seed)
    verdict = verdict_of(out, config, spec, model.digest, scenes, settings, found, results)
    write_json(verdict, results)
    if config.record:
        record(Path(spec), verdict.summary())
    shutil.rmtree(parts.parent)
    return Validation(verdict, results, rows)


def _done(work: Work, scenes: Scenes, parts: Path, title: str) -> list[Any]:
    """The rows of all tasks, in the order of the tasks; those that an earlier run did are read."""
    waiting = [task for task in scenes.tasks if not _path(parts, task).is_file()]
    outcomes = run_tasks("experiments.validate.measuring:measuring", work, waiting, work.settings.command.workers)
    for one in track(outcomes, title, len(scenes.tasks), done=len(scenes.tasks) - len(waiting)):
        if one.error:
            raise InputError(f"validate: {one.task}: {one.error}")
        content = pickle.dumps(one.result)
        write_atomically(_path(parts, one.task), lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    return [row for task in scenes.tasks for row in pickle.loads(_path(parts, task).read_bytes())]


def _path(parts: Path, task: str) -> Path:
    return parts / f"{task.replace('/', '-')}.rows"


def _claim(out: Path, digest: str) -> Path:
    """The folder of the rows of tasks; what another validation left there is thrown away."""
    parts = out / PARTS / digest
    for other in (out / PARTS).glob("*"):
        if other != parts:
            shutil.rmtree(other)
    parts.mkdir(parents=True, exist_ok=True)
    if any(parts.iterdir()):
        say(f"validate: going on in {out}")
    return parts


def _temperatures(fitted: Sequence[FitRows]) -> tuple[tuple[str, float], ...]:
    names = {name for row in fitted for name in row.calibration}
    return tuple((name, fit_temperature([row.calibration[name] for row in fitted])) for name in sorted(names))


def _bank(fitted: Sequence[FitRows]) -> Bank | None:
    frames = [row.frame for row in fitted if row.frame is not None]
    return Bank(cKDTree(np.stack(frames)), BANK_STEP) if frames else None


def _sweep(fitted: Sequence[FitRows]) -> Sweep:
    """The range of commands in training, from its 5th to its 95th percentile.

    Raises:
        InputError: egos that hardly ever accelerate.
    """
    values = np.concatenate([row.commands for row in fitted]) if fitted else np.zeros(0)
    low, high = np.percentile(values, [5.0, 95.0]) if len(values) else (0.0, 0.0)
    if not high - low > LEAST_RANGE_MPS2:
        raise InputError(
            f"validate: the training scenes' accelerations span {low:.2f} to {high:.2f} m/s2, "
            f"expected more than {LEAST_RANGE_MPS2} m/s2 to sweep"
        )
    return Sweep(float(low), float(high))


def _rows(found: Sequence[SceneRows]) -> dict[str, dict[str, list[Any]]]:
    """Rows by part, then by model, scenes in order."""
    rows: dict[str, dict[str, list[Any]]] = {}
    for part, name, row in _each(found):
        rows.setdefault(part, {}).setdefault(name, []).append(row)
    order = {part: i for i, part in enumerate((ACCURACY, REACTION))}
    return dict(sorted(rows.items(), key=lambda item: (layer_of(item[0]), order.get(item[0], len(order)))))


def _each(found: Sequence[SceneRows]) -> Iterator[tuple[str, str, Any]]:
    for one in found:
        for part, by_model in one.rows.items():
            for name, row in by_model.items():
                yield part, name, row
