"""`wmplan audit`: pools, scores, truth, each by its own processes; then everything is joined and judged.

Exit status: 0 done, 3 done and some scenes could not be audited (listed), 1 an input that cannot be used. A run that
was stopped goes on from its scenes' files; weights and intervals can be changed without imagining anything again.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.audit.deciding import DECISIONS, deciding
from experiments.audit.figures import Figures, figures
from experiments.audit.joined import Joined, join
from experiments.audit.page import write_page, written
from experiments.audit.prepared import Audit, prepare
from experiments.audit.queue import REVIEW, pictures, queue
from experiments.audit.record import record, write
from experiments.audit.settings import AuditCommand
from experiments.audit.shards import POOLS, SCORES, TRUTH, shard
from experiments.ledger import write_frame
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
    found = figures(audit, joined)
    review = queue(joined)
    write_frame(audit.run / REVIEW, review)
    decided = deciding(joined, config.weights)
    if decided is not None:
        write_frame(audit.run / DECISIONS, decided.decisions)
    results = write(audit, joined, found)
    show(found)
    if config.record:
        record(audit, found, words(config))
    if config.page:
        print(f"page: {write_page(audit, joined, found, decided, review, list(pictures(audit, joined, review)))}")
    if config.mlflow:
        from experiments.audit.mlflow_pages import track as logged

        logged(audit.run, config)
    print(f"results: {results}")
    return FAILED_STATUS if joined.skipped else 0


def words(config: AuditCommand) -> str:
    """The command line that asks for this audit."""
    logs = config.logs
    source = f"logs.n={logs.n} logs.seed={logs.seed}"
    if logs.format != "simulator" or logs.path:
        source = f"logs={logs.format} logs.path={logs.path}" + (f" logs.split={logs.split}" if logs.split else "")
    rest = {"scenes": config.scenes, "drivers": config.drivers, "placebos": config.placebos, "seed": config.seed}
    plain = {"scenes": 0, "drivers": "logged", "placebos": True, "seed": 0}
    more = [f"{name}={str(value).lower()}" for name, value in rest.items() if value != plain[name]]
    return " ".join(["wmplan audit", source, f"model={config.model} candidates={config.candidates}", *more])


def show(found: Figures) -> None:
    """The figures with their goals."""
    console = Console(width=None if Console().is_terminal else 200)
    table = Table(header_style="bold")
    for name in ("figure", "value", "n", "goal", ""):
        table.add_column(name)
    states = {True: "[green]kept[/green]", False: "[red]MISSED[/red]", None: ""}
    for one in found.headlines:
        table.add_row(one.name, escape(written(one.value)), str(one.value.count), one.goal, states[one.met])
    console.print(table)


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
