"""The steps of a run, over processes: estimates, then truth, then what logs alone say; each scene is done once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.ope import entrants, shards
from experiments.ope.preparing import Prepared
from experiments.processes import WorkersBroken, run_tasks
from experiments.progress import say, track
from wmplan.errors import InputError


def share_missing(run: Prepared) -> float:
    """The share of scenes whose estimates are still to be worked out."""
    scenes = [one.scene_id for one in run.settings.scenes]
    return 1.0 - len(shards.done(run.settings.out, shards.ESTIMATES, scenes)) / len(scenes)


def estimate(run: Prepared) -> dict[str, str]:
    """Every policy inside every world model; scenes that could not be done, and why. The processes cannot open the
    truth, this run's or the one that is taken."""
    sealed = tuple(dict.fromkeys(place / shards.TRUTH for place in (run.settings.out, run.truth_from)))
    return _carried(run, "estimating", shards.ESTIMATES, "estimates", sealed)


def find_truth(run: Prepared) -> dict[str, str]:
    """Every policy on the road; scenes that could not be done, and why. Nothing where another run's truth is taken."""
    if run.truth_from != run.settings.out:
        return shards.failures(run.truth_from, shards.ROAD)
    return _carried(run, "truing", shards.ROAD, "truth")


def weigh(run: Prepared) -> None:
    """What logs alone say of each policy of their rhythm."""
    if not any(shards.folder(run.truth_from, shards.DECISIONS).glob("*.parquet")):
        return
    names = [name for name in run.settings.policies if name in entrants.HELD]
    missing = [name for name in names if name not in shards.done(run.settings.out, shards.WEIGHED, names)]
    settings = (run.settings, run.truth_from)
    tasks = run_tasks("experiments.ope.weighing:weighing", settings, missing, run.settings.command.workers)
    for one in track(tasks, "logs alone", len(names), done=len(names) - len(missing)):
        if one.error:
            raise InputError(f"ope: policy {one.task}: {one.error}")


def _carried(run: Prepared, factory: str, part: str, title: str, sealed: Sequence[Path] = ()) -> dict[str, str]:
    settings = run.settings
    scenes = [one.scene_id for one in settings.scenes]
    there = set(shards.done(settings.out, part, scenes))
    missing = [scene for scene in scenes if scene not in there]
    failed = {scene: why for scene, why in shards.failures(settings.out, part).items() if scene in set(scenes)}
    command = settings.command
    try:
        tasks = run_tasks(
            f"experiments.ope.working:{factory}",
            settings,
            missing,
            command.workers,
            tuple(sealed),
            command.carried_out_by,
        )
        for one in track(tasks, title, len(scenes), done=len(there)):
            reason = one.error or one.result
            if reason:
                failed[one.task] = reason
                say(f"scene {one.task}: {reason}")
    except WorkersBroken as error:
        raise InputError(f"ope: the processes cannot start: {error}") from error
    return failed
