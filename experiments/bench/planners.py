"""`wmplan bench planners`: our planners beside their peers, at equal imagined steps and at equal time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from experiments.bench.planner_race import TIMED, Found, Quality, Row, found_from
from experiments.bench.rows import Rows
from experiments.measure import measured
from experiments.results import FOLDER
from wmplan.errors import InputError

NOT_HERE = (
    ("hydrax (vincekurtz)", "the package of this name on the index is another project"),
    ("jax_mppi", "not on the package index"),
    ("mbrl-lib", "0.2.0 needs hydra-core 1.0.3, which excludes the one that wmplan uses"),
    ("pytorch_cem", "not on the package index"),
)
"""Peers of the survey that no command installs beside this project, and why."""
GOALS = (8.8, 17.7, 9.0)
"""Mean referee cost from starts A, B and C that the issue on optimizers asks for at 1,024 candidates."""
EQUAL_MS = (5.0, 50.0)
"""CPU ms a plan at which quality is compared."""


@dataclass(frozen=True)
class PlannersBench:
    """What to measure."""

    what: Literal["all", "time"] = "all"
    """`time` leaves quality out, and its rows as they are."""
    seeds: int = 40
    """Plans from each start for the mean cost."""
    processes: int = 2
    """Processes in which time is measured; the fastest counts, because where arrays happen to lie in memory stays the
    same throughout a process and can cost a third."""
    rounds: int = 8
    """Turns of each planner in a process where time is measured; the best counts."""
    sizes: tuple[int, ...] = field(default=(128, 1024, 4096))
    """Candidates a round for which quality is measured; 128 and 1024 have goals and must be among them."""
    core: int = 1
    """The core that everything runs on."""
    lattice: bool = True
    """Whether the lattice runs as well, beside frenetix."""
    results: str = str(FOLDER)
    """Folder of the results."""
    picture: str = "docs/pictures/planners.png"
    """Where the plot of cost over time is written; empty = nowhere."""

    def __post_init__(self) -> None:
        counts = f"seeds={self.seeds}, rounds={self.rounds}, processes={self.processes}"
        if self.seeds < 2 or self.rounds < 1 or self.processes < 1:
            raise InputError(f"bench planners: {counts}, expected at least 2, 1 and 1")
        if not {128, TIMED} <= set(self.sizes) or min(self.sizes) < 64:
            raise InputError(
                f"bench planners: sizes={list(self.sizes)}, expected 128 and {TIMED} among them, none < 64"
            )


def run(config: PlannersBench) -> int:
    """Measure in a process of its own, show the table, record; the exit status."""
    found = _race(config, config.sizes if config.what == "all" else ())
    for _ in range(config.processes - 1):
        found = fastest(found, _race(config, ()))
    show(found)
    write(Rows(5, "wmplan bench planners", config.results), found, config.seeds)
    if config.picture and config.what == "all":
        draw(found, Path(config.picture))
    if config.lattice:
        from experiments.bench.lattice import LatticeBench
        from experiments.bench.lattice import run as run_lattice

        return run_lattice(LatticeBench(core=config.core, results=config.results))
    return 0


def fastest(found: Found, other: Found) -> Found:
    """What was found, with the shorter times of both."""
    again = {row.name: row for row in other.rows}
    rows = (
        replace(row, cpu_ms=min(row.cpu_ms, again[row.name].cpu_ms), first_s=min(row.first_s, again[row.name].first_s))
        for row in found.rows
    )
    mine, theirs = found.batch, other.batch
    batch = replace(
        mine,
        together_ms=min(mine.together_ms, theirs.together_ms),
        alone_ms=min(mine.alone_ms, theirs.alone_ms),
    )
    return replace(found, rows=tuple(rows), batch=batch)


def _race(config: PlannersBench, sizes: tuple[int, ...]) -> Found:
    words = [str(value) for value in (config.core, config.seeds, config.rounds, *sizes)]
    done = measured(["-m", "experiments.bench.planner_race", *words])
    if done.status != 0:
        raise InputError(f"bench planners: the measurement ended with status {done.status}")
    return found_from(done.output.splitlines()[-1])


def show(found: Found) -> None:
    """The table in the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{TIMED} candidates a round; cost of the plan from A / B / C by the referee")
    for name in (
        "planner",
        "CPU ms",
        "first call s",
        f"cost, {TIMED}",
        "cost, 128",
        *(f"<= {t:g} ms" for t in EQUAL_MS),
    ):
        table.add_column(name, justify="left" if name == "planner" else "right")
    for family in ("CEM", "MPPI"):
        for row in sorted((row for row in found.rows if row.family == family), key=lambda row: row.cpu_ms):
            style = "bold" if row.library == "wmplan" else None
            equal = (_costs(within(row, limit)) for limit in EQUAL_MS)
            cells = (*(_costs(at(row, n) if row.quality else None) for n in (TIMED, 128)), *equal)
            table.add_row(f"{row.name} ({row.note})", f"{row.cpu_ms:.2f}", f"{row.first_s:.1f}", *cells, style=style)
        table.add_section()
    for name, why in (*found.absent, *NOT_HERE):
        table.add_row(f"{name}: not installable here, {why}", style="dim")
    Console(width=170).print(table)


def write(rows: Rows, found: Found, seeds: int) -> None:
    """Record what was measured, with the goals of the issue on optimizers."""
    named = {row.name: row for row in found.rows}
    for row in found.rows:
        rows.write(f"{row.name}, {TIMED} candidates a round, CPU ms a plan", row.cpu_ms)
        rows.write(f"{row.name}, first call, s", row.first_s)
        if row.quality:
            rows.write(
                f"{row.name}, {TIMED} candidates a round, mean referee cost A / B / C", _costs(at(row, TIMED)), n=seeds
            )
    pairs = (
        ("CEM, iCEM's form", "wmplan CEM", "plain JAX iCEM"),
        ("CEM, plain setting", "wmplan CEM, plain setting", "plain JAX CEM"),
        ("MPPI, plain setting", "wmplan MPPI, plain setting", "plain JAX MPPI"),
    )
    for what, own, plain in pairs:
        ratio = named[own].cpu_ms / named[plain].cpu_ms
        rows.write(f"{what}: time over that of the minimal JAX program", ratio, "at most 1.15", ratio <= 1.15)
    for family, own in (("CEM", "wmplan CEM"), ("MPPI", "wmplan MPPI, plain setting")):
        for library, goal in (("torch", 4.0), ("JAX", 1.2)):
            peers = [r for r in found.rows if (r.family, r.library) == (family, library) and "plain JAX" not in r.name]
            figure = f"{family}: times faster than the fastest {library} peer"
            if not peers:
                rows.write(figure, "none can be installed here", f"at least {goal:g}")
                continue
            fastest = min(peers, key=lambda row: row.cpu_ms)
            ratio = fastest.cpu_ms / named[own].cpu_ms
            rows.write(f"{figure} ({fastest.name})", ratio, f"at least {goal:g}", ratio >= goal)
    batch = found.batch
    gain = batch.alone_ms / batch.together_ms
    rows.write("64 scenes in one program, throughput over a loop of single scenes", gain, "at least 1", gain >= 1.0)
    growth = batch.memory_64 / batch.memory_8
    rows.write("64 scenes in one program, temporary memory over that of 8", growth, "1 (within 10 %)", growth <= 1.1)
    if named["wmplan CEM"].quality:
        _write_quality(rows, named, seeds)


def _write_quality(rows: Rows, named: dict[str, Row], seeds: int) -> None:
    full, small = at(named["wmplan CEM"], TIMED), at(named["wmplan CEM"], 128)
    reference = at(named["plain JAX CEM"], TIMED)
    for i, start in enumerate("ABC"):
        interval = (full.cost[i] - 1.96 * full.error[i], full.cost[i] + 1.96 * full.error[i])
        met = full.cost[i] <= GOALS[i]
        rows.write(f"CEM, mean cost from {start}, {TIMED}", full.cost[i], f"at most {GOALS[i]}", met, interval, seeds)
        less = small.cost[i] / reference.cost[i]
        figure = f"CEM with 128 a round, mean cost from {start} over plain CEM's with {TIMED}"
        rows.write(figure, less, "below 1", less < 1.0, n=seeds)


def at(row: Row, candidates: int) -> Quality:
    """A row's quality at this size.

    Raises:
        StopIteration: if it was not measured.
    """
    return next(part for part in row.quality if part.candidates == candidates)


def within(row: Row, cpu_ms: float) -> Quality | None:
    """A row's quality at the largest size whose plan takes at most so long; None where none does."""
    fits = [part for part in row.quality if part.cpu_ms <= cpu_ms]
    return max(fits, key=lambda part: part.candidates) if fits else None


def draw(found: Found, path: Path) -> None:
    """The plot: mean cost over the three starts against CPU time, a line a planner, a point a size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for panel, family in zip(axes, ("CEM", "MPPI"), strict=True):
        for row in (row for row in found.rows if row.family == family):
            points = sorted(row.quality, key=lambda quality: quality.candidates)
            style = {"wmplan": ("-", 2.2), "JAX": ("--", 1.3), "torch": (":", 1.3)}[row.library]
            cost = [sum(point.cost) / len(point.cost) for point in points]
            time = [point.cpu_ms for point in points]
            panel.plot(time, cost, style[0], linewidth=style[1], marker="o", markersize=3, label=row.name)
        steps = "5 rounds" if family == "CEM" else "5 calls in a row"
        panel.set(title=f"{family}, {steps}", xlabel="CPU ms", xscale="log", yscale="log")
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize=6, loc="upper right", ncols=2)
    axes[0].set_ylim(6.0, 60.0)
    axes[0].set_ylabel("mean referee cost of the plan, starts A, B, C")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _costs(quality: Quality | None) -> str:
    return "-" if quality is None else " / ".join(f"{cost:.1f}" for cost in quality.cost)
