"""The command line: `wmplan <command> key=value ...`.

Exit status: 0 done, 1 an input that cannot be used, 2 a command line that cannot be understood, 3 done with failures
that are listed, 130 interrupted. Messages for the user are one line each; a traceback is a bug.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import MISSING

from experiments.configs import Command, UsageError, compose, group_options, nearest
from experiments.fields import Field, fields_of, kind_name

COMMANDS = {
    command.name: command
    for command in (
        Command(
            "ingest",
            "experiments.ingest:IngestCommand",
            "experiments.ingest:run",
            "driving logs of any known format into a store of scenes, the futures sealed apart",
            positional="source",
        ),
        Command(
            "simulate",
            "experiments.simulate:SimulateCommand",
            "experiments.simulate:run",
            "simulated drives into a store of scenes, the propensities of every decision recorded",
        ),
        Command(
            "train",
            "experiments.train:TrainConfig",
            "experiments.fitting:run_train",
            "train the occupancy world model on a store: tokenizer, dynamics, on-policy steps, critics' fitted parts",
        ),
        Command(
            "validate",
            "experiments.validate.settings:ValidateCommand",
            "experiments.validate.command:run",
            "what a world model knows: layers L1 to L4 beside its baselines and the truth read the same way",
        ),
        Command(
            "study",
            "experiments.study:StudyConfig",
            "experiments.study:run",
            "rank candidates of every optimizer on every scene, then hold the ranking against what really happened",
            groups=(("logs", "format", "experiments.logs:FORMATS"),),
        ),
        Command(
            "audit",
            "experiments.audit.settings:AuditCommand",
            "experiments.audit.command:run",
            "do the critics order a scene's candidates as they truly come out, and know when they are wrong",
            groups=(("logs", "format", "experiments.logs:FORMATS"),),
        ),
        Command(
            "fit",
            "experiments.fitting:FitCommand",
            "experiments.fitting:run",
            "fit the critics that learn from logs beside a trained model again",
        ),
        Command(
            "report",
            "experiments.study:ReportConfig",
            "experiments.study:run_report",
            "write the HTML report of a finished study again",
            positional="run",
        ),
        Command(
            "mlflow sync",
            "experiments.mlflow_sync:SyncConfig",
            "experiments.mlflow_sync:run",
            "bring finished runs that are not in MLflow yet there: studies, ope, audits, trainings",
            positional="folder",
        ),
        Command(
            "ope",
            "experiments.ope.settings:OpeCommand",
            "experiments.ope.command:run",
            "which policy is better, how sure that is, where the answer must not be believed: against real outcomes",
        ),
        Command(
            "policies",
            "experiments.policies:PoliciesConfig",
            "experiments.policies:run",
            "policies of graded skill on the simulator: train PPO in stages, find out what each is truly worth",
        ),
        Command(
            "cache info",
            "experiments.cache:CacheInfoConfig",
            "experiments.cache:run_info",
            "what the rollout cache holds",
        ),
        Command(
            "cache verify",
            "experiments.cache:CacheVerifyConfig",
            "experiments.cache:run_verify",
            "read the rollout cache through: every checksum",
        ),
        Command(
            "cache prune",
            "experiments.cache:CachePruneConfig",
            "experiments.cache:run_prune",
            "make the rollout cache smaller, oldest first",
        ),
        Command(
            "bench cache",
            "experiments.bench.cache:CacheBench",
            "experiments.bench.cache:run",
            "measure shared prefixes, the second run of a study, races, and what the cache survives",
        ),
        Command(
            "bench study",
            "experiments.bench.study:StudyBench",
            "experiments.bench.study:run",
            "measure the embedded default: time and memory",
        ),
        Command(
            "bench logs",
            "experiments.bench.logs:LogsBench",
            "experiments.bench.logs:run",
            "measure a study of given logs, twice: time, memory, the cache's saving, equal bytes",
        ),
        Command(
            "bench ingest",
            "experiments.bench.ingest:IngestBench",
            "experiments.bench.ingest:run",
            "measure an ingest and one ten times larger: time and memory must scale",
        ),
        Command(
            "bench forecast",
            "experiments.bench.forecast:ForecastBench",
            "experiments.bench.forecast:run",
            "measure a model's forecast against constant velocity and persistence",
        ),
        Command(
            "bench diffusion",
            "experiments.bench.diffusion:DiffusionBench",
            "experiments.bench.diffusion:run",
            "measure what denoising steps and guidance do to a dit model's forecast, diversity and cost",
        ),
        Command(
            "bench planners",
            "experiments.bench.planners:PlannersBench",
            "experiments.bench.planners:run",
            "measure our planners beside their peers: time, quality at equal steps and equal time",
        ),
        Command(
            "bench lattice",
            "experiments.bench.lattice:LatticeBench",
            "experiments.bench.lattice:run",
            "measure 1,024 candidates of the lattice beside frenetix (C++)",
        ),
        Command(
            "bench imagination",
            "experiments.bench.imagination:ImaginationBench",
            "experiments.bench.imagination:run",
            "measure how long a model imagines and ranks, and the share of its matrix products",
        ),
        Command(
            "bench intervals",
            "experiments.bench.ope_intervals:IntervalsBench",
            "experiments.bench.ope_intervals:bench",
            "measure how often nominal 95 % intervals hold, on laws whose truth is known",
        ),
        Command(
            "bench ray",
            "experiments.bench.ray_workers:RayBench",
            "experiments.bench.ray_workers:run",
            "measure an OPE run on a Ray cluster with 1, 2 and 4 workers: time, equal bytes",
        ),
        Command(
            "bench road",
            "experiments.bench.road:RoadBench",
            "experiments.bench.road:run",
            "measure the simulator beside highway-env: speed, growth, outcomes, logs",
        ),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # see wmplan.threads
    try:
        return _dispatch(words)
    except UsageError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on where this one stopped", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except ValueError as error:
        from wmplan.errors import InputError

        if not isinstance(error, InputError):
            raise
        return _complain(" ".join(str(error).split()), 1)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        import wmplan

        print(f"wmplan {wmplan.__version__}")
        return 0
    if len(words) > 1 and f"{words[0]} {words[1]}" in COMMANDS:
        words = [f"{words[0]} {words[1]}", *words[2:]]
    if words[0] not in COMMANDS:
        family = [name for name in COMMANDS if name.split()[0] == words[0]]
        if family:
            raise UsageError(f"wmplan {words[0]}: expected one of {', '.join(name.split()[1] for name in family)}")
        raise UsageError(f"wmplan: there is no command {words[0]!r}, did you mean {nearest(words[0], list(COMMANDS))}?")
    command = COMMANDS[words[0]]
    if any(word in ("-h", "--help") for word in words[1:]):
        print(explain(command))
        return 0
    config = compose(command, words[1:])
    return int(command.function()(config) or 0)


def overview() -> str:
    """The help text of `wmplan`: one line a command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {command.name:{width}s}  {command.doc}" for command in COMMANDS.values()]
    return "\n".join(
        [
            "wmplan <command> key=value ...",
            "",
            "Rank what a car could do next by imagining it, and test the ranking against what really happened.",
            "Offline research only: nothing here certifies a vehicle.",
            "",
            *lines,
            "",
            "wmplan <command> --help explains every field.",
        ]
    )


def explain(command: Command) -> str:
    """The help text of a command: every field with its type, default and meaning."""
    lines = [f"wmplan {command.name} key=value ...", "", f"{command.doc[0].upper()}{command.doc[1:]}.", ""]
    for group, field, _ in command.groups:
        lines += [f"{group}=<name> chooses {group}.{field}: {', '.join(group_options(command, group))}", ""]
    for item in fields_of(command.config_class()):
        lines += [_signature(item), *_wrapped(item.doc)]
    return "\n".join(lines)


def _signature(item: Field) -> str:
    if item.default is MISSING:
        return f"  {item.path}  ({kind_name(item.kind)}, needed)"
    return f"  {item.path}={_written(item.default)}  ({kind_name(item.kind)})"


def _written(value: object) -> str:
    """A default as one would write it on the command line."""
    if isinstance(value, (tuple, list)):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value) or '""'


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 112, initial_indent="      ", subsequent_indent="      ")


def _complain(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
