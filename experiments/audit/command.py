"""`wmplan audit`: pools, scores, truth, each by its own processes; then everything is joined and judged.

Exit status: 0 done, 3 done and some scenes could not be audited (listed), 1 an input that cannot be used. A run that
was stopped goes on from its scenes' files; weights and intervals can be changed without imagining anything again.
"""

from __future__ import annotations

from pathlib import Path

from experiments.audit.joined import Joined, join
from experiments.audit.prepared import Audit, prepare
from experiments.audit.settings import AuditCommand
from experiments.audit.shards import POOLS, SCORES, TRUTH, shard
from experiments.processes import WorkersBroken, run_tasks
from experiments.progress import say, track
from wmplan.errors import InputError

FAILED_STATUS = 3
STEPS = ((POOLS, "pooling", False), (SCORES, "scoring", True), (TRUTH, "telling", False))
"""Folder, function of `experiments.audit.steps`, whether its processes are kept from everything sealed."""


def run(config: AuditCommand) -> int:
    """Audit, show the figures, write the results; the exit status."""
    audit = prepare(config)
    say(f"audit {audit.digest}: {len(audit.scene_ids)} scenes x {config.candidates} candidates -> {audit.run}")
    joined = measure(audit)
    return FAILED_STATUS if joined.skipped else 0


def measure(audit: Audit) -> Joined:
    """Every step for every scene that has not been through it; everything joined.

    Raises:
        InputError: processes that cannot start, or fewer than two scenes left.
    """
    failed: dict[str, str] = {}
    for folder, function, sealed in STEPS:
        scenes = [scene for scene in audit.scene_ids if scene not in failed]
        missing = [scene for scene in scenes if not shard(audit.run, folder, scene).is_file()]
        closed: tuple[Path, ...] = (audit.store, audit.run) if sealed else ()
        try:
            outcomes = run_tasks(f"experiments.audit.steps:{function}", audit, missing, audit.config.workers, closed)
            for done in track(outcomes, folder, len(scenes), len(scenes) - len(missing)):
                if done.error:
                    failed[done.task] = f"{folder}: {done.error}"
                    say(f"scene {done.task}: {failed[done.task]}")
        except WorkersBroken as error:
            raise InputError(f"audit: the processes of {folder} cannot start: {error}") from error
    return join(audit, failed)
